#!/usr/bin/env bash
# Chapters with --device cuda, their kernels run by the emulator, beside the same with --device cpu, in double: the same losses
# to 1e-10, on one device and on several; a run that goes on on the other kind of device; text from it; a trace; the report's account of
# what a queue was given. Chapter 04 says the same on both, word for word, but for a rounding; its every access is checked.
# TEST_ALL has every chapter on a list of meshes, and checks of every access meanwhile.
# TEST seconds: 1600
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/on_cuda.sh
programs="build-double-emulated/01_autograd build-double-emulated/02_minigpt build-double-emulated/03_performance build-double-emulated/04_collectives build-double-emulated/05_data_parallel build-double-emulated/07_fsdp
    build-double-emulated/08_tensor_parallel build-double-emulated/09_pipeline_parallel build-double-emulated/10_3d_parallel"
near() { # near A B: the losses and norms of two runs, to rounding
    python3 -c "
import csv, sys
a, b = (list(csv.DictReader(open(f'$temp/{f}/loss.csv'))) for f in sys.argv[1:3])
assert len(a) == len(b) == 21, (len(a), len(b))
worst = max(abs(float(x[k]) - float(y[k])) / abs(float(x[k])) for x, y in zip(a, b) for k in ('loss', 'val_loss', 'grad_norm') if x[k])
print('# largest difference %.2g' % worst)
assert worst < 1e-10" "$1" "$2"
}
both() { # both WHAT NAME N FLAGS...: on CPUs and on GPUs
    local what=$1 name=$2 n=$3
    shift 3
    program "$name" "$n" cpu "$@" && program "$name" "$n" cuda --device cuda "$@" && near cpu cuda
    ok $? "$what"
}

waves() { build-double-emulated/01_autograd --output-dir "$temp/01-$1" --device "$1" --hidden-size 24 --max-steps 20 --eval-interval 10 --gemm-sizes 20 --gemm-seconds 0 >"$temp/01-$1.out"; }
said() { sed -n '/^---- tensors/,/^---- gradients/p; /squared error/p' "$temp/01-$1.out"; }
waves cpu && waves cuda && near 01-cpu 01-cuda && [ "$(said cpu | wc -l)" -gt 30 ] && diff <(said cpu) <(said cuda) && grep -q "^PASS" "$temp/01-cuda.out"; ok $? "chapter 01: the same tour, check and network"
! SHARD_EMULATOR_DEVICES=0 waves cuda 2>"$temp/01.err" && grep -q "no CUDA-capable device" "$temp/01.err"; ok $? "... which need a GPU"
performance() { build-double-emulated/03_performance --output-dir "$temp/03-$1" --device "$1" --num-layers 1 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 32 --global-batch-size 4 --max-steps 2 --warmup-steps 1 --sweep none >"$temp/03-$1.out"; }
counted() { sed -n '/^---- what a step computes/,/^---- where/p' "$temp/03-$1.out"; }
performance cpu && performance cuda && [ "$(counted cpu | wc -l)" -gt 6 ] && diff <(counted cpu) <(counted cuda) && grep -q "^matrix product .* an emulated GPU" "$temp/03-cuda.out" && ! grep -qE "nan|inf\b" "$temp/03-cuda.out"
ok $? "chapter 03: the same FLOPs and bytes, held against this GPU"
both "chapter 02" 02_minigpt 1
[ "$(SHARD_EMULATOR_SEED=7 program 02_minigpt 1 again --device cuda; cut -d, -f1-6 "$temp/again/loss.csv" | cksum)" = "$(cut -d, -f1-6 "$temp/cuda/loss.csv" | cksum)" ]
ok $? "... the same bits again, in whatever order the streams' work is done"
program 02_minigpt 1 cross --stop-at-step 10 && program 02_minigpt 1 cross --resume --device cuda && near cpu cross; ok $? "begun on a CPU, goes on on a GPU"
program 02_minigpt 1 back --device cuda --stop-at-step 10 && program 02_minigpt 1 back --resume && near cpu back; ok $? "... and the other way round"
text() { build-double-emulated/02_minigpt --output-dir "$temp/cpu" --prompt "Once there" --temperature 0 --max-new-tokens 8 "$@" 2>/dev/null | head -1; }
[ -n "$(text)" ] && [ "$(text)" = "$(text --device cuda)" ]; ok $? "the same text"
# A trace has the GPU's times: each stream's work is one after the other, and where another stream's comes first it does. By a
# seed streams take turns in any order that events allow.
SHARD_EMULATOR_SEED=3 program 05_data_parallel 2 traced --device cuda --trace --stop-at-step 6; ok $? "chapter 05 on 2 devices, with a trace"
python3 - "$temp/traced" <<'E2'
import json, sys
events = json.load(open(sys.argv[1] + "/trace.json"))["traceEvents"]
for device, queue in enumerate(json.load(open(sys.argv[1] + "/report.json"))["queue"]):
    mine = [e for e in events if e["pid"] == device]
    row = {e["args"]["name"]: e["tid"] for e in mine if e["name"] == "thread_name"}
    spans = lambda name: sorted(((e["ts"], e["ts"] + e["dur"], e) for e in mine if e["ph"] == "X" and e["tid"] == row[name]), key=lambda s: s[:2])
    work, calls, whole = spans("queue: kernels and copies"), spans("data, collectives"), spans("step")
    nested = [s for name in row if name.startswith("backward") for s in spans(name) if "shapes" in s[2]["args"]]
    for stream in work, calls:
        assert all(a[1] <= b[0] + 2e-3 for a, b in zip(stream, stream[1:])), "spans of a stream overlap"
    steps = [s for s in whole if s[2]["name"].startswith("step ")]
    assert len(steps) == 6 and {"forward", "optimizer", "clip"} <= {s[2]["name"] for s in whole}
    for n, (begin, end, _) in enumerate(steps):
        inside = lambda stream: [s for s in stream if begin <= s[0] and s[1] <= end + 2e-3]
        kernels, here = [s for s in inside(work) if "bytes" not in s[2].get("args", {})], inside(calls)
        named = lambda name: [s for s in kernels if s[2]["name"] == name]
        if n == 5:
            print("# device %d: %d kernels, %d calls, launches %d" % (device, len(kernels), len(here), queue["launches"]))
            assert len(kernels) + len(here) == queue["launches"]
        # tokens, gradients, loss: each call is between what makes its input and what reads its result
        tokens, gradients, loss = here
        copies = [s for s in inside(work) if s[2]["name"] == "copy to the device"]
        assert copies[-1][1] <= tokens[0] + 2e-3 and tokens[1] <= named("reciprocal_kernel")[0][0] + 2e-3, "the tokens"
        back = inside(nested)
        assert len(back) > 100 and max(s[1] for s in back) <= gradients[0] + 2e-3 and gradients[1] <= named("squares_kernel")[0][0] + 2e-3, "the gradients"
        assert named("add_means_kernel")[-1][1] <= loss[0] + 2e-3 and loss[1] <= named("clip_kernel")[0][0] + 2e-3, "the loss"
