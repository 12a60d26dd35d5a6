#!/usr/bin/env bash
# A file of tokens that is shortened while ranks train on it: one line names it, and no rank is said to have died.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
for n in $(seq 3000); do echo "$n little bears and $((n * n)) of their friends went home"; done >"$temp/text.txt"
build/prepare_data --text "$temp/text.txt" --vocab-size 300 --output-dir "$temp/data" >/dev/null
small=(--num-layers 1 --hidden-size 16 --num-attention-heads 1 --intermediate-size 16 --max-seq-length 64 --micro-batch-size 1
    --global-batch-size 12 --max-steps 1000000 --eval-interval 0 --sample-interval 0 --save-interval 0 --log-interval 1)

for ranks in 1 3; do
    cp -r "$temp/data" "$temp/data$ranks"
    : >"$temp/out" # the steps of the ranks before are none of these
    timeout 120 mpiexec -n $ranks build/05_data_parallel "${small[@]}" --data-dir "$temp/data$ranks" --output-dir "$temp/run" \
        >"$temp/out" 2>"$temp/err" </dev/null &
    job=$!
    until grep -q '^step 3/' "$temp/out" || ! kill -0 $job 2>/dev/null; do sleep 0.05; done
    truncate -s 200 "$temp/data$ranks/train_0000.bin"
    wait $job
    status=$?
    grep -E ': (error|warning): ' "$temp/err" >"$temp/said" # of MPICH's own lines, none names a file of ours
    check "$ranks ranks: it ends with an error" test $status != 0
    check "one line names the file" grep -q "^05_data_parallel: error: '$temp/data$ranks/train_0000.bin' was shortened while it was read (hint: " "$temp/said"
    check "and it is all that is said" test "$(wc -l <"$temp/said")" = 1
    sed 's/^/# /' "$temp/err"
done
tap_done
