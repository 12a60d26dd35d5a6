#!/usr/bin/env bash
# Chapter 07 as a user meets it, on 1 to 8 devices: the commands of main.c's header, a run and its files, the bits of chapter
# 05 in every stage, resuming from another stage, another number of devices and chapter 05, Ctrl-C, the small network, both
# sweeps, a model far too large for one device, and what is refused. Models are small here, so that each run takes a second.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=07_fsdp steps=8
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 64
    --global-batch-size 4 --micro-batch-size 1 --max-steps "$steps" --eval-interval 4 --eval-windows 5 --save-interval 4 --log-interval 0)
on05() { program 05_data_parallel "$@"; }
exact() { awk '/ratio$/ { on = 1 } on && $NF ~ /^[0-9.]+$/ && NF >= 4 { rows++; if ($NF != 1) bad = 1 } /^validation/ { on = 0 } END { exit bad || rows != 7 }' "$temp/$1"; }

build/07_fsdp --help >"$temp/help" && grep -A2 -- '--zero-stage N' "$temp/help" | grep -q '\[3\]'; ok $? "--help: stage 3 unless something else is said"

# ---- a run and its files; the bits of chapter 05 ----
on05 4 five; on 4 a; ok $? "stage 3 on 4 devices"
[ ! -s "$temp/a.err" ]; ok $? "nothing on stderr"
same five a; ok $? "... with the losses, weights and moments of chapter 05, to the bit"
exact a.out; ok $? "what a device keeps and all send: seven figures, each the formula's"
for picture in loss timeline memory; do is_png "$temp/a/$picture.png"; ok $? "$picture.png"; done
tail -1 "$temp/a.out" | grep -q "$temp/a$"; ok $? "the last line says where pictures are"
json a/report.json 'd["chapter"] == "07_fsdp" and d["mesh"] == {"data": 4, "pipe": 1, "tensor": 1} and d["parameters"] <= d["memory"][3]["parameters"]["peak"] < d["parameters"] + 4 * 8 * 1024'; ok $? "report.json: a device holds a quarter of the weights, and padding"
json a/report.json '[(q["synchronisations"], q["bytes_to_host"]) for q in d["queue"]] == [(1, 16)] * 4'; ok $? "report.json: in a step each device is waited for once"
for stage in 0 1 2; do
    on 4 s$stage --zero-stage $stage; same five s$stage && exact s$stage.out; ok $? "--zero-stage $stage: same bits, and the formula's bytes"
done
for how in "--prefetch 0" "--prefetch 9" "--overlap none" "--keep-gathered blocks.1,token"; do
    on 4 how $how; same five how && exact how.out; ok $? "$how: same bits, and the formula's bytes"
done
on 4 hybrid --shard-group 2; near five hybrid && exact hybrid.out; ok $? "--shard-group 2: to rounding, and the formula's bytes"
on05 2 more5
on 2 more --reduce-once; same more5 more && exact more.out; ok $? "two micro-batches, --reduce-once: chapter 05's bits"
on 2 more2; near more5 more2 && exact more2.out; ok $? "... without: to rounding"
on 3 three --global-batch-size 6 --dropout 0.2 --recompute --reduce-once; on05 3 three5 --global-batch-size 6 --dropout 0.2; same three5 three; ok $? "3 devices, two micro-batches, dropout, recomputation: chapter 05's bits"
on 1 one --reduce-once; same five one; ok $? "one device, four micro-batches: the same"

# ---- resume ----
on 4 r --stop-at-step 4; on 4 r --resume; same five r; ok $? "stopped at 4 and resumed: same bits"
on 4 r2 --stop-at-step 4 --zero-stage 1; on 4 r2 --resume --zero-stage 3; same five r2; ok $? "... from stage 1 in stage 3"
on 4 r3 --stop-at-step 4; on 4 r3 --resume --zero-stage 2; same five r3; ok $? "... from stage 3 in stage 2"
on05 4 r4 --stop-at-step 4; on 4 r4 --resume; same five r4; ok $? "... from chapter 05"
on 4 r5 --stop-at-step 4; on05 4 r5 --resume; same five r5; ok $? "... and chapter 05 from here"
on 4 r6 --stop-at-step 4; on 3 r6 --resume --global-batch-size 6; ok $? "... on 3 devices, with another batch"
on 2 nothing --resume; [ $? != 0 ] && grep -q "there is no checkpoint in" "$temp/nothing.err"; ok $? "nothing to resume"
build/07_fsdp --output-dir "$temp/a" --prompt "The story" --max-new-tokens 4 >"$temp/prompt.out"; ok $? "--prompt: a text from its checkpoint"

# ---- Ctrl-C ----
start 4 int --max-steps 100000 --save-interval 2
soon [ -e "$temp/int/checkpoint/step-000004" ]; kill -INT $pid; wait $pid; ok $? "Ctrl-C: ends well"
says int.out "^pictures and checkpoints are in" && [ -d "$temp/int/checkpoint/step-$(printf %06d "$(tail -1 "$temp/int/loss.csv" | cut -d, -f1)")" ]; ok $? "... the step is finished and saved"

