#!/usr/bin/env bash
# Chapters in bf16 with --device cuda, their kernels run by the emulator, beside --device cpu in bf16. Sums differ in their last
# bits, and a number near the middle of two bf16 is then rounded to another one. So the first step's loss is the CPU's to 1e-6.
# A gradient's norm is, too, where logits are cut, as both round their gradient; the head of one device leaves it in f32
# on a CPU, while a GPU's products read bf16. From then on the two drift apart, and in 20 steps about as far as bf16 from f32.
# TEST_ALL has every chapter.
# TEST seconds: 300
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/on_cuda.sh
programs="build-emulated/02_minigpt build-emulated/05_data_parallel build-emulated/07_fsdp
    build-emulated/08_tensor_parallel build-emulated/09_pipeline_parallel build-emulated/10_3d_parallel"
near() { # near A B NORM: of the first step, the norm differs by NORM at most
    python3 - "$temp/$1/loss.csv" "$temp/$2/loss.csv" "$3" <<'E2'
import csv, sys
a, b = (list(csv.DictReader(open(f))) for f in sys.argv[1:3])
assert len(a) == len(b) == 21, (len(a), len(b))
def apart(key, rows):
    return max(abs(float(x[key]) - float(y[key])) / abs(float(x[key])) for x, y in zip(a[:rows], b[:rows]) if x[key])
limits = {(2, "loss"): 2e-6, (2, "val_loss"): 2e-6, (2, "grad_norm"): float(sys.argv[3]),
          (21, "loss"): 1e-3, (21, "val_loss"): 1e-3, (21, "grad_norm"): 3e-2}
far = {(rows, key): apart(key, rows) for rows, key in limits}
print("# first step, 20 steps:", " ".join("%s %.1e" % (key, x) for (rows, key), x in far.items()))
sys.exit(any(not far[k] <= limits[k] for k in limits))
E2
}
both() { # both WHAT NORM NAME N FLAGS...: in bf16, on CPUs and on GPUs
    local what=$1 norm=$2 name=$3 n=$4
    shift 4
    program "$name" "$n" cpu --dtype bf16 "$@" && program "$name" "$n" cuda --device cuda --dtype bf16 "$@" && near cpu cuda "$norm"
    ok $? "$what"
}

both "chapter 02" 5e-3 02_minigpt 1
both "chapter 05 on 2 devices" 5e-3 05_data_parallel 2
both "chapter 10 on 2 x 1 x 2" 1e-5 10_3d_parallel 4 --tensor-parallel-size 2
if [ -n "${TEST_ALL-}" ]; then
    for stage in 1 3; do both "chapter 07, stage $stage" 5e-3 07_fsdp 2 --zero-stage $stage; done
    both "chapter 08 on 2 slices" 1e-5 08_tensor_parallel 2 --tensor-parallel-size 2
    both "chapter 09 on 2 stages" 5e-3 09_pipeline_parallel 2 --pipeline-parallel-size 2
    both "chapter 10 on 1 x 2 x 2" 1e-5 10_3d_parallel 4 --pipeline-parallel-size 2 --tensor-parallel-size 2
    both "rope, grouped heads, swiglu, rmsnorm" 5e-3 02_minigpt 1 --positions rope --num-key-value-heads 1 --activation swiglu --norm rmsnorm
fi
run build-double-emulated/02_minigpt --dtype bf16 --output-dir "$temp/none"
check "a build in double has no bf16" refused 2 "--dtype bf16" "single precision"
tap_done
