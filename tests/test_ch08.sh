#!/usr/bin/env bash
# Chapter 08 as a user meets it, on 1 to 8 devices: a run and its files, the loss of one device on every mesh and with every
# option, bytes and calls as the formulas say, resuming on other meshes and in other chapters, samples and prompts on the
# mesh, the small network, each mistake, the sweeps, and what is refused. Models are small here, so that each run takes a second.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=08_tensor_parallel steps=8
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 4 --intermediate-size 64 --max-seq-length 32
    --global-batch-size 8 --micro-batch-size 1 --max-steps "$steps" --eval-interval 4 --eval-windows 5 --save-interval 4 --log-interval 2
    --sample-interval 0 --max-new-tokens 12)
# every row of the table: what is predicted is what is counted
as_predicted() { awk '/^bytes / { on = 1; next } on && /^  these/ { exit } on && NF { rows++; if ($NF != 1) bad = 1 } END { exit bad || rows < 6 }' "$temp/$1.out"; }

# ---- a run and its files ----
on 8 a --sample-interval 4; ok $? "on 8 devices, 2 x 4"
[ ! -s "$temp/a.err" ]; ok $? "nothing on stderr"
says a.out "^tensor +0 +1 +2 +3" && says a.out "^data 1 +│ 4 │"; ok $? "the mesh is drawn"
says a.out "blocks.0.qkv.weight +\(32, 96\) +\(32, 24\) +Shard\(1\)" && says a.out "token.weight .*\(256, 32\) +Shard\(0\)"; ok $? "slices are named"
for picture in loss timeline slices; do is_png "$temp/a/$picture.png"; ok $? "$picture.png"; done
json a/report.json '[(q["synchronisations"], q["bytes_to_host"]) for q in d["queue"]] == [(1, 16)] * 8'; ok $? "report.json: in a step each device is waited for once"
json a/report.json 'd["devices"] == 8 and d["mesh"] == {"data": 2, "pipe": 1, "tensor": 4}'; ok $? "report.json: devices and mesh"
as_predicted a; ok $? "bytes and calls are those of the formulas"
says a.out "16 of 2 layers|32 of 2 layers"; ok $? "... four all-reduces of a layer in each micro-batch"
[ "$(grep -c "^a sample at step" "$temp/a.out")" = 2 ]; ok $? "samples at steps 4 and 8"

# ---- one device ----
program 05_data_parallel 1 one; on 1 alone; near one alone; ok $? "one device: chapter 05's losses"
near one a; ok $? "2 x 4: to rounding"
on 8 again --sample-interval 4; same a again; ok $? "the same run twice: same bits"
on 4 t2 --tensor-parallel-size 2; near one t2; ok $? "2 x 2"
on 3 t3 --num-attention-heads 6 --hidden-size 30 --intermediate-size 66 --tensor-parallel-size 3
on 1 t3one --num-attention-heads 6 --hidden-size 30 --intermediate-size 66; near t3 t3one; ok $? "1 x 3, a vocabulary that 3 does not divide"
on 4 sp --sequence-parallel && as_predicted sp; ok $? "--sequence-parallel: bytes and calls"; near one sp; ok $? "... loss"
on 4 kept --sequence-parallel --no-gather-again && as_predicted kept; ok $? "--no-gather-again: bytes and calls"; same sp kept; ok $? "... same bits"
measured() { awk -v what="$2" '$1 == what { print $3; exit }' "$temp/$1.out"; }
[ "$(measured sp activations)" -lt "$(measured kept activations)" ] && [ "$(measured sp all-gather)" -gt "$(measured kept all-gather)" ]; ok $? "... more is kept, and less sent"
on 8 overlap --overlap-tensor 3 && as_predicted overlap; ok $? "--overlap-tensor 3: bytes and calls"; near one overlap; ok $? "... loss"
on 4 recompute --recompute --sequence-parallel && as_predicted recompute; ok $? "--recompute: bytes and calls"; near sp recompute; ok $? "... loss"
heads=(--num-key-value-heads 1 --bias)
on 1 heads1 "${heads[@]}"
on 8 heads "${heads[@]}" --stop-at-step 4 && as_predicted heads; ok $? "one key/value head for 4 devices: bytes and calls"
on 8 drop --dropout 0.2; on 1 drop1 --dropout 0.2; near drop drop1 && ! near drop one 2>/dev/null; ok $? "dropout is that of one device"
for stage in 1 2 3; do
    on 8 z$stage --tensor-parallel-size 2 --zero-stage $stage --sequence-parallel && as_predicted z$stage; ok $? "--zero-stage $stage along data: bytes and calls"
    near one z$stage; ok $? "... loss"
