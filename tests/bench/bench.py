"""`make bench`: how fast this code is, against the machine and against JAX and PyTorch. See README.md in this folder.

    python3 tests/bench/bench.py [kernels] [step] [train] [devices] [sharded] [--cases tiny minigpt] [--rounds 7] [--results F]

All that is compared takes turns, round after round; tables show medians over the rounds, and ratios are taken within a
round. Needs nothing but Python; the peers run in the same Python and are left out where their package is absent.
"""
import argparse
import json
import pathlib
import platform
import statistics
import tempfile
import time

from report import Report, megabytes, spread
from sharded import sharded
from workers import RANKS, WARM_UP_TURNS, Worker, output, seconds_of, start_peers, take_turns

HERE = pathlib.Path(__file__).resolve().parent

# name -> flags of the step, the steps of a turn, what the table says of it
CASES = {
    "tiny": (["--preset", "tiny"], 5, "C 128, L 4, T 256, V 1024; a step is 8 windows"),
    "minigpt": (
        ["--preset", "minigpt", "--micro-batch-size", "8", "--global-batch-size", "8"],
        2,
        "C 256, L 4, T 256, V 50257; a step is 8 windows",
    ),
    "gpt2": (
        ["--preset", "gpt2", "--max-seq-length", "256", "--micro-batch-size", "4", "--global-batch-size", "4"],
        1,
        "GPT-2 124M with T 256; a step is 4 windows",
    ),
}
DEVICES_CASE = ["--preset", "tiny", "--global-batch-size", "32", "--micro-batch-size", "4"]
DEVICES, DEVICES_STEPS = (1, 2, 8), 2


# ---- the parts ----


def kernels(report, options, name):
    flags, _, about = CASES[name]
    lines = output([options.build / "bench/kernels", *flags, "--rounds", str(options.rounds)]).splitlines()
    cases = [json.loads(line) for line in lines]
    report.say(f"### Kernels of a {name} step ({about})\n")
    streaming, products = [], []
    for c in cases:
        share = [100 * floor / own for floor, own in zip(c["floor"], c["seconds"])]
        if c["bytes"]:
            rate, floor = ([1e-9 * c["bytes"] / s for s in c[key]] for key in ("seconds", "floor"))
            streaming.append([c["name"], c["shape"], f"{1e-6 * c['bytes']:.1f}", spread(rate), spread(floor), spread(share)])
        else:
            rate, floor = ([1e-9 * c["flops"] / s for s in c[key]] for key in ("seconds", "floor"))
            calls = str(c["calls"]) if c["calls"] else "-"
            products.append([c["name"], c["shape"], calls, spread(rate), spread(floor), spread(share)])
    report.table(["kernel", "shape", "MB moved", "GB/s", "copy GB/s", "% of copy"], streaming)
    report.table(["product", "M x N x K", "calls", "GFLOP/s", "SGEMM GFLOP/s", "% of SGEMM"], products)


def ours(options, name):
    return Worker("shard.c", [options.build / "bench/train", *CASES[name][0]])


def step(report, options, name):
    """The step against its own matrix products."""
    _, steps, about = CASES[name]
    worker = ours(options, name)
    for _ in range(WARM_UP_TURNS):
        worker.ask(f"step {steps}")
    step_ms, product_ms, share = [], [], []
    for _ in range(options.rounds):
        step_ms.append(1e3 * worker.ask(f"step {steps}")["seconds"] / steps)
        product_ms.append(1e3 * worker.ask(f"products {steps}")["seconds"] / steps)
        share.append(100 * product_ms[-1] / step_ms[-1])
    worker.end()
    return [name, spread(step_ms, "{:.1f}"), spread(product_ms, "{:.1f}"), spread(share)]


def peers_of_training(folder):
    return [
        ("JAX, jit", "jax", ["jax_train.py", folder]),
        ("PyTorch, eager", "torch", ["torch_train.py", folder]),
        ("PyTorch, compiled", "torch", ["torch_train.py", folder, "--compile"]),
    ]


def train(report, options, name):
    """Ours and the peers, training the same model on the same tokens from the same weights."""
    flags, steps, about = CASES[name]
    total = 1 + steps * (WARM_UP_TURNS + options.rounds)
    report.say(f"### Training {name} ({about})\n")
    with tempfile.TemporaryDirectory() as folder:
        output([options.build / "bench/train", *flags, "--export", folder, "--export-steps", str(total)])
        shard = ours(options, name)
        shard.ask("step 1")
        workers, peaks = [shard, *start_peers(report, peers_of_training(folder))], []
        answers = take_turns(workers, options, steps, lambda: peaks.append(shard.ask("sgemm")["gflops"]))
    tokens, flops = shard.description["tokens_per_step"] * steps, shard.description["flops_per_token"]
    rows = []
    for w in workers:
        rate = [tokens / s for s in seconds_of(answers[w])]
        share = [100 * r * flops * 1e-9 / peak for r, peak in zip(rate, peaks)]
        faster = [theirs / s for theirs, s in zip(seconds_of(answers[w]), seconds_of(answers[shard]))]
        memory = w.ask("memory")
        rows.append(
            [
                w.description.get("name", "shard.c"),
                spread(rate),
                f"{1e-9 * flops * statistics.median(rate):.1f}",
                spread(share),
                "1" if w is shard else spread(faster, "{:.2f}"),
                megabytes(memory.get("accounted")),
                megabytes(memory["rss"]),
                f"{answers[w][-1]['loss']:.6f}",
            ]
        )
        w.end()
    head = ["", "tokens/s", "GFLOP/s", "% of SGEMM", "shard.c is faster by", "MB held", "MB resident", f"loss of step {total}"]
    report.table(head, rows)
    report.say(f"SGEMM {spread(peaks)} GFLOP/s; {options.rounds} rounds of {steps} steps; median (least - most).\n")


