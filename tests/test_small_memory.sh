#!/usr/bin/env bash
# A container gives 64 MB of /dev/shm, or less, and other programs may fill it, also while a job runs. Ranks need nothing
# of it: neither MPI, to start, nor we, to share memory; what they share is there before they use it.
cd "$(dirname "$0")/.." || exit 1
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
if [ -z "${INSIDE_MEMORY-}" ]; then # the second time, in a namespace whose /dev/shm is its own
    own=(unshare --mount)
    [ "$(id -u)" = 0 ] || own+=(--user --map-root-user)
    "${own[@]}" mount -t tmpfs -o size=1m tmpfs /dev/shm 2>/dev/null || { echo "1..0 # SKIP no namespace can be made here"; exit 0; }
    INSIDE_MEMORY=1 exec "${own[@]}" bash "$0"
fi
. tests/tap.sh
job() { # job RANKS [OPTION ...]
    local ranks=$1
    shift
    run timeout 100 mpiexec -n "$ranks" build/05_data_parallel --hidden-size 16 --num-layers 1 --num-attention-heads 2 \
        --intermediate-size 16 --max-seq-length 32 --micro-batch-size 1 --global-batch-size "$ranks" --eval-windows "$ranks" \
        --max-steps 2 --output-dir "$temp/run" "$@"
}
quiet() { # it succeeded, and said nothing of memory
    succeeded && [ ! -s "$temp/err" ]
}
fill() { head -c 1G /dev/zero >/dev/shm/filled 2>/dev/null; }

for size in 1:2 8:8 32:8 64:16; do # MB:ranks
    mount -t tmpfs -o "size=${size%:*}m" tmpfs /dev/shm
    job "${size#*:}"
    check "${size#*:} ranks with ${size%:*} MB of /dev/shm" quiet
    umount /dev/shm
done

mount -t tmpfs -o size=8m tmpfs /dev/shm
fill
job 8
check "8 ranks, and /dev/shm is full" quiet
rm /dev/shm/filled

# it is filled when the first step has begun, of which loss.csv has a line before it
mount -t tmpfs -o size=64m tmpfs /dev/shm
timeout 100 mpiexec -n 2 build/05_data_parallel --max-steps 3 --eval-windows 8 --output-dir "$temp/filled" >"$temp/out" 2>"$temp/err" </dev/null &
until [ -s "$temp/filled/loss.csv" ] || ! kill -0 $! 2>/dev/null; do sleep 0.005; done
fill
wait $!
status=$?
check "another program fills /dev/shm during the first step" quiet

# the machine has no memory left for the slots; or for what comes before them
for number in 1 2; do
    what="no memory to share (reservation $number): said in one line at the start"
    if strace -f -o /dev/null -e inject=fallocate:error=ENOSPC true 2>/dev/null; then
        run timeout 60 mpiexec -n 2 strace -f -o /dev/null -e trace=fallocate -e "inject=fallocate:error=ENOSPC:when=$number" build/05_data_parallel --output-dir "$temp/none"
        [ "$status" != 0 ] && [ "$(grep -c . "$temp/err")" = 1 ] && [ ! -e "$temp/none" ] && grep -qE 'memory that ranks of one machine (could )?share: No space left on device \(hint: ' "$temp/err"
        ok $? "$what"
    else
        count=$((count + 1))
        echo "ok $count - $what # SKIP strace cannot be used here"
    fi
done
tap_done