done
on 8 hybrid --tensor-parallel-size 2 --zero-stage 3 --shard-group 2 && as_predicted hybrid; ok $? "--shard-group 2 along data: bytes and calls"; near one hybrid; ok $? "... loss"

# ---- resume: from any mesh on any other, and across chapters ----
on 4 heads "${heads[@]}" --tensor-parallel-size 2 --zero-stage 3 --sequence-parallel --resume; near heads1 heads; ok $? "2 x 4 with shared heads, resumed on 2 x 2 in shards"
as_predicted heads; ok $? "... bytes and calls, where ffn_up alone is gathered again"
program 05_data_parallel 2 mixed --stop-at-step 2; program 07_fsdp 4 mixed --zero-stage 3 --stop-at-step 4 --resume
on 8 mixed --stop-at-step 6 --resume; ok $? "chapter 05, then 07, then 08"
program 05_data_parallel 8 mixed --resume; near one mixed; ok $? "... and 05 again, to rounding"
on 8 r --sample-interval 4 --stop-at-step 4; on 8 r --sample-interval 4 --resume; same a r; ok $? "stopped at 4 and resumed: same bits"
on 4 nothing --resume; [ $? != 0 ] && grep -q "there is no checkpoint in" "$temp/nothing.err"; ok $? "nothing to resume"

# ---- text on the mesh ----
text 1 >"$temp/text1"; [ -s "$temp/text1" ]; ok $? "--prompt on one device"
text 4 | cmp -s - "$temp/text1"; ok $? "... and on 4, the same text"
text 2 --tensor-parallel-size 2 | cmp -s - "$temp/text1"; ok $? "... and on 2"

# ---- the small network ----
mlp=(--model mlp --mlp-steps 30 --mlp-batch 64 --mlp-hidden 32)
on 8 mlp "${mlp[@]}"; ok $? "--model mlp: 2 x 4 devices and one, to rounding"
says mlp.out "up.weight +\(128, 32\) .*\(128, 8\) +Shard\(1\)" && says mlp.out "down.weight +\(32, 128\) .*\(8, 128\) +Shard\(0\)" && is_png "$temp/mlp/waves.png"; ok $? "... its slices, and both curves"

# ---- mistakes ----
mistake() { # mistake NAME WHAT: what notices it
    on 8 wrong --mistake "$1"
    says wrong.out "^2 x 4 devices .* the same$" && says wrong.out "^noticed by: $2$"
    ok $? "--mistake $1: noticed by $2"
}
gradient="the gradient of one device" copies="copies that drift apart"
mistake copy-unchecked "$gradient, and $copies"
mistake reduce-unchecked "$gradient"
mistake unsummed "$gradient, and $copies"
mistake fused "$gradient"
mistake padding "$gradient"
mistake local-count "$gradient"
mistake local-norm "$copies"
mistake dropout "$gradient, and $copies"
placed() { # placed NAME WORDS: an op says so, and the program ends
    on 8 wrong --mistake "$1"; [ $? != 0 ] && one_line_error wrong && grep -qF -- "$2" "$temp/wrong.err"
    ok $? "--mistake $1: refused by an op"
}
placed copy "must be Private where 'blocks.0.qkv.weight' is Shard(1) (hint: op_copy makes it each device's own)"
placed reduce "must be placed alike (hint: each device has a value of its own"
placed bias "would be added once for each device along 'tensor'"