def start_devices(options):
    for n in DEVICES:
        launch = [options.build / "mpiexec", "-n", str(n)] if n > 1 else []
        name = f"shard.c, {n} device{'s' if n > 1 else ''}"
        yield Worker(name, [*launch, options.build / "bench/devices", *DEVICES_CASE], **RANKS)


def core_time(cores, answers):
    """phase -> the cores' milliseconds a step, of each round; and what they were left idle"""
    spent = [{**a["core_seconds"], "idle": cores * a["seconds"] - sum(a["core_seconds"].values())} for a in answers]
    return {phase: [1e3 * s[phase] / DEVICES_STEPS for s in spent] for phase in spent[0]}


def devices(report, options):
    """Chapter 05's step on several devices, which share this machine, and JAX's."""
    about = "tiny, a step is 32 windows in micro-batches of 4"
    report.say(f"### Data parallel training on simulated devices ({about})\n")
    if not (options.build / "mpiexec").exists():
        report.say("skipped, there is no mpiexec\n")
        return
    total = 1 + DEVICES_STEPS * (WARM_UP_TURNS + options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        output([options.build / "bench/train", *DEVICES_CASE, "--export", folder, "--export-steps", str(total)])
        peers = [(f"JAX, devices: {n}", "jax", ["jax_train.py", folder, "--devices", str(n)]) for n in (DEVICES[0], DEVICES[-1])]
        own = list(start_devices(options))
        for w in own:
            w.ask("step 1")
        others = list(start_peers(report, peers))
        answers = take_turns(own + others, options, DEVICES_STEPS)
    rows = []
    for contestants in (own, others):
        for w in contestants:
            tokens = own[0].description["tokens_per_step"] * DEVICES_STEPS
            mine, alone = seconds_of(answers[w]), seconds_of(answers[contestants[0]])
            rows.append(
                [
                    w.name if w in own else w.description["name"],
                    spread([tokens / s for s in mine]),
                    spread([1e3 * s / DEVICES_STEPS for s in mine]),
                    "1" if w is contestants[0] else spread([s / one for s, one in zip(mine, alone)], "{:.3f}"),
                    megabytes(w.ask("memory")["rss"]),
                    f"{answers[w][-1]['loss']:.6f}",
                ]
            )
    report.table(["", "tokens/s", "ms a step", "time of one device", "MB resident", f"loss of step {total}"], rows)
    cores = own[0].description["threads"]  # one device takes all
    times = [core_time(cores, answers[w]) for w in own]
    report.say("Where the time goes: the cores' milliseconds a step, of all devices together.\n")
    phases = [p for p in times[-1] if p != "other"]
    report.table(["", *phases], [[w.name, *(spread(t[p], "{:.1f}") for p in phases)] for w, t in zip(own, times)])
    report.say(f"{options.rounds} rounds of {DEVICES_STEPS} steps; median (least - most).\n")
    for w in own + others:
        w.end()


# ---- all of it ----


def machine(report, options):
    worker = ours(options, "tiny")
    about = worker.description["machine"]
    peak = worker.ask("sgemm")["gflops"]
    worker.end()
    report.say(f"- {about['cpu']}, {about['cores']} cores, {worker.description['threads']} threads; {platform.system()} on {platform.machine()}; {time.strftime('%d %B %Y')}")
    report.say(f"- {about['blas']}: SGEMM of 2048 cubed {peak:.0f} GFLOP/s")
    report.say(f"- {about['compiler']}; commit {about['commit']}; Python {platform.python_version()}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="kernels, step, train, devices, sharded; all of them by default")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent.parent / "build")
    parser.add_argument("--results", type=pathlib.Path, help="also write the tables to this file")
    options = parser.parse_args()
    parts = options.parts or ["kernels", "step", "train", "devices", "sharded"]
    report = Report()
    report.say("# Results of make bench\n")
    machine(report, options)
    if "kernels" in parts:
        for name in options.cases:
            kernels(report, options, name)
    if "step" in parts:
        report.say("### A step and its own matrix products, run alone\n")
        rows = [step(report, options, name) for name in options.cases]
        report.table(["", "step, ms", "its products, ms", "% of the step"], rows)
    if "train" in parts:
        for name in options.cases:
            train(report, options, name)
    if "devices" in parts:
        devices(report, options)
    if "sharded" in parts:
        sharded(report, options)
    if options.results:
        report.write(options.results, whole=not options.parts and options.cases == list(CASES))


main()
