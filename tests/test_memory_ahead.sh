#!/usr/bin/env bash
# --print-memory of chapters 05 and 07 to 10: what it says of each device is what the run then holds, to the byte. A run that
# --device-memory does not hold is refused before it begins, with a change that would do; a model of any size is told of.
# TEST tier: more
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
small=(--num-layers 3 --hidden-size 32 --num-attention-heads 4 --intermediate-size 64 --max-seq-length 32
    --global-batch-size 8 --max-steps 3 --eval-windows 5 --eval-interval 2 --save-interval 2 --sample-interval 0 --max-new-tokens 12)
unset OMP_NUM_THREADS # the devices share the cores
on() { # on CHAPTER N FOLDER FLAGS...
    local chapter=$1 n=$2 out=$3
    shift 3
    timeout 120 mpiexec -n "$n" "build/$chapter" "${small[@]}" --output-dir "$temp/$out" "$@" >"$temp/$out.out" 2>"$temp/$out.err"
}
# the table's rows, spread over the devices, beside the report: each class, and all together
as_held() {
    python3 - "$temp/$1.out" "$temp/$1/report.json" <<'END'
import json, re, sys
rows = {}
for line in open(sys.argv[1]):
    found = re.fullmatch(r'(\d[\d, -]*?) {2,}((?:\d+ *){6})\n', line)
    for part in found.group(1).split(', ') if found else []:
        ends = [int(end) for end in part.split(' - ')]
        for device in range(ends[0], ends[-1] + 1): rows[device] = [int(word) for word in found.group(2).split()]
memory = json.load(open(sys.argv[2]))['memory']
held = [[device[kind]['peak'] for kind in ('parameters', 'gradients', 'optimizer', 'activations', 'communication')] + [device['joint_peak']] for device in memory]
assert [rows[device] for device in sorted(rows)] == held, (rows, held)
END
}
told() { # told CHAPTER N FLAGS...: the table, then the run
    rm -rf "$temp/run"
    on "$1" "$2" run --print-memory "${@:3}" || return 1
    mv "$temp/run.out" "$temp/table.out"
    [ ! -d "$temp/run" ] || return 1 # nothing was begun
    on "$1" "$2" run "${@:3}" || return 1
    cat "$temp/table.out" "$temp/run.err"
    mv "$temp/table.out" "$temp/run.out"
    as_held run
}

check "chapter 05 on 4" told 05_data_parallel 4 --micro-batch-size 1
check "chapter 07 on 3, in shards, without prefetch" told 07_fsdp 3 --prefetch 0 --global-batch-size 6 --micro-batch-size 1
check "chapter 08 on 2 x 2, sequence parallel, in shards, with samples" told 08_tensor_parallel 4 --tensor-parallel-size 2 --sequence-parallel --zero-stage 3 --sample-interval 1
check "chapter 10 on 1 x 2 x 2" told 10_3d_parallel 4 --pipeline-parallel-size 2 --tensor-parallel-size 2 --micro-batch-size 2 --tied
if [ -n "${TEST_ALL:-}" ]; then
    check "chapter 09 on 4, with samples" told 09_pipeline_parallel 4 --sample-interval 1 --micro-batch-size 1 --pipeline-schedule zb-h1
    check "... 2 x 2, in shards, interleaved" told 09_pipeline_parallel 4 --pipeline-parallel-size 2 --micro-batch-size 1 --zero-stage 3 --pipeline-schedule interleaved
    check "chapter 10 on 2 x 2 x 1, in shards, recomputed" told 10_3d_parallel 4 --pipeline-parallel-size 2 --tensor-parallel-size 1 --zero-stage 3 --recompute --micro-batch-size 1
    check "chapter 05 on 1" told 05_data_parallel 1
    check "... recomputed, with dropout" told 05_data_parallel 2 --recompute --dropout 0.1 --overlap none
    check "... of one step, with rotary positions and a gated part" told 05_data_parallel 2 --stop-at-step 1 --positions rope --activation swiglu --norm rmsnorm
    for stage in 0 1 2 3; do check "chapter 07, stage $stage" told 07_fsdp 4 --zero-stage $stage --micro-batch-size 1; done
    check "... prefetch 3, some kept, in groups" told 07_fsdp 4 --prefetch 3 --keep-gathered blocks.1 --shard-group 2
    check "... two micro-batches, added up once" told 07_fsdp 2 --prefetch 0 --reduce-once --micro-batch-size 2
    for n in 1 4; do check "chapter 08 on $n, with samples" told 08_tensor_parallel $n --sample-interval 1; done
    check "... 1 x 4, sharing a key head, recomputed, in pieces" told 08_tensor_parallel 4 --num-key-value-heads 1 --recompute --overlap-tensor 3
    SHARD_SHARED_RANKS=2 check "... on two machines" told 08_tensor_parallel 4 --tensor-parallel-size 2
