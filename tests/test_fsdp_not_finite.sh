#!/usr/bin/env bash
# A weight that is no number, on one device of fully sharded training, or a weight's gradient alone: all ranks end, and one
# of them names the op that meets it first, though it takes gathers of all to find it.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }

train() { # train RANKS STAGE PREFETCH SHARD_GROUP WHAT
    run timeout 60 mpiexec -n "$1" build/tests/fsdp_not_finite "${@:2}"
    grep ': error: ' "$temp/err" >"$temp/ours" # mpiexec may add lines of its own
    mv "$temp/ours" "$temp/err"
}
for case in "4 3 1 0" "4 3 0 2" "3 3 5 0" "4 2 0 0" "3 1 0 0" "2 0 0 0" "1 3 1 0"; do
    # shellcheck disable=SC2086
    train $case weight
    check "ranks, stage, prefetch, group $case: the step and the op, said once" refused 1 \
        "step 2: the loss is nan and the norm of its gradient nan; first in the forward of linear 'blocks.1.ffn_up.weight'"
done
for case in "3 3 1 0" "4 2 0 2" "3 1 0 0" "2 0 0 0" "1 2 0 0"; do
    # shellcheck disable=SC2086
    train $case gradient
    check "ranks, stage, prefetch, group $case: ... of a gradient" refused 1 "step 2: the loss is " \
        "and the norm of its gradient nan; first in the backward towards the weights of linear 'blocks.1.ffn_up.weight'"
done
tap_done
