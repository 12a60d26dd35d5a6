#!/usr/bin/env bash
# The emulator's proof: small kernels, each right and with one mistake, which is found and named whatever the order of threads;
# and what it counts.
. tests/tap.sh
kernels=build-emulated/tests/emulator_kernels

# FILE:LINE of the line of tests/emulator that is marked so
at() { grep -nF -- "/* LINE $1 */" tests/emulator/*.cu | cut -d: -f1,2; }

# named CASE WHAT PART ...: the broken kernel ends the program with one line that names it and holds the parts; the right
# one passes; with each seed
named() { check "$1: $2" found "$1" "${@:3}"; }
found() {
    local seed
    for seed in 0 1 2 3; do
        export SHARD_EMULATOR_SEED=$seed
        run "$kernels" "$1"
        succeeded || return 1
        run "$kernels" "$1" broken
        refused 1 "error: kernel " "(launched at tests/emulator/" "${@:2}" || return 1
    done
}

named reverse "a barrier removed" "'tile' at" "$(at 'reverse: written')" "$(at 'reverse: read')" "without a barrier between"
named reuse "a barrier removed at the end of a loop" "shared 'tile' at" "$(at 'reuse: written')" "$(at 'reuse: read')" "without a barrier between"
named diverge "a barrier in two branches" "waits at" "$(at 'diverge: one')" "$(at 'diverge: other')"
named leave "a return before a barrier" "waits at $(at leave) for thread (50,0,0), which has ended"
named rounds "a barrier that some come to more often" "for thread (0,0,0), which has ended" "common/cuda/gpu.h:" "$(at rounds)"

named half "a mask off by one" "__shfl_xor_sync with mask 0x1ffff for thread (16,0,0), which has ended"
named without "a lane that its mask does not name" "thread (31,0,0) calls __ballot_sync with a mask that it is not in"
named source "a value of a lane outside of the mask" "the value of lane 16 in __shfl_sync, which is not there"
named ragged "a value of a lane that the block does not have" "the value of lane 8 in __shfl_down_sync, which is not there"
named apart "half a warp at a shuffle, half at a barrier" "waits in __shfl_down_sync" "for thread (16,0,0), which waits at tests/emulator/"
named exchange "a shuffle for __syncwarp" "shared 'tile' at" "$(at exchange)" "without a barrier between"
named across "__syncwarp for __syncthreads" "shared 'tile' at" "$(at across)" "without a barrier between"
named quarters "__syncwarp of too few" "shared 'tile' at" "$(at quarters)" "without a barrier between"

named past "an index off by one" "block (3,0,0): thread (4,0,0) writes 4 bytes outside of memory at $(at past): byte 400 of" "which has 400"
named past_shared "an index off by one, of a shared array" "thread (31,0,0) reads 4 bytes outside of memory at $(at past_shared): byte 128 of shared 'tile', which has 128"
named shift "an index before the first" "thread (0,0,0) reads 4 bytes outside of memory at $(at shift)"
named far "an index far away" "reads 4 bytes outside of memory at $(at far): which is no memory of the device's"
named unwritten "global memory that nobody has written" "thread (31,0,0) reads byte 124 of" "at $(at unwritten), which nobody has written"
named unwritten_shared "shared memory that nobody has written" "thread (31,0,0) reads byte 124 of shared 'sums' at $(at unwritten_shared), which nobody has written"
named outlive "shared memory of another block" "block (1,0,0)" "of shared 'dynamic shared memory' at $(at outlive), which nobody has written"
named halves "halves of a word, two threads" "$(at halves)" "without a barrier between"

named neighbour "a race in global memory, within a block" "$(at 'neighbour: read')" "$(at 'neighbour: written')" "without a barrier between"
named blocks "two blocks write a word" "writes byte 0 of" "$(at blocks)" "of block (" "without a barrier between"
named chain "a block reads what another writes" "$(at chain)" "of block (" "without a barrier between"
named histogram "an atomic, and a read without a barrier" "shared 'bins' at" "$(at histogram)" "without a barrier between"
named total "an atomic, and a sum that is none" "byte 0 of" "$(at total)" "of block (" "without a barrier between"
named last "a word is written that another warp may still read" "thread (5,0,0)" "shared 'word' at" "$(at last)" "without a barrier between"

named threads "2000 threads" "nothing_kernel" "a block of (2000,1,1) is 2000 threads"
named blocks_in_y "65536 blocks in y" "a grid of (1,65536,1) blocks"
named no_blocks "no blocks" "a grid of (0,1,1) blocks"
named dynamic "too much dynamic shared memory" "50176 bytes of shared memory, of at most 49152"
named static "too much static shared memory" "49168 bytes of shared memory with 'tile', of at most 49152"
named together "too much of both" "50176 bytes of shared memory with 'tile', of at most 49152"
named no_dynamic "dynamic shared memory that the launch does not give" "the launch gives none"

# counts CASE WHAT KERNEL NUMBERS: sectors, those over needed ones, accesses of shared memory, turns for each, the worst,
# barriers, atomics
counts() { check "$1${3:+, broken}: $2" counted "$@"; }
counted() {
    run "$kernels" "$1" $3
    succeeded || return 1
    [ "$(awk -v kernel="$1_kernel" '$1 == kernel { print $4, $5, $6, $7, $8, $9, $10 }' "$temp/out")" = "$4" ]
}
unset SHARD_EMULATOR_SEED
counts order "neighbours read neighbours: each sector once" "" "512 1.00 0 0.00 0 0 0"
counts order "a row apart: a sector for each number" broken "4096 8.00 0 0.00 0 0 0"
counts transpose "a padded tile has no bank conflicts" "" "256 1.00 64 1.00 1 1 0"
counts transpose "a tile as wide as the banks has 32 ways" broken "256 1.00 64 16.50 32 1 0"
counts doubles "8 bytes take two turns, a word for all one" "" "8 1.00 8 1.00 1 1 0"
counts doubles "every second double: two ways" broken "8 1.00 8 1.25 2 1 0"
counts histogram "barriers of blocks, atomics of threads" "" "0 0.00 20 1.00 1 8 260"

export SHARD_EMULATOR_CHECKS=0
run "$kernels" reverse
check "without checks nothing is counted, and kernels run" succeeded
run "$kernels" leave broken
check "and who would wait for ever is named" refused 1 "kernel leave_kernel<true>" "which has ended"
tap_done
