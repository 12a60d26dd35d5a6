#!/usr/bin/env bash
# Chapter 09 as a user meets it, on 1 to 8 devices: a run and its files, the bits of one device by every schedule, bytes, messages
# and micro-batches in flight as predicted, bubbles as the formulas say, schedules from files, resuming on other meshes and in
# other chapters, text through all stages, Ctrl-C, a rank killed, and what is refused. Models are small here, so that each run
# takes a second.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=09_pipeline_parallel steps=6
small=(--num-layers 5 --hidden-size 32 --num-attention-heads 4 --intermediate-size 64 --max-seq-length 32
    --global-batch-size 8 --micro-batch-size 1 --max-steps "$steps" --eval-interval 3 --eval-windows 5 --save-interval 3 --log-interval 2
    --sample-interval 0 --max-new-tokens 12)
# every row of bytes, messages and micro-batches in flight: what is predicted is what is counted
as_predicted() {
    awk '/^bytes / || /^micro-batches in flight/ { on = 1; next } !NF { on = 0 } / messages predicted, / { if ($1 != $4) bad = 1; next }
         on && (/^  / && $NF != 1) { bad = 1 } on && /^  / { rows++ } END { exit bad || rows < 7 }' "$temp/$1.out"
}

# ---- a run and its files ----
on 8 a --sample-interval 3; ok $? "on 8 devices, 2 x 4"
[ ! -s "$temp/a.err" ]; ok $? "nothing on stderr"
says a.out "pipe 0 +pipe 1 +pipe 2 +pipe 3" && says a.out "^data 1 +│ 4 │ +│ 5 │"; ok $? "the mesh is drawn"
says a.out "^0 +embedding, 0-1 " && says a.out "^3 +.*head "; ok $? "the cut is said"
for picture in loss timeline pipeline; do is_png "$temp/a/$picture.png"; ok $? "$picture.png"; done
json a/report.json '[(q["synchronisations"], q["bytes_to_host"]) for q in d["queue"]] == [(1, 16)] * 8'; ok $? "report.json: in a step each device is waited for once"
tail -1 "$temp/a.out" | grep -q "^pictures and checkpoints are in $temp/a: look at $temp/a/pipeline.png$"; ok $? "the last line says where pictures are, and which one is the chapter's"
json a/report.json 'd["devices"] == 8 and d["mesh"] == {"data": 2, "pipe": 4, "tensor": 1}'; ok $? "report.json: devices and mesh"
as_predicted a; ok $? "bytes, messages and micro-batches in flight are those of the formulas"
[ "$(grep -c "^a sample at step" "$temp/a.out")" = 2 ]; ok $? "samples at steps 3 and 6"
on 8 again --sample-interval 3; same a again; ok $? "the same run twice: same bits"

# ---- the bits of one device ----
program 05_data_parallel 1 one; on 1 alone; same one alone; ok $? "one device: chapter 05's bits"
for schedule in naive gpipe 1f1b interleaved zb-h1 zb-v; do
    on 4 p4-$schedule --pipeline-schedule $schedule && as_predicted p4-$schedule; ok $? "4 stages, $schedule: as predicted"
    same one p4-$schedule; ok $? "... the bits of one device"
done
near one a; ok $? "2 x 4: to rounding"
on 3 p3 --pipeline-parallel-size 3 --num-layers 1 --micro-batch-size 8; program 05_data_parallel 1 p1 --num-layers 1 --micro-batch-size 8; same p1 p3; ok $? "one block on 3 stages, one micro-batch: same bits"
on 4 p4x3 --pipeline-schedule interleaved --virtual-stages 3 --num-layers 7 && as_predicted p4x3; ok $? "--virtual-stages 3: as predicted"
other=(--no-tied --positions rope --norm rmsnorm --activation swiglu --num-key-value-heads 2 --bias --dropout 0.1)
program 05_data_parallel 1 other "${other[@]}"; on 4 other4 "${other[@]}" --pipeline-schedule zb-v --recompute; same other other4; ok $? "another model, dropout, recomputed by zb-v: same bits"
for stage in 1 2 3; do
    on 8 z$stage --zero-stage $stage --pipeline-parallel-size 2 --pipeline-schedule zb-h1 && as_predicted z$stage; ok $? "4 x 2, --zero-stage $stage along data: as predicted"
    near one z$stage; ok $? "... loss"
done
on 8 kept --zero-stage 3 --keep-gathered blocks.3,token --pipeline-parallel-size 2 && as_predicted kept; ok $? "--keep-gathered, of each stage what it has: as predicted"
near one kept; ok $? "... loss"
on 8 hybrid --zero-stage 3 --shard-group 2 --pipeline-parallel-size 2 && as_predicted hybrid; ok $? "--shard-group 2: as predicted"; near one hybrid; ok $? "... loss"

# ---- bubbles ----
for schedule in naive gpipe 1f1b interleaved zb-h1 zb-v; do
    on 4 ideal --pipeline-schedule $schedule --clock model --device-model ideal --max-steps 2 && bubbles ideal; ok $? "$schedule: the bubble is the formula's"
done
on 4 h100 --clock model --device-model h100; on 4 h100-again --clock model --device-model h100; same h100 h100-again; ok $? "by the clock of another device: the same digits twice"