fi

# ---- by the model clock ----
on 05_data_parallel 4 clock --print-memory --clock model --device-model a100; mv "$temp/clock.out" "$temp/told.out"
on 05_data_parallel 4 clock --clock model --device-model a100
python3 - "$temp/told.out" "$temp/clock/loss.csv" <<'END'
import csv, re, sys
told = float(re.search(r'^a step takes (\S+) ms by the clock of a100$', open(sys.argv[1]).read(), re.M).group(1))
took = float([row['step_ms'] for row in csv.DictReader(open(sys.argv[2])) if row['step_ms']][-1])
assert abs(told / took - 1) < 1e-5, (told, took)
END
ok $? "by the model clock, the time of a step"

# ---- a limit ----
together() { awk '$1 == "0" { print $NF }' "$temp/$1.out"; }
on 08_tensor_parallel 4 told --print-memory; bytes=$(together told); [ -n "$bytes" ]; ok $? "what all of them hold"
on 08_tensor_parallel 4 held --device-memory "$bytes"; ok $? "a limit of just that is enough"
on 08_tensor_parallel 4 short --device-memory $((bytes - 1)); [ $? = 2 ] && [ ! -e "$temp/short" ] && [ "$(grep -c . "$temp/short.err")" = 1 ] && grep -q "passes the budget of .* by 1 B; .*(hint: with --recompute it holds " "$temp/short.err"; ok $? "a byte less is refused, by one rank, with what would fit"
on 08_tensor_parallel 4 short --device-memory $((bytes - 1)) --recompute; ok $? "... which does"
fits() { # fits CHAPTER N LIMIT FLAG...: refused with a hint that has the flag; with the hint's flags it runs
    local flags chapter=$1 n=$2 limit=$3 hint=$4
    shift 4
    on "$chapter" "$n" short --device-memory "$limit" "$@"; [ $? = 2 ] || return 1
    cat "$temp/short.err"
    flags=$(sed -n 's/.*(hint: with \(.*\)it holds.*/\1/p' "$temp/short.err")
    [[ $flags == *$hint* ]] || return 1
    # shellcheck disable=SC2086 # several flags
    on "$chapter" "$n" short --device-memory "$limit" "$@" $flags
}
wide=(--hidden-size 128 --intermediate-size 512)
check "a smaller micro-batch fits" fits 05_data_parallel 2 7700K "--micro-batch-size 2 --num-microbatches 2" --recompute --num-layers 1
check "a higher stage fits" fits 07_fsdp 4 13M --zero-stage "${wide[@]}" --recompute --zero-stage 0 --micro-batch-size 1 --global-batch-size 4
check "more stages fit" fits 09_pipeline_parallel 4 20M --pipeline-parallel-size "${wide[@]}" --recompute --pipeline-parallel-size 2 --zero-stage 3 --micro-batch-size 1 --pipeline-schedule gpipe
check "more devices to a layer fit" fits 08_tensor_parallel 4 10M --tensor-parallel-size "${wide[@]}" --recompute --tensor-parallel-size 1 --zero-stage 3 --micro-batch-size 1
on 05_data_parallel 2 none --device-memory 100K; [ $? = 2 ] && grep -q "(hint: even with --recompute --micro-batch-size 1 --num-microbatches 4 it holds .* MB: try a smaller model" "$temp/none.err"; ok $? "where nothing fits, it says so"
on 07_fsdp 2 both --device-memory 1M --print-memory; [ $? = 2 ] && grep -q "^0 " "$temp/both.out" && grep -q "passes the budget" "$temp/both.err"; ok $? "--print-memory shows what is refused"

# ---- what no machine here holds ----
(ulimit -v 6000000; env -u SHARD_CLOSED_MEMORY build/07_fsdp --preset xl --print-memory --output-dir "$temp/xl" >"$temp/xl.out") && awk '$1 == 0 && $NF > 4e10 { good = 1 } END { exit !good }' "$temp/xl.out"; ok $? "xl on one device: 40 GB, of which nothing is taken"
small=(--preset xl --num-attention-heads 32 --output-dir "$temp/xl")
on 08_tensor_parallel 8 xl --print-memory --zero-stage 3 && awk '$1 == 0 && $NF > 1e9 { good = 1 } END { exit !good }' "$temp/xl.out"; ok $? "... and in shards on 8"
tap_done
