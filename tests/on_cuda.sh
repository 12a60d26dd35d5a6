# shellcheck shell=bash disable=SC2154 # temp is of tap.sh, programs of who sources this
# on_cuda.sh: sourced, behind tap.sh, by tests that run chapters with --device cuda, by the emulator, beside --device cpu.
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
small=(--num-layers 2 --hidden-size 24 --num-attention-heads 2 --intermediate-size 40 --max-seq-length 20
    --global-batch-size 8 --micro-batch-size 1 --max-steps 20 --eval-interval 10 --eval-windows 3 --save-interval 10 --log-interval 10
    --sample-interval 0 --max-new-tokens 8)
unset OMP_NUM_THREADS
export SHARD_EMULATOR_CHECKS=0 # of each access: tests of kernels have them
program() { # program NAME N FOLDER FLAGS...: that of $programs, on N devices; output in FOLDER.out and FOLDER.err
    local name out=$3 n=$2 start=()
    name=$(tr -s ' \n' '\n' <<<"$programs" | grep "/$1")
    [ "$1" = 02_minigpt ] || start=(mpiexec -n "$n")
    timeout 300 "${start[@]}" "$name" "${small[@]}" --output-dir "$temp/$out" "${@:4}" >"$temp/$out.out" 2>"$temp/$out.err" ||
        { sed 's/^/# /' "$temp/$out.err" | head -3; return 1; }
}
