#!/usr/bin/env bash
# tests/install-packages on a machine without Open MPI, where apt-get and update-alternatives only write down what they are
# told.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v apt-get >/dev/null || { echo "1..0 # SKIP no apt-get here"; exit 0; }
command -v mpicc.mpich >/dev/null || { echo "1..0 # SKIP no MPICH of Debian's here"; exit 0; }
mkdir "$temp/bin"
ln -s /usr/bin/* "$temp/bin/"
rm -f "$temp"/bin/*openmpi* "$temp"/bin/{apt-get,sudo,id,mpicc,mpiexec}
printf '#!/bin/sh\nexit 1\n' >"$temp/bin/mpicc" # no file says that it is Open MPI's
chmod +x "$temp/bin/mpicc"
ln -s /usr/bin/mpiexec.mpich "$temp/bin/mpiexec"
machine() { # machine USER [TOOL ...]: who asks, and what there is
    rm -f "$temp"/bin/{apt-get,sudo,id,update-alternatives}
    printf '#!/bin/sh\necho %s\n' "$1" >"$temp/bin/id"
    printf '#!/bin/sh\necho "apt-get $*" >>"%s/done"\n' "$temp" >"$temp/bin/apt-get"
    [ "${2-}" = none ] || printf '#!/bin/sh\nexec "$@"\n' >"$temp/bin/sudo"
    printf '#!/bin/sh\n[ "$1" = --get-selections ] || { echo "$*" >>"%s/done"; exit; }\nprintf "mpi auto /mpich/cc\\nmpi-x auto /mpich\\nmpirun manual /mpich/run\\nmplayer auto /m\\n"\n' "$temp" >"$temp/bin/update-alternatives"
    chmod +x "$temp"/bin/{id,apt-get,update-alternatives} && { [ "${2-}" = none ] || chmod +x "$temp/bin/sudo"; }
    : >"$temp/done"
}
install() { PATH=$temp/bin run tests/install-packages "$@"; }
did() { # what was done, one thing a line
    printf '%s\n' "$@" | diff - "$temp/done"
}
packages="apt-get install -y -qq --no-install-recommends"
for user in 0 1000; do
    machine $user
    install
    check "user $user: nothing is missing" succeeded
    [ ! -s "$temp/done" ] && [ ! -s "$temp/out" ]; ok $? "and nothing is done"
    install second-mpi
    check "user $user: a second MPI" succeeded
    check "the first stays the machine's, from before the second comes" did "--set mpi /mpich/cc" "--set mpi-x /mpich" "apt-get update -qq" "$packages libopenmpi-dev openmpi-bin"
    grep -q '^mpi stays /mpich/cc (update-alternatives --auto mpi undoes this)' "$temp/out"; ok $? "which is said"
done
machine 1000 none
install second-mpi
[ "$status" = 1 ] && grep -q 'missing: libopenmpi-dev openmpi-bin .*there is no sudo' "$temp/err" && [ ! -s "$temp/done" ]; ok $? "a user without sudo"
machine 0
rm "$temp/bin/mpiexec" "$temp"/bin/mpiexec.*
install
check "the mpiexec of MPICH is missing" did "apt-get update -qq" "$packages mpich"
tap_done