E2
ok $? "... which has streams in rows, every launch of a step, and calls between what makes their inputs and what reads their results"
python3 - "$temp/cuda/report.json" <<'E2'
import json, sys
queue = json.load(open(sys.argv[1]))["queue"][0]
print("#", queue)
sys.exit(not (queue["launches"] > 100 and queue["synchronisations"] <= 1))
E2
ok $? "a step launches kernels, and the host waits for it once at most"

# The GPU has the next step, or more of it, when the host hears that this one's numbers are not finite: no weight has changed.
lost() { # lost NAME N FLAGS...: an error on CPUs, and the same on GPUs
    local where
    for where in cpu cuda; do ! program "$1" "$2" lost-$where --device $where --learning-rate 1000 --weight-decay 1000 --warmup-ratio 0 --grad-clip 0 "${@:3}" >/dev/null || return 1; done
    head -1 "$temp/lost-cpu.err" "$temp/lost-cuda.err" | grep error | sed 's/^/# /'
    grep -q "step [0-9]*: the loss is .*; first in the" "$temp/lost-cpu.err" &&
        [ "$(grep -o "step [0-9]*:\|first in.*" "$temp/lost-cpu.err")" = "$(grep -o "step [0-9]*:\|first in.*" "$temp/lost-cuda.err")" ]
    ok $? "a loss that is not finite, $1 on $2: the same step, the same op"
}
lost 02_minigpt 1
lost 10_3d_parallel 4 --pipeline-parallel-size 2 --zero-stage 1

# By the model clock, so that times are the same as well. What may differ: threads of the host, roundings of sums.
says() { # says FOLDER N FLAGS...: all parts of chapter 04
    SHARD_EMULATOR_CHECKS=1 timeout 300 mpiexec -n "$2" build-double-emulated/04_collectives --clock model --device-model a100 --tries 1 \
        --matrix-rows 64 --matrix-columns 128 --ring-count 1003 --largest-message 64K --hidden-size 24 --intermediate-size 48 \
        --global-batch-size 48 --output-dir "$temp/04" "${@:3}" >"$temp/04.out" || return 1
    sed -E 's/^( +[0-9]+) +[0-9]+ +(shared|nobody)/\1 \2/; s/ are apart by .*//; s/(all-reduce) [^ ]+; /\1 /' "$temp/04.out" >"$temp/$1.said"
}
for n in 1 3 4; do
    says cpu "$n" && says cuda "$n" --device cuda && grep -q "sums of squares" "$temp/cpu.said" && diff "$temp/cpu.said" "$temp/cuda.said"
    ok $? "chapter 04 on $n: the same words"
