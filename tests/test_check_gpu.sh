#!/usr/bin/env bash
# tests/check_gpu, which `make check-gpu` runs, with the emulator: its table, its JSON, a part that fails, parts that cannot
# run, a machine without a GPU.
# TEST seconds: 900
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
unset MAKEFLAGS MFLAGS OMP_NUM_THREADS
export CUDA=emulated
emulated=build-emulated
# it builds build-emulated/02_minigpt and build-emulated/05_data_parallel itself, where they are not there
check_gpu() { run tests/check_gpu "$@"; }
row() { # row RESULT WHAT: stands in the table
    grep -E "^$2 +$1 +[0-9.]+ s" "$temp/out"
}
json() { # json EXPRESSION: is true of the JSON, as j
    python3 -c "import json; j = json.load(open('$emulated/check-gpu.json')); assert ($1), j" 2>&1
}

check_gpu --only "rows, float" "chapter 02, float" "same bits" "1 rank, float" "2 ranks, float" test_nccl racecheck
check "parts that pass" succeeded
for what in "test_cuda_rows, float" "chapter 02, float" "the same bits twice" "chapter 05 on 1 rank, float" "chapter 05 on 2 ranks, float" "test_nccl: NCCL on 1 GPU"; do
    check "... $what" row passed "$what"
done
check "compute-sanitizer has nothing to do here" row skipped "racecheck, test_cuda_rows"
check "the last line counts" grep -qE '^emulated: [0-9]+ passed, 0 failed, 2 skipped; ' <(tail -1 "$temp/out")
check "the JSON has it all" json 'j["gpu"] == "emulated" and j["failed"] == 0 and j["skipped"] == 2 and j["date"] and "commit" in j and
    {(p["what"], p["result"]) for p in j["parts"]} >= {("chapter 02, float", "passed"), ("racecheck, test_cuda_vocabulary", "skipped")} and
    all(p["seconds"] >= 0 for p in j["parts"])'

SHARD_EMULATOR_ERROR=cudaHostAlloc=cudaErrorMemoryAllocation check_gpu --only "rows, float" "chapter 02, float"
[ "$status" = 1 ]; ok $? "a part that fails is the exit status"
check "... and named with its error" grep -qE '^chapter 02, float +failed .*no pinned memory for .*\(hint: ' "$temp/out"
check "... the others go on" row passed "test_cuda_rows, float"
check "... and the JSON says so" json 'j["failed"] == 1'

# a library that is not there, as the compiler sees it
printf '#!/bin/sh\ncase "$*" in *" pcre2.h "*) exit 1 ;; esac\nexec cc "$@"\n' >"$temp/cc"
chmod +x "$temp/cc"
CC=$temp/cc check_gpu --only "rows, float" "chapter 02, float"
check "without a library" succeeded
check "... kernels are tested all the same" row passed "test_cuda_rows, float"
check "... and chapters say what they lack" grep -qE '^chapter 02, float +skipped .* PCRE2 is not installed' "$temp/out"
check_gpu --seconds 0 --only "rows, float"
[ "$status" = 1 ] && ! grep -q passed <(head -n 1 "$temp/out"); ok $? "no time: nothing has passed"

if ! nvidia-smi -L >/dev/null 2>&1; then
    CUDA='' check_gpu
    check "no GPU" refused 1 "check_gpu: error: there is no GPU here" "CUDA=emulated"
fi
tap_done
