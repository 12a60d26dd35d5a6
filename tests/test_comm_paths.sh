#!/usr/bin/env bash
# However the bytes travel, through shared memory, by message or both, within a machine or between two, every result of
# tests/test_comm.c has the same bits, and tests/test_message_ops.c passes. TEST tier: more
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
bits() { # bits RANKS [OPTION OF MPIEXEC ...]: a hash of all results; nothing when one was wrong
    local ranks=$1
    shift
    timeout 120 mpiexec "$@" -n "$ranks" build/tests/test_comm >"$temp/out" && sed -n 's/^# bits //p' "$temp/out"
}
for ranks in 3 ${TEST_ALL:+5}; do
    want=$(bits $ranks)
    [ -n "$want" ]; ok $? "$ranks ranks in shared memory: $want"
    [ "$(SHARD_SHARED_RANKS=1 bits $ranks)" = "$want" ]; ok $? "$ranks ranks, by message: the same bits"
    [ "$(SHARD_SHARED_RANKS=2 bits $ranks)" = "$want" ]; ok $? "$ranks ranks, in pairs: the same bits"
    if mpiexec --version | grep -q HYDRA; then # which can start ranks of two machines on one
        [ "$(bits $ranks -launcher fork -hosts a,b)" = "$want" ]; ok $? "$ranks ranks on two machines: the same bits"
    fi
done
for shared in 1 2; do
    SHARD_SHARED_RANKS=$shared timeout 120 mpiexec -n 3 build/tests/test_message_ops >"$temp/out"
    ok $? "test_message_ops on 3 ranks of which $shared share memory"
done
tap_done