# ---- the sweeps, by the model clock ----
for n in 1 2; do on 4 sweep$n --sweep all --tensor-parallel-size 2 --device-model a100; done
ok $? "--sweep all"
digits() { sed '$d; / x /s/ *[0-9.]*$//' "$temp/$1.out"; } # without the last column, which this machine's clock has measured
digits sweep1 | diff -q - <(digits sweep2) >/dev/null; ok $? "the same digits twice"
meshes() { # the line of a mesh, and below it the formula's
    awk '/^ *[124] x [124] +measured/ { rows++; step = $5; tensor = $8; data = $9 }
         /^ +by formula/ && (step < 0.95 * $3 || step > 1.05 * $3 || tensor != $6 || data != $7) { bad = 1 }
         /^ +by formula/ { formulas++ }
         END { exit bad || rows != 3 || formulas != 3 }' "$temp/$1.out"
}
meshes sweep1; ok $? "every mesh: the step is the formula's within 5%, collectives exactly"
awk '/^ +[0-9]+ +[0-9.]+ +-?[0-9.]+ +-?[0-9.]+ +[0-9.]+$/ { rows++; if ($5 < 0.999 || $5 > 1.001) bad = 1 } END { exit bad || rows != 5 }' "$temp/sweep1.out"; ok $? "every --overlap-tensor saves what the formula says"
for picture in meshes overlap layer; do is_png "$temp/sweep1/$picture.png"; ok $? "$picture.png"; done

on 4 sweep3 --sweep meshes --sequence-parallel && meshes sweep3; ok $? "... and with --sequence-parallel"

# ---- ended early ----
on 8 nan --learning-rate 1000 --optimizer sgd --grad-clip 0 --max-steps 50; [ $? = 1 ] && one_line_error nan && says nan.err "step [0-9]+: the loss is .* first in the (forward|backward)( towards [a-z ]*)? of"; ok $? "a loss that is not finite: the step and the op, said once"

# ---- refused ----
check "heads that cannot be cut" refuses 8 2 "--tensor-parallel-size 8 does not divide --num-attention-heads 4 (hint: use --tensor-parallel-size 4" --tensor-parallel-size 8
check "key/value heads that cannot be cut" refuses 6 2 "--num-key-value-heads 2 and --tensor-parallel-size 3: neither divides the other" --tensor-parallel-size 3 --num-attention-heads 6 --num-key-value-heads 2 --hidden-size 36 --intermediate-size 36
check "a sequence that cannot be cut" refuses 4 2 "does not divide --max-seq-length 30, which --sequence-parallel needs" --sequence-parallel --max-seq-length 30
check "two ways to move the same sums" refuses 4 2 "--overlap-tensor cuts all-reduces into pieces, and with --sequence-parallel there are none" --sequence-parallel --overlap-tensor 2
check "a mesh that does not fit" refuses 6 2 "tensor 4 does not make a mesh of 6 devices (hint: data 2 x pipe 1 x tensor 3 would" --tensor-parallel-size 4
check "a shard group across the mesh" refuses 8 2 "--shard-group 3 does not divide the 4 devices along 'data' (hint: --shard-group 2 does, or 4)" --tensor-parallel-size 2 --zero-stage 3 --shard-group 3
check "a batch that the devices cannot share" refuses 8 2 "--global-batch-size 6 cannot be shared by 4 devices" --tensor-parallel-size 2 --global-batch-size 6
check "a small network that cannot be cut" refuses 4 2 "--tensor-parallel-size 4 does not divide --mlp-hidden 30" --model mlp --mlp-hidden 30 --mlp-batch 64
check "a mistake that needs company" refuses 1 2 "--mistake needs devices that share each layer" --mistake fused
check "chapter 05's buckets" refuses 4 2 "--overlap bucket is chapter 05's" --overlap bucket
check "chapter 09's stages" refuses 4 2 "--pipeline-parallel-size is chapter 09's" --pipeline-parallel-size 2 --tensor-parallel-size 2
on 8 a --prompt Once --tensor-parallel-size 8; [ $? = 2 ] && one_line_error a && says a.err "8 does not divide --num-attention-heads 4"; ok $? "a checkpoint whose heads cannot be cut: said once"
build/08_tensor_parallel --help >"$temp/help.out" && says help.out "--sequence-parallel" && says help.out "--mistake"; ok $? "--help"
tap_done