# ---- the small network, and the sweeps ----
on 8 mlp --global-batch-size 8 --model mlp --mlp-steps 30 --mlp-batch 64 --mlp-hidden 32; ok $? "--model mlp: 8 devices and one"
says mlp.out "^largest difference of the losses: 0$" && is_png "$temp/mlp/waves.png" && is_png "$temp/mlp/prediction.png"; ok $? "... the same losses to the bit, drawn"
on05 8 mlp5 --global-batch-size 8 --model mlp --mlp-steps 30 --mlp-batch 64 --mlp-hidden 32
diff -q <(cut -d, -f1-3 "$temp/mlp/devices/loss.csv") <(cut -d, -f1-3 "$temp/mlp5/devices/loss.csv") >/dev/null; ok $? "... those of chapter 05"
for n in 1 2; do on 4 sweep$n --sweep all --hidden-size 64 --intermediate-size 256 --max-seq-length 32; done
sed '$d' "$temp/sweep1.out" | diff -q - <(sed '$d' "$temp/sweep2.out") >/dev/null && [ "$(wc -l <"$temp/sweep1.out")" -gt 40 ]; ok $? "--sweep all: the same digits twice"
says sweep1.out "^every device holds and sends what the formulas say, to the byte$"; ok $? "... bytes of 3 numbers of devices in 4 stages"
json sweep1/report.json '[(s["devices"], s["stage"]) for s in d["sweep"]["memory"] if s["exact"]] == [(n, s) for n in (1, 2, 4) for s in range(4)]'; ok $? "... in report.json"
awk '/^predicted/ { on = 0; split($0, w, "rightly of "); split(w[2], g, " "); if (g[1] != g[3] || g[1] < 50) bad = 1; seen = 1; next }
    / hidden$/ { on = 1; next } on && NF == 9 { rows++; if ($6 != "1.000000") bad = 1 } END { exit bad || !seen || rows < 9 }' "$temp/sweep1.out"; ok $? "... every all-gather ends when the recurrence says"
for picture in stages memory-stage-0 memory-prefetch-0 memory-prefetch-1 prefetch; do is_png "$temp/sweep1/$picture.png"; ok $? "$picture.png"; done
awk '/^(forward|backward):/ { rows++; found = $(NF - 2); if (found / $NF > 1.25 || found / $NF < 0.8) bad = 1 } END { exit bad || rows != 2 }' "$temp/sweep1.out"; ok $? "... computing hides an all-gather from about as many tokens on as the formula says"

# ---- a model that needs nine times what one device has ----
small=(--num-layers 20 --hidden-size 256 --intermediate-size 1024 --max-steps 10 --eval-windows 1 --stop-at-step 1)
on 8 large --recompute --device-memory 64M; ok $? "the large model: on 8 devices of 64 MB, in shards"
json large/report.json 'max(m["joint_peak"] for m in d["memory"]) < 64 << 20'; ok $? "... within their memory"
on05 1 large1; json large1/report.json 'd["memory"][0]["joint_peak"] > 8 * (64 << 20)'; ok $? "... of which one device needs eight times as much"
on05 1 large5 --device-memory 64M; [ $? = 2 ] && one_line_error large5 05_data_parallel && says large5.err "passes the budget of 67.1 MB"; ok $? "... and one of 64 MB cannot"
on05 8 large5 --recompute --device-memory 64M; [ $? = 2 ] && one_line_error large5 05_data_parallel && says large5.err "passes the budget of 67.1 MB"; ok $? "... nor can 8 without shards"

# ---- refused ----
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 64 --global-batch-size 8 --max-steps 2)
# all devices find it at once, and mpiexec may kill those that have not ended yet
on 2 unit --keep-gathered blocks.7; [ $? != 0 ] && one_line_error unit && says unit.err "there is no unit 'blocks.7' to keep gathered .hint: the units are token, position, blocks.0, blocks.1, norm_final"; ok $? "a unit that is not there"
check "a group that does not divide the devices" refuses 4 2 "--shard-group 3 does not divide the 4 devices along 'data' (hint: --shard-group 2 does, or 4)" --shard-group 3
check "a small network in groups" refuses 4 2 "--model mlp is cut among all devices, without --shard-group" --model mlp --shard-group 2
check "buckets" refuses 2 2 "--overlap bucket is chapter 05's (hint: here gradients are summed in units: none, or backward)" --overlap bucket
check "a stage that there is not" refuses 2 2 "--zero-stage" --zero-stage 4
check "a sweep alone" refuses 1 2 "--sweep compares devices, and there is one" --sweep all
check "a sweep from one block to none" refuses 2 2 "--sweep prefetch looks from one block to the next, and there is one" --sweep prefetch --num-layers 1
check "a batch that the devices cannot share" refuses 4 2 "--global-batch-size 6 cannot be shared by 4 devices" --global-batch-size 6
check "a small network's batch" refuses 3 2 "--mlp-batch 64 cannot be shared by 3 devices" --model mlp --mlp-batch 64 --global-batch-size 9
tap_done
