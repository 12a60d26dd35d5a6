#!/usr/bin/env bash
# Chapter 09's sweeps and pictures as a user meets them: all schedules planned on one device, also with one from a file; all of
# them run by the clock of a device model, with the bubbles of the formulas on the ideal device; the pictures of a run; an arrow
# in the trace for each message, forward and back. Models are small, so that each run takes a few seconds.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=09_pipeline_parallel
small=(--num-layers 8 --hidden-size 32 --num-attention-heads 4 --intermediate-size 64 --max-seq-length 32 --micro-batch-size 1
    --sample-interval 0 --eval-windows 3)
pictures() { # pictures FOLDER NAME...
    local folder=$1 name
    shift
    for name in "$@"; do is_png "$temp/$folder/$name.png" || return 1; done
}
# the report of a run; `sweep` is the list of what was compared
report() { python3 -c "
import json, sys
d = json.load(open(sys.argv[1])); sweep = d['sweep']
at = {(p.get('microbatches'), p['schedule']): p for p in sweep} if sweep else {}
assert $2, '''$2'''" "$temp/$1/report.json"; }

# ---- as planned ----
timeout 60 build/09_pipeline_parallel --sweep plan --pipeline-parallel-size 4 --num-microbatches 8 --output-dir "$temp/plan" >"$temp/plan.out" 2>"$temp/plan.err"; ok $? "--sweep plan: 4 stages, on one device"
[ ! -s "$temp/plan.err" ]; ok $? "nothing on stderr"
says plan.out "^6 of 6 schedules do what their formulas say"; ok $? "bubbles and micro-batches in flight are the formulas'"
says plan.out "^1f1b +1 +33.00 +0.375000 +0.375000 .* 4 3 2 1 +4 3 2 1$" && says plan.out "^zb-v +2 +25.50 +0.000000 +0.000000 "; ok $? "... 1f1b's and zb-v's"
report plan 'len(sweep) == 6 and all(p["exact"] for p in sweep)'; ok $? "report.json"
pictures plan naive schedules in-flight; ok $? "naive.png, schedules.png, in-flight.png"
sed 's/^1,W/# 1,W/' "$temp/plan/zb-h1.csv" >"$temp/own.csv"
timeout 60 build/09_pipeline_parallel --sweep plan --schedule-file "$temp/own.csv" --output-dir "$temp/own" >"$temp/own.out" 2>"$temp/own.err"; ok $? "a schedule that was changed, beside the others"
says own.out "^own.csv +1 " && says own.out "schedules of 4 stages and 8 micro-batches"; ok $? "... with its stages and micro-batches"
report own 'len(sweep) == 7 and sweep[4]["time"] < sweep[6]["time"] <= sweep[2]["time"]'; ok $? "... slower than zb-h1"
sed '0,/^0,F,0,0/s///' "$temp/plan/1f1b.csv" | sed '/^$/d' >"$temp/bad.csv"
run timeout 60 build/09_pipeline_parallel --sweep plan --schedule-file "$temp/bad.csv" --output-dir "$temp/bad"
check "one that cannot be run is refused" refused 2 "F of micro-batch 0 in chunk 0 is missing"

# ---- by the clock ----
on 4 ideal --sweep schedules --device-model ideal; ok $? "--sweep schedules on 4 devices"
[ ! -s "$temp/ideal.err" ]; ok $? "nothing on stderr"
says ideal.out "^of 28 steps, in 28 all waiting .* 28 have the bubble of the formula" && says ideal.out "28 have as many micro-batches in flight"; ok $? "on the ideal device bubbles are the formulas'"
report ideal 'len(sweep) == 28 and all(abs(p["bubble"] - p["bubble_formula"]) < 1e-6 and p["in_flight"] == p["in_flight_formula"] for p in sweep)'; ok $? "report.json"
says ideal.out "^m = 8 +zb-v: 0\.7" && says ideal.out "^zb-h1 and zb-v pay"; ok $? "zb-v wins there"
pictures ideal micro-batches schedules; ok $? "micro-batches.png, schedules.png"
on 4 slow --sweep schedules --device-model h100; ok $? "messages that take longer than forwards"
says slow.out "^of 28 steps, in 28 all waiting is for messages"; ok $? "all waiting is for messages"
says slow.out "^zb-v does not pay with m = 1:" && says slow.out "gpipe from there on$"; ok $? "where zero-bubble does not pay is said, and which wins with slow messages"
report slow 'at[16, "gpipe"]["activations"] > 2.5 * at[16, "1f1b"]["activations"] and at[16, "1f1b"]["activations"] < 1.1 * at[4, "1f1b"]["activations"]'; ok $? "gpipe's activations grow with the micro-batches, 1f1b's do not"
on 4 again --sweep schedules --device-model h100 && cmp -s "$temp/slow.out" <(sed "s/again/slow/g" "$temp/again.out"); ok $? "two runs, the same digits"
on 4 half --sweep schedules --pipeline-parallel-size 2 --device-model laptop-core && report half 'at[8, "interleaved"]["in_flight"] == 5'; ok $? "two pipelines of two stages"
run timeout 60 build/09_pipeline_parallel --sweep schedules
check "one stage is refused" refused 2 "there is one stage"

# ---- a run, its pictures and its trace ----
# arrows FOLDER SCHEDULE: as many from stage to stage as there are messages in two steps of 8 micro-batches, and forward those of
# an evaluation of 3 windows as well (the first one comes before the account); each leaves before it arrives, as long before as the link takes
arrows() { python3 - "$temp/$1/trace.json" "$2" <<'EOF'
import collections, json, sys
events = json.load(open(sys.argv[1]))["traceEvents"]
begins = {e["id"]: e for e in events if e["ph"] == "s"}
ends = {e["id"]: e for e in events if e["ph"] == "f"}
assert begins.keys() == ends.keys() and len(begins) == sum(e["ph"] == "s" for e in events)
link = 5 + 32 * 32 * 4 / 5e9 * 1e6 # microseconds, of laptop-core
count = collections.Counter()
for i, b in begins.items():
    e = ends[i]
    assert e["ts"] - b["ts"] > 0.99 * link, (b, e)
    count[b["pid"], e["pid"]] += 1
forward, back = 2 * 8 + 3, 2 * 8
chunks = {"1f1b": [0, 1, 2, 3], "interleaved": [0, 1, 2, 3] * 2, "zb-v": [0, 1, 2, 3, 3, 2, 1, 0]}[sys.argv[2]]
want = collections.Counter()
for a, b in zip(chunks, chunks[1:]):
    if a != b:
        want[a, b] += forward
        want[b, a] += back
assert count == want, (count, want)
EOF
}
for schedule in 1f1b interleaved zb-v; do
    on 4 "$schedule" --pipeline-schedule "$schedule" --global-batch-size 8 --max-steps 2 --clock model --device-model laptop-core --trace; ok $? "a run with $schedule"
    pictures "$schedule" pipeline in-flight activations; ok $? "... pipeline.png, in-flight.png, activations.png"
    arrows "$schedule" "$schedule"; ok $? "... an arrow for each message, from its sender to its receiver"
done
sed 's/^1,W,[0-3],1/# &/' "$temp/plan/zb-h1.csv" >"$temp/mixed.csv" # some of stage 1's Bs are whole
on 4 mixed --schedule-file "$temp/mixed.csv" --global-batch-size 8 --max-steps 2 --clock model --device-model laptop-core; ok $? "a schedule in which some micro-batches have a W and others none"
python3 -c "
import sys
ratios = [float(line.split()[-1]) for line in open(sys.argv[1]) if 'by its costs' in line]
assert len(ratios) == 2 and all(abs(r - 1) < 0.03 for r in ratios), ratios" "$temp/mixed.out"; ok $? "... its bubble by its costs"
pictures mixed pipeline in-flight activations; ok $? "... and its pictures"
on 4 wall --pipeline-schedule zb-h1 --global-batch-size 8 --max-steps 2 && pictures wall pipeline in-flight activations; ok $? "pictures by the clock of this machine"
tap_done
