#!/usr/bin/env python3
"""What goes wrong between ranks is an error that names who and what, never a hang: calls that do not match, ranks that
wait for each other, a rank killed in any phase. And nothing stays behind: no process, no shared memory, no file."""
import glob
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

signal.signal(signal.SIGINT, signal.SIG_DFL)  # in the background of a script it is ignored, and would be by the ranks
os.chdir(os.path.dirname(os.path.abspath(__file__)) + "/..")
FAULTS = "build/tests/comm_faults"
MARK = "SHARD_TEST_MARK"  # in the environment of all processes of this test, which finds them by it
temp = tempfile.mkdtemp(prefix="comm-")
environment = {**os.environ, "TMPDIR": temp, MARK: temp}
count = failures = 0
# MPICH's mpiexec, or Open MPI's: which ends with an error after Ctrl-C, and leaves its files in /dev/shm when it is killed
MPIEXEC = "build/mpiexec"
HYDRA = os.path.exists(MPIEXEC) and \
    "HYDRA" in subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True).stdout


def ok(passed, what, *notes):
    global count, failures
    count += 1
    failures += not passed
    print(f"{'' if passed else 'not '}ok {count} - {what}", flush=True)
    for note in notes:
        for line in str(note).splitlines():
            if line and not re.match(r"=|YOUR APPLICATION|This typically|Please see|\[mpiexec", line):
                print(f"# {line}", flush=True)


def until(seconds, condition):
    """Does the condition come true in time?"""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def left():
    """Processes that this test has started and that still run."""
    mark, names = f"{MARK}={temp}".encode(), []
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{folder}/environ", "rb") as f:
                if mark in f.read().split(b"\0"):
                    with open(f"{folder}/comm") as name:
                        names.append(f"{folder[6:]} {name.read().strip()}")
        except OSError:  # it has ended, or is not ours to read
            pass
    return names


def left_behind(before):
    """... and what they have left: sockets, and shared memory that nobody uses."""
    return left() + glob.glob(f"{temp}/shard-*") + sorted(shared_memory() - before)


def shared_memory():
    """What no process has mapped any more: names in /dev/shm, segments. (What one has is another job's, or in left().)"""
    names = set(glob.glob("/dev/shm/*"))
    for maps in glob.glob("/proc/[0-9]*/maps") if names else []:
        try:
            with open(maps) as f:
                names -= set(re.findall(r"/dev/shm/\S+", f.read()))
        except OSError:  # it has ended, or is not ours to read
            pass
    try:
        with open("/proc/sysvipc/shm") as f:
            names |= {f"segment {row.split()[1]}" for row in f.readlines()[1:] if row.split()[6] == "0"}
    except OSError:
        pass
    return names


# Two machines, as MPICH's mpiexec sees it: two helpers, which start ranks without ssh. Neighbours are on different ones.
TWO_MACHINES = ["-launcher", "fork", "-hosts", "a,b"]


