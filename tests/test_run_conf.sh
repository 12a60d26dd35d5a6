#!/usr/bin/env bash
# Every training program leaves its configuration in its output folder, and goes the same way by that file: the same bits.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
cat >"$temp/small.conf" <<'END'
# what each of these runs is told
num-layers = 2
hidden-size = 32
num-attention-heads = 4
intermediate-size = 64
max-seq-length = 32
global-batch-size = 8
micro-batch-size = 1
max-steps = 4
eval-interval = 2
eval-windows = 3
save-interval = 2
sample-interval = 0
dropout = 0.1
END
unset OMP_NUM_THREADS # the devices share the cores
goes() { # goes N PROGRAM FLAG ...
    local start=()
    [ "$1" = 1 ] || start=(mpiexec -n "$1")
    run timeout 100 "${start[@]}" "build/$2" "${@:3}"
}
same() { # same N PROGRAM FLAG ...: a run by small.conf and these flags, and one by what it has left
    goes "$1" "$2" --config "$temp/small.conf" --output-dir "$temp/a $2" "${@:3}"
    check "$2 on $1" succeeded
    grep -q '^max-steps = 4$' "$temp/a $2/run.conf" && grep -q "^# What $2 was told on $1 device" "$temp/a $2/run.conf"; ok $? "it leaves run.conf"
    goes "$1" "$2" --config "$temp/a $2/run.conf" --output-dir "$temp/b $2"
    check "again by its run.conf" succeeded
    run build/compare "$temp/a $2" "$temp/b $2"
    check "the same bits" succeeded
    diff <(sed 1,2d "$temp/a $2/run.conf") <(sed 1,2d "$temp/b $2/run.conf") | grep -v output-dir | grep -q '^[<>]'; [ $? = 1 ]; ok $? "... and the same run.conf, but for the folder"
}
same 1 02_minigpt --learning-rate 1e-2
if command -v mpiexec >/dev/null; then
    same 2 05_data_parallel --seed 3
    same 4 08_tensor_parallel --tensor-parallel-size 2 --sequence-parallel
    goes 1 05_data_parallel --config "$temp/a 05_data_parallel/run.conf" --output-dir "$temp/one"
    check "on another number of devices" succeeded
    diff <(sed 1,2d "$temp/a 05_data_parallel/run.conf") <(sed 1,2d "$temp/one/run.conf") | grep '^[<>]' | grep -qvE 'output-dir|^. # num-microbatches'; [ $? = 1 ]; ok $? "the same batch, in other shares"
    goes 2 07_fsdp --config "$temp/a 02_minigpt/run.conf" --output-dir "$temp/other"
    check "what one program was told, another can be told" succeeded
    goes 1 02_minigpt --config "$temp/other/run.conf"
    check "... but for flags of its own" refused 2 "/other/run.conf' line" "model is not a flag"
    goes 4 08_tensor_parallel --config "$temp/small.conf" --output-dir "$temp/x" --tensor-parallel-size 3
    [ "$status" = 2 ] && [ ! -e "$temp/x" ]; ok $? "a mesh that cannot be leaves no folder"
    sed 's/max-steps = 4/max-steps = 5/' "$temp/small.conf" >"$temp/other.conf"
    run timeout 60 mpiexec -n 1 build/05_data_parallel --config "$temp/small.conf" --output-dir "$temp/x" : -n 1 build/05_data_parallel --config "$temp/other.conf" --output-dir "$temp/x"
    [ "$status" != 0 ] && [ "$(grep -c '05_data_parallel: error: ' "$temp/err")" = 1 ] && grep -q "the ranks have read different configurations (hint: " "$temp/err"; ok $? "ranks with different files are refused"
fi
for conf in 01_autograd 03_performance; do
    flags=(--part train --max-steps 2)
    [ $conf = 01_autograd ] || flags=(--config "$temp/three.conf" --max-steps 1 --sweep none)
    grep -vE 'max-steps|interval|eval|dropout' "$temp/small.conf" >"$temp/three.conf"
    goes 1 $conf "${flags[@]}" --output-dir "$temp/a $conf"
    check "$conf" succeeded
    grep -qx "max-steps = ${flags[-1]/none/1}" "$temp/a $conf/run.conf"; ok $? "it leaves run.conf, with flags of its own"
done
tap_done
