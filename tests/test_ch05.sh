#!/usr/bin/env bash
# Chapter 05 as a user meets it, on 1 to 8 devices: a run and its files, the bits of one device, every overlap, resuming on
# another number of devices, Ctrl-C, a rank killed, a loss that is not finite, the small network, the model clock, and
# what is refused. Models are small here, so that each run takes a second.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=05_data_parallel steps=12
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 64
    --global-batch-size 8 --micro-batch-size 1 --max-steps "$steps" --eval-interval 4 --eval-windows 5 --save-interval 4 --log-interval 2
    --bucket-size 64K)

# ---- a run and its files ----
on 4 a; ok $? "on 4 devices"
[ ! -s "$temp/a.err" ]; ok $? "nothing on stderr"
says a.out "^4 devices, which share memory" && says a.out "^data 3 +│ 3 │"; ok $? "the mesh is drawn"
[ "$(wc -l <"$temp/a/loss.csv")" = 14 ]; ok $? "loss.csv has step 0 and 12 steps, once"
awk -F, 'NR == 3 {first = $3} NR > 1 && $3 != "" {last = $3} END {exit !(last < first)}' "$temp/a/loss.csv"; ok $? "the loss comes down"
for picture in loss timeline; do is_png "$temp/a/$picture.png"; ok $? "$picture.png"; done
tail -1 "$temp/a.out" | grep -q "$temp/a$"; ok $? "the last line says where pictures are"
says a.out "2 \(n-1\) S = [0-9]+ bytes, counted [0-9]+, ratio 1$"; ok $? "bytes of the all-reduces: the ratio is 1"
json a/report.json 'd["devices"] == 4 and d["mesh"] == {"data": 4, "pipe": 1, "tensor": 1}'; ok $? "report.json: devices and mesh"
json a/report.json '[(q["synchronisations"], q["bytes_to_host"]) for q in d["queue"]] == [(1, 16)] * 4'; ok $? "report.json: in a step each device is waited for once"
json a/report.json 'all(len(d[k]) == 4 for k in ("memory", "comm", "seconds")) and min(s["compute"] for s in d["seconds"]) > 0'; ok $? "report.json: memory, comm and seconds of each device"
# two groups of four, the world and the mesh's axis, with two slots each: 1 MB and the sums of a quarter, and a line of 64 bytes
json a/report.json 'all(m["communication"] == {"now": 4 * (5 * 2**18 + 64), "peak": 4 * (5 * 2**18 + 64)} for m in d["memory"])'; ok $? "report.json: the slots of two groups are communication memory"
# gradients of all parameters and of the second use of the tied embedding; a count and a loss each step; 4 evaluations
# (at 0, 4, 8, 12) of 5 batches: a loss and a count for each
json a/report.json 'sum(c["all_reduce"]["bytes"] for c in d["comm"]) == 2 * 3 * (12 * (4 * (d["parameters"] + 1024 * 32) + 16) + 4 * 5 * 16)'; ok $? "report.json: all-reduces moved 2 (n-1) S exactly"
on 8 eight; on 1 one
json eight/report.json 'all(m["gradients"]["peak"] == 4 * (d["parameters"] + 1024 * 32) for m in d["memory"])'; ok $? "report.json: gradients are held once"

# ---- the bits of one device ----
same eight one; ok $? "8 devices with a micro-batch each and one that takes the 8: same losses, same weights, same moments"
build/02_minigpt "${small[@]:0:24}" --sample-interval 0 --output-dir "$temp/ch02" >/dev/null 2>"$temp/ch02.err" || cat "$temp/ch02.err"
losses ch02 | diff -q - <(losses eight) >/dev/null && cmp -s "$temp/ch02/checkpoint/step-000012/model.safetensors" "$temp/eight/checkpoint/step-000012/model.safetensors"; ok $? "... and those of chapter 02"
on 8 again; same eight again; ok $? "the same run twice"
for overlap in none bucket; do on 8 $overlap --overlap $overlap; same eight $overlap; ok $? "--overlap $overlap: same bits"; done
on 8 drop --dropout 0.2; on 1 drop1 --dropout 0.2; same drop drop1 && ! same drop eight; ok $? "dropout is that of one device"
on 3 three --global-batch-size 9 --micro-batch-size 3; on 1 three1 --global-batch-size 9 --micro-batch-size 3; same three three1; ok $? "3 devices, 9 windows"
losses a | diff -q - <(losses eight) >/dev/null; [ $? = 1 ] && near a eight; ok $? "4 devices with two micro-batches each: to rounding"

# ---- trace ----
on 4 trace --trace --stop-at-step 2; ok $? "--trace"
python3 - "$temp/trace/trace.json" <<'P'; ok $? "trace.json: a process for each device, steps and all-reduces in each"
import json, sys
events = json.load(open(sys.argv[1]))["traceEvents"]
for device in range(4):
    own = [e for e in events if e["pid"] == device and e["ph"] == "X"]
    assert sum(e["name"].startswith("step ") for e in own) == 2
    assert sum(e["name"] == "all_reduce" for e in own) >= 6 and any(e["name"].startswith("linear ") for e in own)
    assert all(e["dur"] >= 0 for e in own)
P
[ "$(find "$temp/trace" -type f -name 'trace*' | wc -l)" = 1 ]; ok $? "... in one file"