class Job:
    """mpiexec with `ranks` ranks of comm_faults."""

    def __init__(self, ranks, *arguments, shared=None, machines=(), wait=None):
        extra = {"SHARD_SHARED_RANKS": str(shared)} if shared else {}
        self.ready = tempfile.mkdtemp(dir=temp)
        self.before = shared_memory()
        self.errors, self.out = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [MPIEXEC, *machines, "-n", str(ranks), FAULTS, *[a.replace("READY", self.ready) for a in arguments]],
            env={**environment, **extra}, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.errors)
        if wait:
            until(60, lambda: len(self.pids()) == ranks)

    def pids(self):
        names = [n for n in os.listdir(self.ready) if n.isdigit()]
        return {int(n): int(open(f"{self.ready}/{n}").read()) for n in names}

    def end(self, seconds):
        """Its exit status, or None when it does not end in time, and what it said."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            self.process.kill()
            self.process.wait()
        texts = []
        for f in (self.out, self.errors):
            f.seek(0)
            texts.append(f.read())
        return status, *texts

    def leaves_nothing(self):
        return until(10, lambda: not left_behind(self.before))


def mistake(name, *parts, shared=None):
    job = Job(4, "mistake", name, shared=shared)
    status, _, errors = job.end(30)
    lines = [l for l in errors.splitlines() if re.search(r"comm_faults: error: .*\(hint: ", l)]
    how = ", by message" if shared else ""
    ok(status not in (0, None), f"{name}{how}: the job ends with an error", errors)
    ok(any(all(p in l for p in parts) for l in lines), f"{name}: it says {parts}", errors)
    ok(job.leaves_nothing(), f"{name}: nothing stays", *left_behind(job.before))


def killed(phase, victim, ranks=4, shared=None, machines=(), how=signal.SIGKILL):
    job = Job(ranks, "work", phase, "READY", shared=shared, machines=machines, wait=True)
    time.sleep(random.random() * 0.1)
    pid = job.pids()[victim]
    os.kill(pid, how)
    status, _, errors = job.end(5)
    what = f"rank {victim} of {ranks} killed in phase {phase}{', by message' if shared else ''}{', two machines' if machines else ''}"
    ok(status is not None, f"{what}: the job ends within 5 s", errors)
    ok(status != 0, f"{what}: with an error", errors)
    said = [l for l in errors.splitlines() if "error:" in l]
    ok(len(said) == 1 and f"comm_faults: error: rank {victim} died (process {pid} on " in said[0],
       f"{what}: it alone is named", f"process {pid}", errors)
    ok(job.leaves_nothing(), f"{what}: nothing stays", *left_behind(job.before))


def mistakes(shared):
    def try_one(name, *parts):
        mistake(name, *parts, shared=shared)

    try_one("count", "group 'world'", "rank 0 is in its call 1, all_reduce of 64 f32, sum",
            "rank 1 in its call 1, all_reduce of 63 f32")
    try_one("large-count", "rank 0 is in its call 1, all_reduce of 1048576 f32", "rank 1 in its call 1, all_reduce of 1 f32")
    try_one("type", "all_reduce of 32 f32", "all_reduce of 32 f64")
    try_one("reduction", "64 f32, sum", "64 f32, max")
    try_one("root", "broadcast of 64 f32, root 0", "broadcast of 64 f32, root 1")
    try_one("kind", "rank 0 is in its call 1, all_reduce", "rank 1 in its call 1, barrier")
    try_one("dropped", "rank 0 is in its call 1, all_reduce", "rank 1 in its call 1, all_gather of 64 f32")
    try_one("message-count", "rank 2 is in its call 1, recv of 64 f32 from rank 1",
            "rank 1 in its call 1, send of 60 f32 to rank 2")
    try_one("message-type", "recv of 32 f32", "send of 32 f64")
    try_one("no-send", "every rank waits for another", "rank 0 in all_reduce of 64 f32", "rank 1 in recv of 64 f32 from rank 0")
    try_one("other-group", "every rank waits for another", "rank 0 in all_reduce of 64 f32, max (call 3 of group 'world')",
            "rank 1 in all_reduce of 64 f32, max (call 1 of group 'part')")
    try_one("exit", "rank 1 gives up")
    try_one("not-waited", "closed while calls are under way")
    status, out, errors = Job(4, "mistake", "late", shared=shared).end(30)
    ok(status == 0 and out.count("nothing was noticed") == 4, "a rank that comes late is waited for", errors)


def interrupted(shared):
    job = Job(4, "interrupt", "READY", shared=shared, wait=True)
    job.process.send_signal(signal.SIGINT)
    status, out, errors = job.end(20)
    ok((status == 0 or not HYDRA) and out.count("saved") == 4, "interrupted: every rank finishes the same step and saves", out, errors)
    ok(job.leaves_nothing(), "interrupted: nothing stays", *left_behind(job.before))


def main():
    if not os.path.exists(MPIEXEC):
        print("1..0 # SKIP no mpiexec here")
        return
    for shared in (None, 1):
        mistakes(shared)
        interrupted(shared)
    for phase in ("small", "large", "gather", "ring", "split", "wait", "busy"):
        for victim in (0, 2):
            killed(phase, victim)
    killed("wait", 1, how=signal.SIGSEGV)
    killed("small", 3, shared=1)
    killed("large", 1, shared=2)
    killed("large", 5, ranks=8)
    if HYDRA:
        for victim in range(4):
            killed("large", victim, machines=TWO_MACHINES)
    job = Job(4, "work", "large", "READY", wait=True)
    job.process.kill()
    job.end(5)
    ok(job.leaves_nothing() if HYDRA else until(10, lambda: not left()), "mpiexec killed: its ranks and their watcher end", *left_behind(job.before))
    alone = subprocess.run([FAULTS, "mistake", "count"], env=environment, capture_output=True, text=True, timeout=20)
    ok(alone.returncode == 0 and "nothing was noticed" in alone.stdout, "a rank alone agrees with itself", alone.stderr)
    print(f"1..{count}")


try:
    main()
finally:
    shutil.rmtree(temp)
sys.exit(failures != 0)
