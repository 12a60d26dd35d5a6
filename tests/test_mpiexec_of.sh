#!/usr/bin/env bash
# Which mpiexec common/tools/mpiexec_of finds for an mpicc, on machines made of stand-ins; what the script that it prints
# tells Open MPI. tests/test_mpis.sh tries it with real ones.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
find=$PWD/common/tools/mpiexec_of
machine=$temp/machine
mkdir -p "$machine/bin" "$machine/opt" "$machine/alternatives"
for tool in sh dirname basename readlink cat id env; do ln -s "$(command -v $tool)" "$machine/bin/"; done
mpicc() { # of an MPI, FILE: says its version, or that its compiler has no such flag
    case $1 in openmpi) says='echo "${0##*/}: Open MPI 4.1.4 (Language: C)"' ;; *) says='echo "error: unrecognized option $1" >&2; exit 1' ;; esac
    printf '#!/bin/sh\n[ "$1" = --showme:version ] || exit 2\n%s\n' "$says" >"$2"
    chmod +x "$2"
}
mpiexec() { # of an MPI, FILE: says its version, or what it was told
    case $1 in openmpi) says="mpiexec (OpenRTE) 4.1.4" ;; openmpi5) says="mpiexec (Open MPI) 5.0.3" ;; *) says="HYDRA build details:" ;; esac
    printf '#!/bin/sh\n[ "$1" = --version ] && echo "%s" && exit\necho "$0 $* / $OMPI_MCA_rmaps_base_oversubscribe $PRTE_MCA_rmaps_default_mapping_policy / $OMPI_ALLOW_RUN_AS_ROOT$OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"\n' "$says" >"$2"
    chmod +x "$2"
}
fresh() { rm -rf "${machine:?}"/bin/mpi* "${machine:?}"/opt/* "${machine:?}"/alternatives/*; }
finds() { # finds MPICC: which mpiexec
    PATH=$machine/bin "$find" "$1" >"$temp/script" 2>"$temp/err" && sed -n "s|^exec '$machine/\(.*\)' \"\$@\".*|\1|p" "$temp/script"
}
is() { [ "$2" = "$3" ]; ok $? "$1"; [ "$2" = "$3" ] || echo "# '$2' instead of '$3'"; }

mpicc mpich "$machine/bin/mpicc"
mpiexec mpich "$machine/bin/mpiexec"
is "one MPI" "$(finds mpicc)" bin/mpiexec

fresh # Debian with both: links through /etc/alternatives, each of the two led where somebody wants
for mpi in mpich openmpi; do
    mpicc $mpi "$machine/bin/mpicc.$mpi"
    mpiexec $mpi "$machine/bin/mpiexec.$mpi"
done
ln -s "$machine/alternatives/mpi" "$machine/bin/mpicc"
ln -s "$machine/alternatives/mpirun" "$machine/bin/mpiexec"
for mpi in mpich openmpi; do
    is "mpicc.$mpi" "$(finds mpicc.$mpi)" bin/mpiexec.$mpi
    for other in mpich openmpi; do
        ln -sf "$machine/bin/mpicc.$mpi" "$machine/alternatives/mpi"
        ln -sf "$machine/bin/mpiexec.$other" "$machine/alternatives/mpirun"
        is "mpicc leads to $mpi, mpiexec to $other" "$(finds mpicc)" bin/mpiexec.$mpi
    done
done

fresh # a module: an MPI in a folder of its own, whose mpiexec stands behind another one in PATH
mpicc openmpi "$machine/opt/mpicc"
mpiexec openmpi5 "$machine/opt/mpiexec"
mpiexec mpich "$machine/bin/mpiexec"
is "beside a compiler named by its path" "$(finds "$machine/opt/mpicc")" opt/mpiexec
ln -s ../opt/mpicc "$machine/bin/mpicc"
is "beside what a link with a short way leads to" "$(finds mpicc)" opt/mpiexec

# ---- what it tells Open MPI ----
for user in 0 1000; do
    rm -f "$machine/bin/id"
    printf '#!/bin/sh\necho %s\n' $user >"$machine/bin/id"
    chmod +x "$machine/bin/id"
    root=$([ $user != 0 ] || echo 11)
    is "more ranks than cores; as user $user" "$(env -i PATH="$machine/bin" sh "$temp/script" -n 8 'a b')" "$machine/opt/mpiexec -n 8 a b / 1 :oversubscribe / $root"
done
is "what the user has set stays" "$(env -i PATH="$machine/bin" OMPI_MCA_rmaps_base_oversubscribe=0 sh "$temp/script" -n 8)" "$machine/opt/mpiexec -n 8 / 0 :oversubscribe / "

# ---- what it refuses ----
rm "$machine/opt/mpiexec"
run finds mpicc
check "no mpiexec of this MPI" refused 1 "mpicc is the compiler of Open MPI, and no mpiexec here is" "install openmpi-bin"
[ ! -s "$temp/script" ]; ok $? "and there is no script"
run finds mpicc.none
check "no such compiler" refused 1 "there is no mpicc.none"
tap_done