# ---- schedules from files ----
head -1 "$temp/p4-1f1b/schedule.csv" | grep -q "#\|stage" && on 4 file --schedule-file "$temp/p4-zb-h1/schedule.csv" && same one file; ok $? "the schedule of a run, as a file: same bits"
python3 - "$temp" <<'END'
import sys
# all forward; then backward from the last micro-batch to the first; the stages in reverse
with open(sys.argv[1] + "/odd.csv", "w") as f:
    f.write("stage,action,micro_batch,chunk\n")
    for stage in range(4):
        for a in "FB":
            for m in range(8) if a == "F" else range(7, -1, -1):
                f.write(f"{stage},{a},{m},{3 - stage}\n")
lines = open(sys.argv[1] + "/odd.csv").read().splitlines()
lines[1], lines[9] = lines[9], lines[1]  # stage 0 has chunk 3: B before F
open(sys.argv[1] + "/bad.csv", "w").write("\n".join(lines) + "\n")
END
on 4 odd --schedule-file "$temp/odd.csv" && same one odd; ok $? "one that nobody would write: same bits"
says odd.out "^0 +.*head" && says odd.out "^3 +embedding"; ok $? "... and its stages are in reverse"

# ---- resume: from any mesh on any other, and across chapters ----
program 05_data_parallel 2 mixed --stop-at-step 1; program 07_fsdp 4 mixed --zero-stage 3 --stop-at-step 2 --resume
program 08_tensor_parallel 4 mixed --stop-at-step 3 --resume
on 8 mixed --stop-at-step 4 --resume; ok $? "chapter 05, then 07, 08 and 09"
on 3 mixed --pipeline-parallel-size 3 --stop-at-step 5 --resume; program 08_tensor_parallel 2 mixed --resume; near one mixed; ok $? "... on other stages, and 08 again, to rounding"
on 4 r --stop-at-step 3; on 4 r --resume --pipeline-schedule zb-v; same one r; ok $? "stopped at 3 and resumed by another schedule: the bits of one device"
on 4 nothing --resume; [ $? != 0 ] && grep -q "there is no checkpoint in" "$temp/nothing.err"; ok $? "nothing to resume"

# ---- text through all stages ----
text 1 >"$temp/text1"; [ -s "$temp/text1" ]; ok $? "--prompt on one device"
text 4 | cmp -s - "$temp/text1"; ok $? "... and on 4, the same text"
text 4 --pipeline-parallel-size 2 | cmp -s - "$temp/text1"; ok $? "... and on 2 x 2"

# ---- ended early ----
on 4 nan --learning-rate 1000 --optimizer sgd --grad-clip 0 --max-steps 50; [ $? = 1 ] && one_line_error nan && says nan.err "step [0-9]+: the loss is .* first in the (forward|backward)( towards [a-z ]*)? of"; ok $? "a loss that is not finite: the step and the op, said once"
program 05_data_parallel 1 nan1 --learning-rate 1000 --optimizer sgd --grad-clip 0 --max-steps 50; diff -q <(sed 's/.*error: //' "$temp/nan.err") <(sed 's/.*error: //' "$temp/nan1.err") >/dev/null; ok $? "... as one device says it"
start 4 int --max-steps 100000 --save-interval 2
soon [ -e "$temp/int/checkpoint/step-000004" ]; kill -INT $pid; wait $pid; ok $? "Ctrl-C: ends well"
says int.out "^pictures and checkpoints are in" && is_png "$temp/int/pipeline.png"; ok $? "... saved, drawn and reported"
start 4 kill --max-steps 100000 --save-interval 2
soon [ -e "$temp/kill/checkpoint/step-000004" ]
dies_with kill 2; ok $? "a rank killed: the job ends within 5 s and names it"

# ---- refused ----
check "stages that do not make a mesh" refuses 4 2 "does not make a mesh of 4 devices (hint: " --pipeline-parallel-size 3
check "micro-batches that interleaved cannot take in turns" refuses 4 2 "(hint: " --pipeline-schedule interleaved --global-batch-size 6
check "virtual stages of another schedule" refuses 4 2 "--virtual-stages 3 is for another schedule than 1f1b" --virtual-stages 3
check "a file for other stages" refuses 2 2 "is for 4 stages, and --pipeline-parallel-size is 2 (hint: --pipeline-parallel-size 4" --schedule-file "$temp/odd.csv"
check "a file for other micro-batches" refuses 4 2 "is for 8 micro-batches, and the flags make 4 (hint: --micro-batch-size 1 --global-batch-size 8" --schedule-file "$temp/odd.csv" --global-batch-size 4
check "a file that cannot be run" refuses 4 2 "line " --schedule-file "$temp/bad.csv"
check "a file that is not there" refuses 4 2 "there is no schedule" --schedule-file "$temp/none.csv"
check "gradients in shards out of order" refuses 8 2 "(hint: with --reduce-once they may come in any order" --schedule-file "$temp/odd.csv" --global-batch-size 16 --zero-stage 2
check "slices of layers" refuses 4 2 "--tensor-parallel-size is chapter 08's" --tensor-parallel-size 2
build/09_pipeline_parallel --help >"$temp/help.out" && says help.out "--pipeline-schedule" && says help.out "--schedule-file"; ok $? "--help"
tap_done
