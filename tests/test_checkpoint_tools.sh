#!/usr/bin/env bash
# Checkpoints of several devices as a user meets them: join_checkpoint makes one file of a set, and cuts one; a run begins with
# the weights of another (--load-parameters-path), whatever wrote them; what does not fit is refused by name. --keep-checkpoints.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 64 --activation swiglu
    --global-batch-size 4 --micro-batch-size 1 --eval-interval 0 --eval-windows 4 --sample-interval 0 --log-interval 0)
unset OMP_NUM_THREADS # the devices share the cores
alone() { run timeout 120 build/02_minigpt "${small[@]}" --output-dir "$temp/$1" "${@:2}"; }
on() { run timeout 120 mpiexec -n "$1" "build/$2" "${small[@]}" --output-dir "$temp/$3" "${@:4}"; }
set_of() { printf '%s/%s/checkpoint/step-%06d' "$temp" "$1" "$2"; }
row() { sed -n "$(($2 + 2))p" "$temp/$1/loss.csv" | cut -d, -f2-6; } # of step 0, 1 ...
same() { build/compare "$@" | grep '^the same bits'; }
says() { grep -qF -- "$2" "$temp/$1"; }

on 4 08_tensor_parallel cut --tensor-parallel-size 2 --zero-stage 2 --max-steps 4
check "a run on 2 x 2 devices" succeeded
cut=$(set_of cut 4)
check "... leaves a file of each" test "$(printf '%s ' "$cut"/*.safetensors)" = "$(printf "$cut/part-%04d-of-0004.safetensors " 0 1 2 3)"

# ---- the tool ----
run build/join_checkpoint "$cut" "$temp/joined"
check "joined" succeeded
check "... into the files of one device" test "$(ls "$(set_of joined 4)" | tr '\n' ' ')" = "manifest.json model.safetensors optimizer.safetensors state.json tokenizer.json "
check "... with the same bits" same "$cut" "$(set_of joined 4)"
run build/join_checkpoint --parts 7 "$temp/joined" "$temp/seven"
check "cut in seven" succeeded
check "... with the same bits" same "$cut" "$(set_of seven 4)"
run build/join_checkpoint "$temp/seven" "$temp/weights.safetensors"
check "the weights alone in one file" succeeded
check "... with the same bits" same "$temp/weights.safetensors" "$(set_of joined 4)/model.safetensors"
run build/join_checkpoint "$temp/seven" "$temp/seven"
check "a set in place of itself" same "$cut" "$(set_of seven 4)"
run build/join_checkpoint --help
check "--help" succeeded
refuses() { # refuses STATUS PART WORDS...
    run build/join_checkpoint "${@:3}"
    check "join_checkpoint ${*:3}: $2" refused "$1" "$2"
}
refuses 2 "0 words given"
refuses 2 "1 words given" "$cut"
refuses 2 "there is no '$temp/nowhere'" "$temp/nowhere" "$temp/x"
refuses 2 "no checkpoint in '$temp'" "$temp" "$temp/x"
refuses 2 "--parts is 0" --parts 0 "$cut" "$temp/x"
refuses 2 "--parts is 2x" --parts 2x "$cut" "$temp/x"
refuses 2 "one file, --parts makes 2" --parts 2 "$cut" "$temp/x.safetensors"
refuses 2 "'--part' is not a flag" --part "$cut"
refuses 1 "cannot open '$temp/nowhere/x.safetensors.tmp'" "$cut" "$temp/nowhere/x.safetensors"
cp -r "$temp/cut" "$temp/torn"
printf x | dd of="$(set_of torn 4)/part-0002-of-0004.safetensors" bs=1 seek=9000 conv=notrunc status=none
refuses 1 "file 'part-0002-of-0004.safetensors' is damaged" "$(set_of torn 4)" "$temp/x"

cp -r "$temp/torn" "$temp/torn-2"
on 4 07_fsdp torn-2 --max-steps 6 --resume; check "--resume, whose files the devices verify together: said once" test "$(grep -c ': error: ' "$temp/err")" = 1
check "... and by name" grep -qF "file 'part-0002-of-0004.safetensors' is damaged" "$temp/err"
run build/02_minigpt --output-dir "$temp/torn" --prompt One; check "... on one device, of which a text is asked" refused 1 "file 'part-0002-of-0004.safetensors' is damaged"

