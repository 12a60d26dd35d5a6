#!/usr/bin/env python3
# TEST tier: more
# TEST seconds: 1800
"""Runs that are killed at moments that fall where they may, in the middle of saving too, and resumed: what is left is always
a complete set, and in the end curve and checkpoint are those of a run that nobody has killed, bit for bit. A full disk, a
program that ends with an error. And a set of several files is what its metadata says, read by Python."""
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

signal.signal(signal.SIGINT, signal.SIG_DFL)
os.chdir(os.path.dirname(os.path.abspath(__file__)) + "/..")
temp = pathlib.Path(tempfile.mkdtemp(prefix="saver-"))
MARK = "SHARD_TEST_MARK"  # in the environment of all processes of this test, which finds them by it
environment = {**os.environ, MARK: str(temp)}
count = failures = 0


def ok(passed, what, *notes):
    global count, failures
    count += 1
    failures += not passed
    print(f"{'' if passed else 'not '}ok {count} - {what}", flush=True)
    for note in () if passed else notes:
        for line in str(note).splitlines()[-20:]:
            print(f"# {line}", flush=True)


STEPS = 30
SMALL = "--num-layers 1 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 32 " \
    "--global-batch-size 4 --micro-batch-size 2 --eval-interval 0 --eval-windows 2 --sample-interval 0 --log-interval 0 " \
    f"--save-interval 1 --max-steps {STEPS} --tensor-parallel-size 2 --zero-stage 1".split()


def command(folder, *more):
    return ["build/mpiexec", "-n", "4", "build/08_tensor_parallel", *SMALL, "--output-dir", str(temp / folder), *more]


def run(folder, *more):
    return subprocess.run(command(folder, *more), capture_output=True, text=True, timeout=300)


def compare(a, b):
    return subprocess.run(["build/compare", str(temp / a), str(temp / b)], capture_output=True, text=True)


# ---- kills ----

def processes():
    """What this test has started and still runs: by its number in the system, name and rank (-1: it is none)."""
    found = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = dict(w.split("=", 1) for w in (entry / "environ").read_text().split("\0") if "=" in w)
            if words.get(MARK) == str(temp):
                rank = int(words.get("PMI_RANK", words.get("OMPI_COMM_WORLD_RANK", -1)))
                found[int(entry.name)] = (entry / "comm").read_text().strip(), rank
        except (OSError, UnicodeDecodeError):
            pass
    return found


def ranks():
    return {rank: process for process, (name, rank) in processes().items() if name.startswith("08_tensor")}


def kill(process):
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def start_and_kill(folder, *more):
    """True: it was killed; False: it had ended."""
    with open(temp / "out", "w") as out:
        began, process = time.time(), subprocess.Popen(command(folder, *more), stdout=out, stderr=out, env=environment)
    rows = temp / folder / "loss.csv"  # one that trains writes its rows: from then on, at any moment
    while process.poll() is None and not (rows.exists() and rows.stat().st_mtime >= began):
        time.sleep(0.005)
    time.sleep(random.random() * 0.5)
    ended = process.poll() is not None
    victims = list(ranks().values())
    if victims and random.random() < 0.5:
        kill(random.choice(victims))  # the others are ended by MPI
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            ok(False, "a rank was killed, and the others do not end", (temp / "out").read_text())
    while processes():  # a process that is killed may take a while
        for victim in processes():
            kill(victim)
        time.sleep(0.01)
    process.wait()
    return not ended


def has_set(folder):
    return any((temp / folder / "checkpoint").glob("step-*[0-9]"))


random.seed(5)
wanted = 100 if os.environ.get("TEST_ALL") else 4
reference = run("whole")
ok(reference.returncode == 0, "a run that nobody kills", reference.stderr)
kills = rounds = 0
right = True
notes = ""
while right and kills < wanted:
    shutil.rmtree(temp / "killed", ignore_errors=True)
    killed = start_and_kill("killed")
    kills += killed
    while killed and kills < wanted:
        killed = start_and_kill("killed", *(["--resume"] if has_set("killed") else []))
        kills += killed
    last = run("killed", *(["--resume"] if has_set("killed") else []))
    same = compare("killed", "whole")
    right = last.returncode == 0 and same.returncode == 0
    notes = last.stderr + same.stdout + same.stderr
    rounds += 1
