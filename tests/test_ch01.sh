#!/usr/bin/env bash
# Chapter 01 as a user meets it: a short run and its files, same bits, double precision, mistakes.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
program=build/01_autograd
short=(--part train --hidden-size 128 --global-batch-size 64 --max-steps 40 --log-interval 10 --eval-interval 10)
train() { # train FOLDER FLAGS...: output in FOLDER.out, its status is the program's
    local out=$1
    shift
    "$program" "${short[@]}" --output-dir "$temp/$out" "$@" >"$temp/$out.out" 2>"$temp/$out.err"
}
losses() { cut -d, -f1-6 "$temp/$1/loss.csv"; } # all but the times
is_png() { [ "$(head -c 8 "$1" | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ]; }
refused() { # refused STATUS PART FLAGS...: exit STATUS and one line that holds PART
    local status=$1 part=$2
    shift 2
    "$program" --output-dir "$temp/bad" "$@" >/dev/null 2>"$temp/bad.err"
    [ $? = "$status" ] && [ "$(wc -l <"$temp/bad.err")" = 1 ] && grep -q ': error: .*hint' "$temp/bad.err" &&
        grep -q -- "$part" "$temp/bad.err"
    ok $? "refused: $*"
}

# ---- all parts ----
"$program" "${short[@]}" --part all --gemm-sizes 33,5x70x9 --gemm-seconds 0 --output-dir "$temp/all" >"$temp/all.out" 2>"$temp/all.err"
ok $? "all parts"
for picture in gemm sample prediction loss; do is_png "$temp/all/$picture.png"; ok $? "$picture.png is a PNG"; done
for line in '33 x 33 x 33 .*naive' 'OpenBLAS .*100.0%' '^ 0  linear ' 'loss = .* = 6$' '^PASS: ' '^mean squared error'; do
    grep -qE -- "$line" "$temp/all.out"; ok $? "the output says '$line'"
done
! grep -q WRONG "$temp/all.out"; ok $? "no rung is wrong"
[ ! -s "$temp/all.err" ]; ok $? "nothing on stderr"
tail -1 "$temp/all.out" | grep -q "$temp/all"; ok $? "the last line says where the pictures are"

# ---- the run's files ----
train a; ok $? "a short training run"
[ "$(head -1 "$temp/a/loss.csv")" = step,tokens,loss,val_loss,lr,grad_norm,step_ms,tokens_per_s ]; ok $? "loss.csv has its header"
[ "$(wc -l <"$temp/a/loss.csv")" = 42 ]; ok $? "loss.csv has step 0 and 40 steps"
awk -F, 'NR == 2 {first = $4} NR > 2 && $4 != "" {last = $4} END {exit !(last < first / 5 && last > 0.0025)}' "$temp/a/loss.csv"
ok $? "the validation loss comes down, and not below the noise"
for key in chapter arguments machine devices threads_per_device parameters matmul_parameters flops_per_token steps tokens wall_s tokens_per_s peak_gflops mfu loss val_loss memory; do
    grep -q "\"$key\": [^n]" "$temp/a/report.json"; ok $? "report.json has $key"
done

# ---- same bits ----
train b; losses b | diff -q - <(losses a) >/dev/null; ok $? "the same run twice: same losses"
OMP_NUM_THREADS=1 train one; losses one | diff -q - <(losses a) >/dev/null; ok $? "1 thread and 2: same losses"
train other --seed 2; ! losses other | diff -q - <(losses a) >/dev/null; ok $? "another seed: other losses"
train sgd --optimizer sgd --learning-rate 0.1; ! losses sgd | diff -q - <(losses a) >/dev/null; ok $? "sgd is another optimizer"

# ---- double precision ----
build-double/01_autograd --part check --check-each 8 --output-dir "$temp/d" >"$temp/d.out"; ok $? "gradients in double precision"
grep -q 'tolerance 1e-08, step' "$temp/d.out"; ok $? "... to 1e-8"
"$program" --part check --check-tolerance 1e-12 --output-dir "$temp/c" >"$temp/c.out"; [ $? = 1 ] && grep -q '^FAIL' "$temp/c.out"
ok $? "a check that fails exits 1"

# ---- flags that other chapters have too ----
train openblas --gemm openblas; ! losses openblas | diff -q - <(losses a) >/dev/null && diff <(losses openblas | cut -c1-8) <(losses a | cut -c1-8); ok $? "products by OpenBLAS: other roundings"
refused 2 "built for CPUs alone" --part train --device cuda
refused 2 "built for CPUs alone" --part tape --device cuda

# ---- mistakes ----
refused 2 gemm-sizes --gemm-sizes 12,x
refused 2 gemm-sizes --gemm-sizes 0
refused 2 gemm-sizes --gemm-sizes 5000
refused 2 part --part everything
refused 2 hidden-size --hidden-size 0
refused 2 global-batch-size --global-batch-size 1.5
refused 2 max-steps --max-steps 0
refused 2 learning-rate --learning-rate nan
refused 2 beta1 --beta1 1
refused 2 check-step --check-step 0
refused 2 'did you mean --gemm-sizes' --gemm-size 64
refused 2 'num-layers' --num-layers 3
refused 1 'the loss is' "${short[@]}" --optimizer sgd --learning-rate 1000
refused 1 'budget' "${short[@]}" --device-memory 100K
mkdir -p "$temp/file"; touch "$temp/file/x"
refused 1 'folder' "${short[@]}" --output-dir "$temp/file/x"
PMI_SIZE=2 refused 2 mpiexec --part tape
"$program" --help | grep -q -- '--gemm-sizes LIST'; ok $? "--help lists the flags"
tap_done
