#!/usr/bin/env bash
# Chapter 10 as a user meets it, on 1 to 16 devices: a run and its files, the layouts of the seed, the loss of one device on every
# one of them, memory to the byte, checkpoints of any mesh and chapter on any other, samples and prompts through the whole mesh,
# the sweep, Ctrl-C, a rank killed, a number that is not finite, and what is refused. Models are small here, so that each run takes a second.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=10_3d_parallel steps=8
small=(--num-layers 3 --hidden-size 32 --num-attention-heads 4 --intermediate-size 64 --max-seq-length 32
    --global-batch-size 16 --micro-batch-size 1 --max-steps "$steps" --eval-interval 4 --eval-windows 5 --save-interval 4 --log-interval 2
    --sample-interval 0 --max-new-tokens 12)
mesh() { echo --pipeline-parallel-size "$1" --tensor-parallel-size "$2"; } # mesh PIPE TENSOR
# what a dry run predicts is what each device has held
as_predicted() { awk '/^device .*predicted/ { on = 1; next } on && /^bytes/ { exit } on { rows++; if ($NF != 1) bad = 1 } END { exit bad || !rows }' "$temp/$1.out"; }
# ... and so are the bytes that all devices send along each axis
bytes_as_predicted() { awk '/^along .*predicted/ { on = 1; next } on && /^of the last/ { exit } on { rows++; if ($6 != 1) bad = 1 } END { exit bad || rows != 3 }' "$temp/$1.out"; }

# ---- a run and its files ----
on 8 a --sample-interval 4; ok $? "on 8 devices, 2 x 2 x 2"
[ ! -s "$temp/a.err" ]; ok $? "nothing on stderr"
says a.out "pipe 0 +pipe 1" && says a.out "^data 1 +│ 4 │ 5 │ +│ 6 │ 7 │"; ok $? "the mesh is drawn"
says a.out "^World size: 8 .* data parallel: 2 .* tensor parallel: 2 .* pipeline parallel: 2" && says a.out "^Rank 0 \| DP: 0/2 \| TP: 0/2 \| PP: 0/2$" \
    && says a.out "^Rank 6 \| DP: 1/2 \| TP: 0/2 \| PP: 1/2$" && [ "$(grep -c "^Rank " "$temp/a.out")" = 8 ]; ok $? "the banner: all sizes, and each rank's place"
says a.out "^step 2/8 +loss [0-9.]+ +lr [0-9.e-]+ +norm [0-9.]+ +[0-9]+ tokens/s"; ok $? "the log line: step, loss, rate, throughput"
says a.out "^0 +embedding, 0-2 " && says a.out "^1 +head "; ok $? "which blocks each stage has"
for picture in loss timeline pipeline; do is_png "$temp/a/$picture.png"; ok $? "$picture.png"; done
[ -s "$temp/a/schedule.csv" ] && [ -s "$temp/a/run.conf" ]; ok $? "schedule.csv and run.conf"
json a/report.json '[(q["synchronisations"], q["bytes_to_host"]) for q in d["queue"]] == [(1, 16)] * 8'; ok $? "report.json: in a step each device is waited for once"
json a/report.json 'd["chapter"] == "10_3d_parallel" and d["devices"] == 8 and d["mesh"] == {"data": 2, "pipe": 2, "tensor": 2} and len(d["memory"]) == 8'; ok $? "report.json: devices, mesh, memory of each"
[ "$(grep -c . "$temp/a/loss.csv")" = 10 ]; ok $? "metrics in one place, though the loss is on the last stage"
as_predicted a; ok $? "memory of every device, to the byte as predicted"
bytes_as_predicted a; ok $? "what was moved along each axis, as the formulas of three chapters say"
[ "$(grep -c "^a sample at step" "$temp/a.out")" = 2 ]; ok $? "samples at steps 4 and 8"
on 8 again --sample-interval 4; same a again; ok $? "the same run twice: same bits"
on 8 conf --config "$temp/a/run.conf"; same a conf; ok $? "... and from its run.conf"

# ---- one device, and the layouts of the seed ----
program 05_data_parallel 1 one; on 1 alone; same one alone; ok $? "one device: chapter 05's bits"
near one a; ok $? "2 x 2 x 2: to rounding"
layout() { # layout WHAT N PIPE TENSOR FLAGS...
    local what=$1 n=$2 sizes
    sizes=$(mesh "$3" "$4")
    # shellcheck disable=SC2086 # two flags with their values
    on "$n" layout $sizes "${@:5}" && near one layout && as_predicted layout && bytes_as_predicted layout
    ok $? "$what: loss of one device, memory and bytes as predicted"
}
layout "4 DP" 4 1 1 --zero-stage 3
layout "TP 4" 4 1 4 --sequence-parallel
layout "PP 4, more stages than layers" 4 4 1 --pipeline-schedule gpipe; same one layout; ok $? "... its bits"
layout "TP 4 x DP 2" 8 1 4 --zero-stage 2
layout "2 x 2 x 4 devices, 16 of them" 16 2 2 --zero-stage 1 --sequence-parallel
says layout.out "^Rank 15 \| DP: 3/4 \| TP: 1/2 \| PP: 1/2$"; ok $? "... each in its place"
layout "DP 2 x PP 4, zero-bubble" 8 4 1 --pipeline-schedule zb-v --zero-stage 3
layout "PP 2 x TP 4, interleaved, recomputed" 8 2 4 --pipeline-schedule interleaved --recompute --sequence-parallel
layout "PP 2 x TP 2 x DP 2, overlapped" 8 2 2 --pipeline-schedule zb-h1 --overlap-tensor 3 --zero-stage 3 --reduce-once
on 8 ideal --clock model --device-model ideal --pipeline-schedule zb-h1 && bubbles ideal; ok $? "beside data and tensor a pipeline's bubble is still the formula's"
on 8 drop --dropout 0.2 --sequence-parallel; program 05_data_parallel 1 drop1 --dropout 0.2; near drop drop1 && ! near drop one 2>/dev/null; ok $? "dropout is that of one device"

