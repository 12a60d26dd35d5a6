#!/usr/bin/env bash
# The machine's two MPIs, MPICH and Open MPI, whichever of them is in build/ (TEST tier: all; TEST seconds: 1200). The same
# bits, more ranks than cores, as root and as an ordinary user, make chNN and launch; a program that the other one's mpiexec
# starts says so; and a build folder follows when the machine's MPI changes.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
mpi_of() { common/tools/mpiexec_of "$1" 2>/dev/null | sed -n 's/^# .*: the mpiexec of \(.*\), the MPI of .*/\1/p'; }
this=$(mpi_of "${MPICC:-mpicc}")
[ -n "$this" ] || { echo "1..0 # SKIP no MPI here"; exit 0; }
other='' second=build-second-mpi
for mpicc in mpicc.mpich mpicc.openmpi /usr/lib64/mpich/bin/mpicc /usr/lib64/openmpi/bin/mpicc; do
    found=$(mpi_of $mpicc)
    [ -z "$found" ] || [ "$found" = "$this" ] || other=$found other_mpicc=$mpicc
done
[ -n "$other" ] || { echo "1..0 # SKIP only $this here (tests/install-packages second-mpi installs another one)"; exit 0; }
targets() { printf "$second/%s " "${@##*/}" mpiexec tests/mesh tests/test_comm; }
build_with() { # build_with MPICC: into the second folder
    # shellcheck disable=SC2046 # several
    make -s -j"$(getconf _NPROCESSORS_ONLN)" MPICC="$1" BUILD=$second $(targets chapters/0[45]_*)
}
check "$this in build, $other in $second" build_with "$other_mpicc"

# ---- the same bits ----
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 64 --max-steps 4
    --eval-interval 2 --eval-windows 8 --sample-interval 0 --save-interval 2)
for build in build $second; do
    for n in 2 8; do
        run timeout 120 $build/mpiexec -n $n $build/05_data_parallel "${small[@]}" --output-dir "$temp/$build-$n"
        check "$build: $n ranks train" succeeded
        grep -q '^step 4/4 ' "$temp/out" && ! grep -q $'[\r\e]' "$temp/out"; ok $? "and draw no line anew in what is no terminal"
    done
    run timeout 120 $build/mpiexec -n 5 $build/tests/test_comm
    check "$build: test_comm" succeeded
    grep '^# bits' "$temp/out" >"$temp/$build.bits"
    [ -s "$temp/$build.bits" ]; ok $? "$(cat "$temp/$build.bits")"
done
cmp -s "$temp/build.bits" "$temp/$second.bits"; ok $? "every collective has the same bits with both"
for n in 2 8; do
    [ "$(wc -l <"$temp/build-$n/loss.csv")" -gt 4 ]; ok $? "$n ranks have written their losses"
    check "and with both MPIs they have the same bits, as the last checkpoint has" build/compare "$temp/build-$n" "$temp/$second-$n"
done

# ---- as users start it ----
run make -s MPICC="$other_mpicc" BUILD=$second ch04 NP=7 ARGS="--part devices --output-dir $temp/devices"
check "make ch04 NP=7" succeeded
grep -q '^7 devices' "$temp/out"; ok $? "are 7 devices"
printf 'localhost:5\n' >"$temp/hosts"
for build in build $second; do
    run common/tools/launch -f "$temp/hosts" $build/tests/mesh 5 1 1
    check "launch, $build" succeeded
    grep -q '^data 4' "$temp/out"; ok $? "5 devices"
    user=(env)
    [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null || user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    if "${user[@]}" test -x $build/mpiexec; then
        run timeout 60 env TMPDIR=/tmp "${user[@]}" $build/mpiexec -n 5 $build/tests/mesh 5 1 1
        check "$build as an ordinary user: 5 ranks" succeeded
        grep -q '^data 4' "$temp/out"; ok $? "5 devices"
    else
        ok 0 "$build as an ordinary user # SKIP it cannot read this folder"
    fi
done

# ---- a machine whose /dev/shm is full ----
without_shm() { unshare --mount sh -c 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"' sh "$@"; }
for build in build $second; do
    if without_shm true 2>/dev/null; then
        run without_shm timeout 60 $build/mpiexec -n 8 $build/tests/mesh 8 1 1
        check "$build: 8 ranks with 64 KB of /dev/shm" succeeded
        [ ! -s "$temp/err" ]; ok $? "and no word about it"
    else
        ok 0 "$build: a small /dev/shm # SKIP no namespace can be made here"
    fi
done

# ---- the wrong one ----
wrong() { # wrong BUILD MPI STARTED-BY MPI
    run timeout 60 "$3/mpiexec" -n 3 "$1/tests/mesh" 0 1 1
    sed -i '/: error: /!d' "$temp/err" # Open MPI's mpiexec adds paragraphs of its own
    check "the mpiexec of $4 starts a program of $2: one line" refused 2 "built with $2" "the mpiexec of $4 started 3" "try $1/mpiexec"
    [ ! -s "$temp/out" ]; ok $? "and nobody works alone"
}
for build in build $second; do
    said=0
    for _ in $(seq 10); do
        run timeout 60 $build/mpiexec -n 4 $build/tests/mesh 3 1 1
        [ "$status" != 2 ] || said=$((said + $(grep -c 'does not make a mesh of 4 devices (hint: .*)$' "$temp/err")))
    done
    [ $said = 10 ]; ok $? "$build: a mistake of all ranks is said, each of 10 times ($said)"
done
wrong build "$this" $second "$other"
wrong $second "$other" build "$this"

# ---- the machine's MPI changes under a build ----
check "the second folder, built with $this instead" build_with "${MPICC:-mpicc}"
run timeout 60 $second/mpiexec -n 3 $second/tests/mesh 3 1 1
check "works" succeeded
grep -q '^data 2' "$temp/out"; ok $? "3 devices"
tap_done