done
SHARD_EMULATOR_CHECKS=1 timeout 300 mpiexec -n 3 build-double-emulated/04_collectives --tries 1 --matrix-rows 64 --matrix-columns 128 --ring-count 1003 \
    --largest-message 64K --output-dir "$temp/04" --device cuda >"$temp/04.out" && grep -q "NCCL" "$temp/04.out"
ok $? "... by NCCL, and its sums are right"
for n in 2 4; do both "chapter 05 on $n devices" 05_data_parallel $n; done
grep -q "^4 devices, joined by NCCL" "$temp/cuda.out" && grep -q "GPU 0, an emulated GPU, 16 GiB, [0-9]* GFLOP/s" "$temp/cuda.out"; ok $? "the banner says what they are"
SHARD_EMULATOR_SEED=5 program 05_data_parallel 4 again --device cuda && cut -d, -f1-6 "$temp/again/loss.csv" | cmp - <(cut -d, -f1-6 "$temp/cuda/loss.csv"); ok $? "the same bits in another order of the streams' work"
SHARD_EMULATOR_DEVICES=1 program 05_data_parallel 4 shared --device cuda --share-gpu && near cpu shared && grep -q "^4 devices, which share memory" "$temp/shared.out"; ok $? "4 processes on one GPU"
! SHARD_EMULATOR_DEVICES=1 program 05_data_parallel 2 none --device cuda >/dev/null && grep -q "process 1 of this machine has no GPU: it has 1 (hint: .*--share-gpu" "$temp/none.err"; ok $? "which they must want"
both "chapter 07, stage 1: results in the place of their inputs" 07_fsdp 2 --zero-stage 1
both "chapter 10 on 2 x 1 x 2, ZeRO 3" 10_3d_parallel 4 --tensor-parallel-size 2 --zero-stage 3
if [ -n "${TEST_ALL-}" ]; then
    both "chapter 05 on 1 device" 05_data_parallel 1
    for stage in 0 2 3; do both "chapter 07, stage $stage" 07_fsdp 2 --zero-stage $stage; done
    program 07_fsdp 2 cross --zero-stage 3 --stop-at-step 10 && program 07_fsdp 2 cross --zero-stage 3 --resume --device cuda && near cpu cross
    ok $? "... begun on CPUs, goes on on GPUs"
    both "chapter 07 on 4 devices" 07_fsdp 4 --zero-stage 3 --prefetch 2
    both "chapter 08 on 2 slices" 08_tensor_parallel 2 --tensor-parallel-size 2
    both "chapter 08 on 2 x 2, sequence parallel" 08_tensor_parallel 4 --tensor-parallel-size 2 --sequence-parallel
    for schedule in gpipe 1f1b zb-h1; do both "chapter 09 on 2 stages, $schedule" 09_pipeline_parallel 2 --pipeline-parallel-size 2 --pipeline-schedule $schedule; done
    both "chapter 09 on 2 x 2" 09_pipeline_parallel 4 --pipeline-parallel-size 2
    both "chapter 10 on 1 x 2 x 2" 10_3d_parallel 4 --pipeline-parallel-size 2 --tensor-parallel-size 2
    program 10_3d_parallel 4 cross --pipeline-parallel-size 2 --tensor-parallel-size 2 --device cuda --stop-at-step 10 &&
        program 10_3d_parallel 4 cross --tensor-parallel-size 2 --zero-stage 3 --resume && near cpu cross
    ok $? "... begun on GPUs, goes on on CPUs, as 2 x 1 x 2"
    both "chapter 09, zb-v, on 2 stages" 09_pipeline_parallel 2 --pipeline-parallel-size 2 --pipeline-schedule zb-v --num-layers 4
    both "chapter 09, interleaved, on 2 stages" 09_pipeline_parallel 2 --pipeline-parallel-size 2 --pipeline-schedule interleaved --num-layers 4
    both "chapter 10 on 2 x 2 x 1, ZeRO 2" 10_3d_parallel 4 --pipeline-parallel-size 2 --zero-stage 2
    both "rope, grouped heads, swiglu, rmsnorm, recomputed" 02_minigpt 1 --positions rope --num-key-value-heads 1 --activation swiglu --norm rmsnorm --recompute
    both "relu, untied, post-norm, dropout" 02_minigpt 1 --activation relu --no-tied --norm-place post --dropout 0.1
    export SHARD_EMULATOR_CHECKS=1
    checked() { # checked NAME N FLAGS...: two steps
        program "$1" "$2" checked --device cuda --stop-at-step 2 "${@:3}"
        ok $? "two steps with every access checked: $*"
    }
    checked 02_minigpt 1
    checked 05_data_parallel 2
    for stage in 1 3; do checked 07_fsdp 2 --zero-stage $stage; done
    checked 08_tensor_parallel 2 --tensor-parallel-size 2
    checked 09_pipeline_parallel 2 --pipeline-parallel-size 2
    checked 10_3d_parallel 4 --pipeline-parallel-size 2 --tensor-parallel-size 2
    checked 10_3d_parallel 4 --tensor-parallel-size 2
fi
tap_done