# ---- checkpoints: from any mesh on any other, and across chapters ----
on 8 r --sample-interval 4 --stop-at-step 4; on 8 r --sample-interval 4 --resume; same a r; ok $? "stopped at 4 and resumed: same bits"
program 05_data_parallel 2 mixed --stop-at-step 2; on 8 mixed --stop-at-step 4 --resume --zero-stage 3; ok $? "chapter 05, then 2 x 2 x 2 in shards"
# shellcheck disable=SC2046
on 4 mixed $(mesh 4 1) --pipeline-schedule zb-h1 --stop-at-step 6 --resume && program 08_tensor_parallel 4 mixed --stop-at-step 7 --resume --eval-interval 4; ok $? "... then 4 stages, then chapter 08"
program 09_pipeline_parallel 2 mixed --resume; near one mixed; ok $? "... then chapter 09: the losses of one device"
on 8 weights --load-parameters-path "$temp/a" --max-steps 2 --eval-interval 2; ok $? "weights alone, as a start"

# ---- text on the mesh ----
text 1 >"$temp/text1"; [ -s "$temp/text1" ]; ok $? "--prompt on one device"
text 8 | cmp -s - "$temp/text1"; ok $? "... and on 2 x 2 x 2, the same text"
# shellcheck disable=SC2046
text 4 $(mesh 1 4) | cmp -s - "$temp/text1"; ok $? "... and on 4 slices"

# ---- what each axis is for, by the model clock ----
for n in 1 2; do on 4 sweep$n --sweep axes --device-model a100; done
ok $? "--sweep axes"
cmp -s <(sed '$d' "$temp/sweep1.out") <(sed '$d' "$temp/sweep2.out"); ok $? "the same digits twice"
# every mesh of 4 devices, with its stages of ZeRO; what is not along an axis sends nothing there
awk '/^[0-9] x [0-9] x [0-9] +[013] / { rows++; if (($1 == 1) != ($13 == 0) || ($3 == 1) != ($14 == 0) || ($5 == 1) != ($15 == 0)) bad = 1 } END { exit bad || rows != 10 }' "$temp/sweep1.out"; ok $? "ten rows, each with its traffic"
[ "$(grep -c "^         use it " "$temp/sweep1.out")" = 4 ] && is_png "$temp/sweep1/axes.png" && json sweep1/report.json 'len(d["sweep"]["axes"]) == 10'; ok $? "a line for each axis, the picture, the report"

# ---- ended early ----
start 8 int --max-steps 100000 --save-interval 2
soon [ -e "$temp/int/checkpoint/step-000004" ]; kill -INT $pid; wait $pid; ok $? "Ctrl-C: ends well"
says int.out "^pictures and checkpoints are in"; ok $? "... with all that a run leaves"
start 8 kill --max-steps 100000 --save-interval 2
soon [ -e "$temp/kill/checkpoint/step-000004" ]
dies_with kill 5; ok $? "a rank killed: the job ends within 5 s and names it"
# shellcheck disable=SC2046
on 4 kill $(mesh 2 2) --max-steps 100000 --stop-at-step 2 --resume; [ $? != 124 ] && [ -d "$temp/kill/checkpoint" ]; ok $? "... and its last checkpoint is whole"
on 8 nan --learning-rate 1000 --optimizer sgd --grad-clip 0 --max-steps 50; [ $? = 1 ] && one_line_error nan && says nan.err "step [0-9]+: the loss is .* first in the (forward|backward)( towards [a-z ]*)? of"; ok $? "a loss that is not finite: the step and the op, said once"

# ---- before anything is allocated ----
on 8 ahead --print-memory && says ahead.out "^bytes that a device will hold" && [ ! -e "$temp/ahead" ]; ok $? "--print-memory: answered, and nothing else"
check "a budget that is too small" refuses 8 2 "passes the budget" --device-memory 200K
check "heads that cannot be cut" refuses 8 2 "--tensor-parallel-size 8 does not divide --num-attention-heads 4 (hint: use --tensor-parallel-size 4" --tensor-parallel-size 8 --pipeline-parallel-size 1
check "the seed's xl on its own mesh" refuses 16 2 "--tensor-parallel-size 4 does not divide --num-attention-heads 25 (hint: use --tensor-parallel-size 1 or 5" --preset xl --num-attention-heads 25 --hidden-size 1600 --intermediate-size 6400
check "a mesh that does not fit" refuses 6 2 "does not make a mesh of 6 devices" --tensor-parallel-size 4 --pipeline-parallel-size 1
check "a schedule that needs other micro-batches" refuses 8 2 "interleaved" --pipeline-schedule interleaved --num-microbatches 3 --global-batch-size 6
check "a sequence that cannot be cut" refuses 8 2 "does not divide --max-seq-length 31, which --sequence-parallel needs" --sequence-parallel --max-seq-length 31
check "a shard group across the mesh" refuses 8 2 "--shard-group 3 does not divide the 2 devices along 'data'" --zero-stage 3 --shard-group 3
check "a batch that the pipelines cannot share" refuses 8 2 "--global-batch-size 9 cannot be shared by 2 devices" --global-batch-size 9
check "chapter 05's buckets" refuses 8 2 "--overlap bucket is chapter 05's" --overlap bucket
build/10_3d_parallel --help >"$temp/help.out" && says help.out "--pipeline-schedule" && says help.out "--sequence-parallel" && says help.out "--zero-stage"; ok $? "--help"
tap_done
