"""What the peers share: a case that `build/bench/train --export FOLDER` wrote, and how a worker is driven.

    case.json             the configuration, the learning rate of each step, tokens per step
    model.safetensors     the initial weights, by shard.c's names; matrices are (in, out)
    tokens.safetensors    tokens, targets (steps, global batch, window) int32

A peer that is given a number of steps trains that many and prints what it did. Without one it serves, as
build/bench/train does: each line on its standard input asks for some work, each answer is a line of JSON.
"""
import argparse
import json
import os
import pathlib
import sys
import time

# GNU libc gives large blocks back to the system when they are freed and asks for them again, page by page, in the next
# step: a fifth of an eager PyTorch step on minigpt. It reads this when a program starts, and other systems ignore it.
KEEP_MEMORY = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1000000000000:glibc.malloc.hugetlb=1"


def keep_memory():
    """Starts this program once more where GNU libc has not been told so; what the user has set stays."""
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = KEEP_MEMORY
        os.execv(sys.executable, [sys.executable, *sys.argv])


def arguments(about):
    keep_memory()
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("folder", type=pathlib.Path, help="a case, written by build/bench/train --export")
    parser.add_argument("--steps", type=int, help="train so many and leave; otherwise requests come on standard input")
    parser.add_argument("--micro-batch-size", type=int, help="rows at once; by default the whole batch of a step")
    return parser


class Case:
    def __init__(self, folder):
        from safetensors.numpy import load_file

        self.config = json.loads((folder / "case.json").read_text())
        self.rates = self.config["learning_rates"]
        self.weights = load_file(folder / "model.safetensors")
        self.tokens, self.targets = (load_file(folder / "tokens.safetensors")[k] for k in ("tokens", "targets"))


def reset_peak():
    """Linux: forget the peak of the resident memory, so that it tells of training and not of starting."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_rss():
    """Bytes, or None where there is no /proc."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


class Worker:
    """Serves requests with step(index), which takes one training step and returns its loss: a number, or something
    that float() waits for, so that a library which runs ahead of Python may do so within a request."""

    def __init__(self, case, step, describe):
        self.case, self.step, self.describe, self.done = case, step, describe, 0

    def run(self, count):
        began, loss = time.perf_counter(), None
        for _ in range(count):
            if self.done == len(self.case.rates):
                sys.exit(f"the case has tokens for {self.done} steps only: export it with more --export-steps")
            loss = self.step(self.done)
            self.done += 1
        loss = float(loss)
        seconds = time.perf_counter() - began
        if self.done == count:  # the first request compiled
            reset_peak()
        return {"seconds": seconds, "loss": loss}

    def answer(self, reply):
        print(json.dumps(reply), flush=True)

    def serve(self):
        self.answer(self.describe)
        for line in sys.stdin:
            request = line.split()
            if request[0] == "step":
                self.answer(self.run(int(request[1])))
            elif request[0] == "memory":
                self.answer({"rss": peak_rss()})
            else:
                sys.exit(f"not a request: {line}")

    def train(self, steps):
        print(f"{self.describe['name']}, {self.describe['threads']} threads")
        for _ in range(steps):
            reply = self.run(1)
            rate = self.case.config["tokens_per_step"] / reply["seconds"]
            print(f"step {self.done:4d}  loss {reply['loss']:.6f}  {1e3 * reply['seconds']:8.1f} ms  {rate:9.0f} tokens/s")
        if rss := peak_rss():
            print(f"peak memory after the first step {rss * 1e-6:.0f} MB")

    def main(self, steps):
        self.train(steps) if steps else self.serve()
