#!/usr/bin/env bash
# --dtype bf16 in every chapter that trains: the bits of chapter 02 where devices do not share a layer, rounding to bf16 where
# they do; bytes and messages as the formulas say; the loss of f32 nearly; checkpoints that go on in either type.
# TEST starts: compare
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=02_minigpt steps=12
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 4 --intermediate-size 64 --max-seq-length 64 --dropout 0.1
    --global-batch-size 4 --micro-batch-size 2 --max-steps "$steps" --eval-interval 6 --eval-windows 5 --save-interval 6 --log-interval 0
    --sample-interval 0)
alone() { build/02_minigpt "${small[@]}" --output-dir "$temp/$1" "${@:2}" >"$temp/$1.out" 2>"$temp/$1.err"; }
# exact FOLDER: what a device keeps and all send, as far as the program says so, is the formula's
exact() { awk '/predicted +measured  ratio$/ { on = /^bytes/ } on && $NF ~ /^[0-9.]+$/ && $(NF - 1) ~ /^[0-9]+$/ && $(NF - 2) ~ /^[0-9]+$/ { rows++; if ($NF != 1) bad = 1 } /^validation/ { on = 0 } END { exit bad || rows < 6 }' "$temp/$1.out"; }
# drift A B: the largest difference of two losses of a step, in proportion
drift() {
    python3 - "$temp/$1/loss.csv" "$temp/$2/loss.csv" <<'END'
import csv, sys
a, b = ([float(r["loss"]) for r in csv.DictReader(open(f)) if r["loss"]] for f in sys.argv[1:3])
assert len(a) == len(b) > 0
print(max(abs(x - y) / x for x, y in zip(a, b)))
END
}
within() { python3 -c "import sys; low, x, high = map(float, sys.argv[1:]); sys.exit(not low < x < high)" "$1" "$2" "$3"; }

alone f32; ok $? "chapter 02 in f32"
alone bf16 --dtype bf16; ok $? "... and in bf16"
[ ! -s "$temp/bf16.err" ]; ok $? "nothing on stderr"
grep -q "matrices once more in bf16" "$temp/bf16.out" && ! grep -q bf16 "$temp/f32.out"; ok $? "the banner says so"
off=$(drift f32 bf16); within 1e-7 "$off" 5e-3; ok $? "the losses are those of f32 to $off"
json bf16/report.json '"bf16" in d["arguments"]'; ok $? "report.json has it"
python3 - "$temp/f32" "$temp/bf16" <<'END'
import json, sys
f32, bf16 = (json.load(open(f + "/report.json"))["memory"][0] for f in sys.argv[1:])
assert bf16["gradients"] == f32["gradients"] and bf16["optimizer"] == f32["optimizer"]
assert 1.4 < bf16["parameters"]["peak"] / f32["parameters"]["peak"] < 1.5
assert bf16["activations"]["peak"] < f32["activations"]["peak"]
END
ok $? "gradients and moments take as much, parameters half as much again, activations less"

# ---- checkpoints ----
alone r --dtype bf16 --stop-at-step 6 && alone r --dtype bf16 --resume; ok $? "stopped and resumed"
same bf16 r; ok $? "... to the bit"
alone c --stop-at-step 6 && alone c --dtype bf16 --resume; ok $? "from f32 on in bf16"
grep -q 'dtype "bf16" (was "f32")' "$temp/c.err" "$temp/c.out"; ok $? "... which is said"
cmp -s <(cd "$temp/f32/checkpoint" && find . -name '*.safetensors' -size +0 -printf '%f %s\n' | sort) <(cd "$temp/bf16/checkpoint" && find . -name '*.safetensors' -size +0 -printf '%f %s\n' | sort)
ok $? "checkpoints of both are of the same size"
build/02_minigpt --output-dir "$temp/f32" --prompt "Once" --dtype bf16 --max-new-tokens 5 >"$temp/text" 2>&1; ok $? "--prompt in bf16, from weights of f32"

# ---- several devices ----
on05() { program 05_data_parallel "$@" --dtype bf16; }
on05 2 five; same bf16 five; ok $? "05, 2 devices: the bits of chapter 02"
for stage in 1 2 3; do
    program 07_fsdp 2 seven$stage --dtype bf16 --zero-stage $stage --reduce-once && same bf16 seven$stage && exact seven$stage
    ok $? "07, stage $stage: the same, and the formula's bytes"
done
program 07_fsdp 2 again --dtype bf16 --prefetch 1 --recompute --micro-batch-size 1 && exact again; ok $? "07, two micro-batches, recomputed: the formula's bytes"
awk '$1 == "all-gather" { print $2 }' "$temp/seven3.out" >"$temp/narrow"
program 07_fsdp 2 wide --reduce-once && awk '$1 == "all-gather" { print $2 / 2 }' "$temp/wide.out" | cmp -s - "$temp/narrow"; ok $? "... of which the all-gathers are half of those in f32"
program 09_pipeline_parallel 2 nine --dtype bf16 --pipeline-parallel-size 2 && same bf16 nine && exact nine; ok $? "09, 2 stages: the bits of chapter 02, and the formula's bytes"
for how in "" "--sequence-parallel" "--sequence-parallel --gather-again --zero-stage 3" "--overlap-tensor 3"; do
    # shellcheck disable=SC2086
    program 08_tensor_parallel 2 eight --dtype bf16 --tensor-parallel-size 2 $how && exact eight; ok $? "08, 2 devices to a layer $how: the formula's bytes"
    off=$(drift bf16 eight); within 0 "$off" 5e-3; ok $? "... chapter 02's losses to $off"
done
program 10_3d_parallel 4 ten --dtype bf16 --tensor-parallel-size 2 --pipeline-parallel-size 2; ok $? "10, 1 x 2 x 2"
off=$(drift bf16 ten); within 0 "$off" 5e-3; ok $? "... chapter 02's losses to $off"
[ "$(awk '/^device +parameters/ { on = 1; next } on && $NF ~ /^1$/ { rows++ } END { print rows }' "$temp/ten.out")" != "" ]; ok $? "... and the memory that was predicted"

# ---- what is refused ----
run build/02_minigpt --dtype f16; check "another type" refused 2 "--dtype" "f32"
tap_done
