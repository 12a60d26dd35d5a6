"""`make bench BENCH=sharded`: models that are cut over 8 devices, ours and JAX's, each against its own single device."""
import csv
import json
import pathlib
import tempfile

from report import megabytes, spread
from workers import RANKS, WARM_UP_TURNS, Absent, output, seconds_of, start_peers, take_turns

DEVICES, BATCH, STEPS = 8, 32, 2
MODEL = ["--preset", "tiny", "--global-batch-size", str(BATCH)]
QUIET = [f"--{what}-interval=0" for what in ("log", "eval", "sample", "save")] + ["--eval-windows", "8"]

# what the table says, chapter, its flags, the windows of a micro-batch: those of one device, or a device's whole slice; other
# than DEVICES devices
OURS = [
    ("ZeRO-0, data parallel", "07_fsdp", ["--zero-stage", "0"], 4),
    ("ZeRO-1", "07_fsdp", ["--zero-stage", "1"], 4),
    ("ZeRO-2", "07_fsdp", ["--zero-stage", "2"], 4),
    ("ZeRO-3", "07_fsdp", ["--zero-stage", "3"], 4),
    ("tensor 2 x data 4", "08_tensor_parallel", ["--tensor-parallel-size", "2"], 4),
    ("tensor 4 x data 2", "08_tensor_parallel", ["--tensor-parallel-size", "4"], 4),
    ("tensor 4 x data 2, slice at once", "08_tensor_parallel", ["--tensor-parallel-size", "4"], 16),
    ("pipe 4, on 4 devices", "09_pipeline_parallel", ["--pipeline-parallel-size", "4"], 4, 4),
    ("pipe 4 x data 2", "09_pipeline_parallel", ["--pipeline-parallel-size", "4"], 4),
    ("tensor 2 x pipe 2 x data 2", "10_3d_parallel", ["--tensor-parallel-size", "2", "--pipeline-parallel-size", "2"], 4),
]
PEERS = [
    ("JAX", []),
    ("JAX, FSDP", ["--devices", str(DEVICES), "--fsdp"]),
    ("JAX, tensor 2 x data 4", ["--devices", str(DEVICES), "--tensor-parallel-size", "2"]),
    ("JAX, tensor 4 x data 2", ["--devices", str(DEVICES), "--tensor-parallel-size", "4"]),
]


class Chapter:
    """A chapter's program in the place of a Worker: it is started for each turn and trains one step more than it is asked
    for, and only its own time of the others counts."""

    def __init__(self, name, command):
        self.name, self.command, self.description, self.held = name, command, {"name": name}, None

    def ask(self, request):
        if request == "memory":
            return {"accounted": self.held, "rss": None}
        steps = int(request.split()[1])
        with tempfile.TemporaryDirectory() as folder:
            output([*self.command, "--max-steps", str(1 + steps), "--output-dir", folder], **RANKS)
            folder = pathlib.Path(folder)
            rows = list(csv.DictReader((folder / "loss.csv").read_text().splitlines()))[-steps:]
            self.held = sum(device["joint_peak"] for device in json.loads((folder / "report.json").read_text())["memory"])
        return {"seconds": 1e-3 * sum(float(row["step_ms"]) for row in rows), "loss": float(rows[-1]["loss"])}

    def end(self):
        pass


def start_ours(report, options):
    """One device, and of the chapters those that are there."""
    rows = [("1 device", [], "05_data_parallel", ["--micro-batch-size", "4"])]
    for name, chapter, flags, windows, *devices in OURS:
        launch = [options.build / "mpiexec", "-n", str(devices[0] if devices else DEVICES)]
        rows.append((name, launch, chapter, ["--micro-batch-size", str(windows), *flags]))
    for name, launch, chapter, flags in rows:
        program = Chapter(f"shard.c, {name}", [*launch, options.build / chapter, *MODEL, *flags, *QUIET])
        try:
            if not (options.build / chapter).exists():
                raise Absent(f"there is no {chapter}")
            program.ask("step 1")
            yield program
        except Absent as problem:
            report.say(f"{program.name}: skipped, {problem}\n")


def sharded(report, options):
    """Steps of one model that is cut over 8 devices, which share this machine."""
    report.say(f"### Training with a model cut over {DEVICES} simulated devices (tiny, a step is {BATCH} windows)\n")
    if not (options.build / "mpiexec").exists():
        report.say("skipped, there is no mpiexec\n")
        return
    total = 1 + STEPS * (WARM_UP_TURNS + options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        output([options.build / "bench/train", *MODEL, "--export", folder, "--export-steps", str(total)])
        own = list(start_ours(report, options))
        others = list(start_peers(report, [(name, "jax", ["jax_train.py", folder, *flags]) for name, flags in PEERS]))
        answers = take_turns(own + others, options, STEPS)
    rows = []
    for contestants in (own, others):
        for w in contestants:
            mine, alone = seconds_of(answers[w]), seconds_of(answers[contestants[0]])
            memory = w.ask("memory")
            rows.append(
                [
                    w.description["name"],
                    spread([1e3 * s / STEPS for s in mine]),
                    "1" if w is contestants[0] else spread([s / one for s, one in zip(mine, alone)], "{:.3f}"),
                    megabytes(memory.get("accounted")),
                    megabytes(memory["rss"]),
                    f"{answers[w][-1]['loss']:.6f}",
                ]
            )
            w.end()
    report.table(["", "ms a step", "time of one device", "MB held", "MB resident", "loss"], rows)
    report.say(f"{options.rounds} rounds of {STEPS} steps; median (least - most).")
    report.say(f"The loss is that of step {1 + STEPS} (shard.c), of step {total} (JAX).\n")