# ---- every program goes on from every set ----
for folder in cut joined seven; do cp -r "$temp/$folder" "$temp/$folder-2"; done
cp "$temp/cut/loss.csv" "$temp/joined-2"; cp "$temp/cut/loss.csv" "$temp/seven-2"
for folder in cut joined seven; do
    on 4 08_tensor_parallel "$folder-2" --tensor-parallel-size 2 --zero-stage 2 --max-steps 6 --resume
    check "$folder: resumed" succeeded
    check "... with the same bits" same "$temp/cut-2" "$temp/$folder-2"
done
cp -r "$temp/cut" "$temp/alone"; cp -r "$temp/cut" "$temp/five"
alone alone --max-steps 6 --resume; check "one device goes on from a set of four" succeeded
on 4 05_data_parallel five --max-steps 6 --resume; check "and so do four that hold all of it" succeeded
check "... with the same losses" test "$(row alone 5)" = "$(row five 5)"
run build/02_minigpt --output-dir "$temp/cut" --prompt "One day" --max-new-tokens 4; check "--prompt, on one device" succeeded

# ---- weights alone ----
val() { row "$1" 0 | cut -d, -f3; }
alone from-cut --max-steps 2 --load-parameters-path "$cut"; check "--load-parameters-path, a set of four devices" succeeded
alone from-run --max-steps 2 --load-parameters-path "$temp/seven"; check "... a run, whose newest it is" succeeded
alone from-file --max-steps 2 --load-parameters-path "$temp/weights.safetensors"; check "... a file of weights" succeeded
check "the same bits: they start with the same weights, and with nothing else" same "$temp/from-cut" "$temp/from-run"
check "..." same "$temp/from-cut" "$temp/from-file"
alone fresh --max-steps 2; check "a run of its own" succeeded
check "the loss at the start is the trained model's" python3 -c "import sys; a, b = map(float, sys.argv[1:]); assert a < b - 0.5" "$(val from-cut)" "$(val fresh)"
check "step, data and rate are those of a new run" test "$(cut -d, -f1,2,5 "$temp/from-cut/loss.csv")" = "$(cut -d, -f1,2,5 "$temp/fresh/loss.csv")"
for how in "05_data_parallel" "07_fsdp --zero-stage 3" "07_fsdp --zero-stage 1" "08_tensor_parallel --tensor-parallel-size 2"; do
    # shellcheck disable=SC2086 # words
    set -- $how
    on 4 "$1" many "${@:2}" --max-steps 2 --load-parameters-path "$cut"
    check "... on 4 devices, $how" succeeded
    check "... the same loss at the start" python3 -c "import sys; a, b = map(float, sys.argv[1:]); assert abs(a - b) < 1e-4" "$(val many)" "$(val from-cut)"
done
cp -r "$temp/from-cut" "$temp/again"
alone again --max-steps 3 --resume --load-parameters-path "$temp/nowhere"; check "--resume has its own weights" succeeded

alone x --load-parameters-path "$temp/nowhere"; check "no such folder" refused 1 "there is no checkpoint in '$temp/nowhere'"
alone x --load-parameters-path "$temp/nowhere.safetensors"; check "no such file" refused 1 "cannot open '$temp/nowhere.safetensors'"
alone x --load-parameters-path "$cut" --intermediate-size 96; check "another width" refused 1 "tensor 'blocks.0.ffn_" "has shape (" "expected ("
alone x --load-parameters-path "$cut" --num-layers 3; check "a layer that is not there" refused 1 "has no tensor 'blocks.2."
alone x --load-parameters-path "$cut" --num-layers 1; check "a layer too many" refused 1 "has a tensor 'blocks.1." "that this model lacks"
on 4 07_fsdp x --load-parameters-path "$cut" --num-layers 1; check "... on several devices it is said once" test "$(grep -c ': error: ' "$temp/err")" = 1
alone x --load-parameters-path "$cut/part-0001-of-0004.safetensors"; check "one file of four" refused 1 "are in none of its files"

# ---- how many stay ----
on 2 07_fsdp kept --max-steps 6 --save-interval 1 --keep-checkpoints 4; check "--keep-checkpoints 4" test "$(ls "$temp/kept/checkpoint" | tr '\n' ' ')" = "step-000003 step-000004 step-000005 step-000006 "
alone kept1 --max-steps 3 --save-interval 1 --keep-checkpoints 1; check "--keep-checkpoints 1, on one device" test "$(ls "$temp/kept1/checkpoint")" = step-000003
on 2 07_fsdp waits --max-steps 3 --save-interval 1 --no-async-save; check "--no-async-save" succeeded
tap_done