# ---- resume ----
on 8 r --stop-at-step 4; on 8 r --resume; same eight r; ok $? "stopped at 4 and resumed: same bits"
on 8 other --stop-at-step 4; on 2 other --resume; ok $? "resumed on 2 devices"
near other eight; ok $? "... goes on to rounding"
still=(--learning-rate 0 --min-lr 0 --max-steps 14 --eval-interval 0)
on 1 w4 "${still[@]}" --global-batch-size 4
on 8 w "${still[@]}" --global-batch-size 8 --stop-at-step 2
on 4 w "${still[@]}" --global-batch-size 4 --stop-at-step 4 --resume
on 2 w "${still[@]}" --global-batch-size 16 --stop-at-step 6 --resume
check "8, then 4, then 16 windows a step on 8, 4 and 2 devices: no gap and no repeat" python3 tests/windows_consumed.py "$temp/w/loss.csv" "$temp/w4/loss.csv" 64 8 8 4 4 16 16
on 2 w "${still[@]}" --resume --optimizer sgd; [ $? != 0 ] && one_line_error w && says w.err "optimizer is sgd, but the run saved in .* has adamw"; ok $? "moments of another optimizer are not loaded"
on 2 nothing --resume; [ $? != 0 ] && grep -q "there is no checkpoint in" "$temp/nothing.err"; ok $? "nothing to resume"

# ---- ended early ----
start 4 int --max-steps 100000 --save-interval 2
soon [ -e "$temp/int/checkpoint/step-000004" ]; kill -INT $pid; wait $pid; ok $? "Ctrl-C: ends well"
says int.out "^pictures and checkpoints are in" && [ -d "$temp/int/checkpoint/step-$(printf %06d "$(tail -1 "$temp/int/loss.csv" | cut -d, -f1)")" ]; ok $? "... the step is finished and saved"
start 4 kill --max-steps 100000 --save-interval 2
soon [ -e "$temp/kill/checkpoint/step-000004" ]
dies_with kill 2; ok $? "a rank killed: the job ends within 5 s and names it"
sleep 0.3; ! pgrep -f "05_data_parallel .*$temp/kill" >/dev/null; ok $? "... nobody stays behind"
on 4 kill --max-steps 8 --resume; [ $? != 124 ] && [ -d "$temp/kill/checkpoint" ]; ok $? "... and its last checkpoint is whole"
on 4 nan --learning-rate 1000 --optimizer sgd --grad-clip 0 --max-steps 50; [ $? = 1 ] && one_line_error nan && says nan.err "step [0-9]+: the loss is .* first in the (forward|backward)( towards [a-z ]*)? of"; ok $? "a loss that is not finite: the step and the op, said once"

# ---- the small network, and the model clock ----
on 8 mlp --model mlp --mlp-steps 30 --mlp-batch 64 --mlp-hidden 32; ok $? "--model mlp: 8 devices and one"
says mlp.out "^largest difference of the losses: 0$" && is_png "$temp/mlp/waves.png" && is_png "$temp/mlp/prediction.png"; ok $? "... the same losses to the bit, drawn"
for n in 1 2; do on 4 clock$n --clock model --device-model a100; done
losses clock1 | diff -q - <(losses a) >/dev/null; ok $? "--clock model: the same training"
diff -q "$temp/clock1/loss.csv" "$temp/clock2/loss.csv" >/dev/null; ok $? "... and the same times, twice"
json clock1/report.json 'd["model_s"] > 0 and abs(sum(d["seconds"][0].values()) - d["model_s"]) < 1e-9'; ok $? "... compute, comm and idle are all there is"
for n in 1 2; do on 4 sweep$n --sweep all --device-model a100 --max-seq-length 16; done
sed '$d' "$temp/sweep1.out" | diff -q - <(sed '$d' "$temp/sweep2.out") >/dev/null; ok $? "--sweep all: the same digits twice"
awk '/^(one by one|in buckets)/ { rows++; if ($NF < 0.999999 || $NF > 1.000001) bad = 1 } END { exit bad || rows < 5 }' "$temp/sweep1.out"; ok $? "... every size of bucket ends when the recurrence says"
awk '/^step: without/ { on = 0 } on && $1 ~ /^[0-9]+$/ { rows++; if (($3 - $4) ^ 2 > 1e-10 * $4 ^ 2) bad = 1 } /^devices/ { on = 1 } END { exit bad || rows < 3 }' "$temp/sweep1.out"; ok $? "... and so does a step on any number of devices"
for picture in buckets batch scaling; do is_png "$temp/sweep1/$picture.png"; ok $? "$picture.png"; done
on 1 list --device-model list; says list.out "^h100 "; ok $? "--device-model list"

# ---- refused ----
check "a batch that the devices cannot share" refuses 4 2 "--global-batch-size 6 cannot be shared by 4 devices (hint: use --global-batch-size 4 or 8, or start 3 devices)" --global-batch-size 6
check "a micro-batch that does not divide the share" refuses 2 2 "is not a multiple of 2 devices x --micro-batch-size 3" --micro-batch-size 3
check "a number of micro-batches that does not fit" refuses 2 2 "is not 2 devices x --num-microbatches 3 x --micro-batch-size 1 = 6" --num-microbatches 3
check "an unknown device" refuses 2 2 "--device-model 'abacus' is not known" --device-model abacus
check "a small network's batch" refuses 3 2 "--mlp-batch 64 cannot be shared by 3 devices" --model mlp --mlp-batch 64 --global-batch-size 9
check "a sweep alone" refuses 1 2 "--sweep compares devices, and there is one" --sweep all
check "a budget that is too small" refuses 1 2 "passes the budget" --device-memory 200K
on 2 refused --device-memory 200K; [ $? != 0 ] && one_line_error refused && says refused.err "passes the budget"; ok $? "... of every device, said once"
tap_done
