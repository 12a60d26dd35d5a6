"""windows_consumed.py RESUMED.csv FOURS.csv T BATCH ...: did a run whose batch size changed train on windows 0, 1, 2 .. without
gap or repeat? Both runs keep their weights (a rate of 0), so a step's loss is the mean of its windows' losses. FOURS took
the same windows four a step; every BATCH, the windows of a step of the other run, is a multiple of that."""
import csv
import sys


def rows(path):
    with open(path, newline="") as f:
        return [r for r in csv.DictReader(f) if r["loss"]]


fours = [float(r["loss"]) for r in rows(sys.argv[2])]
resumed, length, batches = rows(sys.argv[1]), int(sys.argv[3]), [int(b) for b in sys.argv[4:]]
assert len(resumed) == len(batches) and sum(batches) == 4 * len(fours), (len(resumed), len(fours))
windows = 0
for row, batch in zip(resumed, batches):
    parts = fours[windows // 4 : (windows + batch) // 4]
    windows += batch
    assert int(row["tokens"]) == windows * length, f"step {row['step']}: {row['tokens']} tokens, not {windows * length}"
    want = sum(parts) / len(parts)
    assert abs(float(row["loss"]) - want) < 1e-6 * want, f"step {row['step']}: a loss of {row['loss']}, not {want}"