ok(right, f"{kills} kills at random moments: {rounds} runs came to their end with the same bits", notes)
ok(not list((temp / "killed/checkpoint").glob("*.tmp")) and len(list((temp / "killed/checkpoint").iterdir())) == 2,
   "and nothing of a killed save stays behind", list((temp / "killed/checkpoint").iterdir()))

# ---- what fails ----


STEPS_FULL, SAVE_FULL = 1000, 250
with open(temp / "out", "w") as out:
    process = subprocess.Popen(command("full", "--max-steps", str(STEPS_FULL), "--save-interval", str(SAVE_FULL)), stdout=out,
                               stderr=out, env=environment, preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
full = None
while full is None and process.poll() is None:
    if (temp / "full/loss.csv").exists():
        full = ranks().get(2)
    time.sleep(0.005)
if full is not None:
    resource.prlimit(full, resource.RLIMIT_FSIZE, (20000, 20000))
process.wait(timeout=300)
text = (temp / "out").read_text()
rows = (temp / "full/loss.csv").read_text().splitlines()
ok(process.returncode != 0 and rows[-1].startswith(f"{STEPS_FULL},") and text.count("error: ") == 1 and
   f"warning: the checkpoint of step {STEPS_FULL - SAVE_FULL} was not saved: rank 2: cannot write" in text and
   f"warning: the checkpoint of step {STEPS_FULL} " not in text and
   f"error: the last checkpoint, of step {STEPS_FULL}, was not saved: rank 2: cannot write" in text,
   "a full disk of one rank: training goes to its end, and says then that the last checkpoint is not there", text)
for rank in "-1", "1":
    name = f"failed{rank}"
    failed = subprocess.run(["build/mpiexec", "-n", "3", "build/tests/save_and_fail", str(temp / name), rank],
                            capture_output=True, text=True, timeout=100)
    folder = temp / name / "checkpoint/step-000001"
    ok(failed.returncode != 0 and (folder / "manifest.json").exists() and
       compare(f"{name}/checkpoint/step-000001", f"{name}/checkpoint/step-000001").returncode == 0,
       f"{'every rank' if rank == '-1' else 'a rank'} ends with an error behind a save: it waits until the set is complete",
       failed.stderr, list((temp / name / "checkpoint").glob("*/*")))

# ---- Python reads a set ----


def tensors(path):
    """A safetensors file: name -> (shape, list of numbers), and its metadata. The library of the format's authors where it is
    there, else by the format's description."""
    raw = path.read_bytes()
    size, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + size])
    metadata = header.pop("__metadata__", {})
    try:
        from safetensors.numpy import load_file
        return {name: (list(a.shape), a.ravel().tolist()) for name, a in load_file(path).items()}, metadata
    except ImportError:
        pass
    found = {}
    for name, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        found[name] = entry["shape"], list(struct.unpack(f"<{(end - begin) // 4}f", raw[begin:end]))
    return found, metadata


def assemble(folder):
    """The weights of a set, from all its files, by what their metadata says."""
    wholes = {}
    for path in sorted(folder.glob("part-*.safetensors")):
        found, metadata = tensors(path)
        for name, (_, numbers) in found.items():
            whole, axis, runs, size, first = json.loads(metadata[name])
            inner = 1
            for n in whole[axis + 1:]:
                inner *= n
            indices = [f + i for f, n in runs for i in range(n)]
            elements = wholes.setdefault(name.split("#")[0], [whole, {}])[1]
            for at, number in enumerate(numbers, first):
                outer, rest = divmod(at, size * inner)
                index, rest = divmod(rest, inner)
                if index < len(indices):  # behind them is padding
                    place = (outer * whole[axis] + indices[index]) * inner + rest
                    assert place not in elements, name
                    elements[place] = number
    return {name: (whole, [elements[i] for i in range(len(elements))]) for name, (whole, elements) in wholes.items()}


newest = temp / f"whole/checkpoint/step-{STEPS:06d}"
joined = subprocess.run(["build/join_checkpoint", str(newest), str(temp / "joined.safetensors")], capture_output=True, text=True)
weights, _ = tensors(temp / "joined.safetensors")
parts = assemble(newest)
ok(joined.returncode == 0 and len(weights) > 5 and all(parts[name] == weights[name] for name in weights) and
   len(parts) == 3 * len(weights),
   f"Python: {len(list(newest.glob('part-*')))} files hold {len(parts)} tensors, whose weights are those of the joined file",
   joined.stderr)

shutil.rmtree(temp)
print(f"1..{count}")
sys.exit(failures > 0)
