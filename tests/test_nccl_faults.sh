#!/usr/bin/env bash
# What goes wrong in calls on the memory of GPUs (NCCL's emulator) is an error of one line, never a hang: calls that do not
# match, a call that nobody waited for, one GPU for two, errors of NCCL's, a rank that is killed meanwhile.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
faults="build-emulated/tests/nccl_faults"
faulty() { # faulty WHAT TEXT COMMAND ...: ends with an error that says TEXT, on one line
    run timeout 60 build-emulated/mpiexec -n 2 "${@:3}"
    [ "$status" != 0 ] && [ "$status" != 124 ] && grep -q "^nccl_faults: error: .*$2" "$temp/err"
    said=$?
    ok $said "$1"
    [ $said = 0 ] || sed 's/^/# /' "$temp/err"
}
run timeout 60 build-emulated/mpiexec -n 2 $faults sum
check "nothing wrong" succeeded
faulty "other counts" "do not match: member [01] makes ncclAllReduce of .* elements" $faults count
faulty "another reduction" "member 0 makes .*, sum, member 1 .*, max\|member 1 makes .*, max, member 0 .*, sum" $faults reduction
faulty "another call" "do not match: .*ncclBroadcast of 1000" $faults kind
faulty "a message of another length" "do not match: .* ncclRecv of 20 .*ncclSend of 10" $faults message
faulty "a kernel that does not wait for a call" "'ncclAllReduce' on stream .*'x'.*'memset'.*no event\\|'memset' on stream .*'x'.*'ncclAllReduce'.*no event" $faults not-waited
faulty "one GPU for two processes" "group 'world': .*invalid usage.*: Duplicate GPU detected (hint: .*--share-gpu" $faults one-gpu
faulty "NCCL cannot begin" "group 'world': ncclCommInitRankConfig: unhandled system error.*hint: NCCL_DEBUG=WARN" env SHARD_EMULATOR_ERROR=ncclCommInitRankConfig=ncclSystemError $faults sum
faulty "a call fails" "group 'world': ncclAllReduce: invalid argument" env SHARD_EMULATOR_ERROR=ncclAllReduce=ncclInvalidArgument $faults sum
faulty "something fails later" "group 'world': NCCL: remote process exited.*hint: another process has ended" env SHARD_EMULATOR_ERROR=ncclCommGetAsyncError=ncclRemoteError $faults sum

mkdir "$temp/ready"
timeout 60 build-emulated/mpiexec -n 2 $faults work "$temp/ready" >"$temp/out" 2>"$temp/err" &
job=$!
for _ in $(seq 600); do [ "$(find "$temp/ready" -type f | wc -l)" = 2 ] && break; sleep 0.05; done
sleep 0.3
killed=$(cat "$temp/ready/1")
kill -9 "$killed"
for _ in $(seq 100); do kill -0 $job 2>/dev/null && sleep 0.05; done
! kill -0 $job 2>/dev/null
ok $? "a rank that is killed: the job ends within 5 s"
! wait $job
ok $? "with an error"
grep -q "nccl_faults: error: rank 1 died (process $killed" "$temp/err"
ok $? "which names it"
tap_done
