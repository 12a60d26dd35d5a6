"""Contestants as resident processes: each keeps its model in memory and works when it is asked to, one at a time, so that
the others' waiting costs it nothing but their memory."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

WARM_UP_TURNS = 2


class Absent(Exception):
    """A contestant that cannot take part, and why."""


def environment(**more):
    """Of a measured program: OpenBLAS picks its kernels itself; waiting threads are left as each library wants them."""
    kept = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    return {**kept, **more}


def output(command, **more):
    """Runs a command to its end; its output. more: environment variables."""
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True)
    if done.returncode:
        raise Absent((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return done.stdout


# Open MPI refuses to start more ranks than there are cores, and to start as root, unless it is told to.
RANKS = {name: "1" for name in ("OMPI_MCA_rmaps_base_oversubscribe", "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")}


class Worker:
    def __init__(self, name, command, **more):
        self.name, self.errors = name, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, env=environment(**more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.description = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines()
            raise Absent(said[-1] if said else f"exit status {self.process.returncode}")
        return json.loads(line)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.read()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def start_peers(report, peers):
    for name, package, (script, *arguments) in peers:
        missing = [p for p in (package, "safetensors") if not importlib.util.find_spec(p)]
        if missing:
            report.say(f"{name}: skipped, there is no {missing[0]} in {sys.executable} (pip install {missing[0]}, or PYTHON=)\n")
            continue
        try:
            worker = Worker(name, [sys.executable, pathlib.Path(__file__).resolve().parent / "peers" / script, *arguments])
            worker.ask("step 1")  # which may compile
            yield worker
        except Absent as problem:
            report.say(f"{name}: skipped, {problem}\n")


def take_turns(workers, options, steps, each_round=None):
    """worker -> its answers of each round. Who comes first changes."""
    answers = {w: [] for w in workers}
    for turn in range(-WARM_UP_TURNS, options.rounds):
        first = turn % len(workers)
        for w in workers[first:] + workers[:first]:
            answer = w.ask(f"step {steps}")
            if turn >= 0:
                answers[w].append(answer)
        if turn >= 0 and each_round:
            each_round()
    return answers


def seconds_of(answers):
    return [a["seconds"] for a in answers]
