# shellcheck shell=bash
# launch_machines.sh: the part of launch that knows machines: which there are (a file, SLURM, this one), whether they fit,
# and how ranks are started on them. launch has set: program, hosts, ranks, slurm, mpiexec, temp, usage, starts; it has
# fail and say. Sets names and slots (empty: this machine alone), `all` (the ranks that are wanted) and, by
# look_at_machines, lost, count and start.
# shellcheck disable=SC2154,SC2034

# ---- the machines ----
names=() slots=() lost=()
read_hosts() { # of MPICH "name:2", of Open MPI "name slots=2"
    [ -f "$hosts" ] || fail "there is no file '$hosts'" "a machine a line: its name, or name:ranks"
    local line name count
    while IFS= read -r line || [ -n "$line" ]; do
        read -r name line <<<"${line%%#*}"
        [ -n "$name" ] || continue
        [[ $line =~ slots=([0-9]+) ]] && name=$name:${BASH_REMATCH[1]}
        count=1
        [[ $name =~ ^(.+):([0-9]+)$ ]] && name=${BASH_REMATCH[1]} count=${BASH_REMATCH[2]}
        names+=("$name") slots+=("$count")
    done <"$hosts"
    [ ${#names[@]} -gt 0 ] || fail "'$hosts' names no machine" "a machine a line: its name, or name:ranks"
}
mpi_version() { "$mpiexec" --version 2>&1 | grep -m1 -oiE 'version:? *[0-9.]+|Open MPI.*' | tr -s ' '; }
own_name() { # own_name NAME: is it this machine?
    local own
    own=$(uname -n)
    [ "$1" = localhost ] || [ "$1" = "$own" ] || [ "$1" = "${own%%.*}" ]
}

# What each machine says of itself, in one line: "ok BUILD VERSION", or what it lacks.
probe="$(declare -f mpi_version)
mpiexec=$(printf %q "$mpiexec")
cd $(printf %q "$PWD") 2>/dev/null || { echo folder; exit; }
[ -x $(printf %q "$program") ] || { echo program; exit; }
build=\$(cksum <$(printf %q "$program"))
said=\$(env -u PMI_RANK -u PMIX_RANK -u SLURM_STEP_NUM_TASKS $(printf %q "$program") --help 2>&1 >/dev/null </dev/null)
status=\$?
[ \$status -lt 126 ] && [ \"\${said#*error: this CPU}\" = \"\$said\" ] || { echo \"start \$(echo \"\$said\" | head -n 1) (status \$status)\"; exit; }
echo \"ok \$build / \$(mpi_version)\""
want="ok $(cksum <"$program") / $(mpi_version)"

judge() { # judge NAME ANSWER HOW
    local at=$PWD
    case $2 in
    "$want") ;;
    folder) fail "'$1' has no folder '$at'" "the same folder on every machine: a shared one, or rsync -a '$at/' '$1:$at/'" ;;
    program) fail "'$1' has no program '$program' in '$at'" "build it there, or rsync -a '$at/' '$1:$at/'" ;;
    start*) fail "'$program' does not start on '$1': ${2#start }" "a missing library: make there; another kind of processor: build with MARCH=-march=x86-64-v3" ;;
    "${want%/*}"/*) fail "'$1' has another mpiexec: ${2##*/ }, here it is ${want##*/ }" "install the same MPI on every machine" ;;
    ok*) fail "'$1' has another build of '$program'" "rsync -a '$at/' '$1:$at/'" ;;
    *) fail "'$1' does not answer, or asks for a password: $3" "ssh-copy-id '$1'; then 'ssh $1 true' asks and says nothing" ;;
    esac
}
on_machine() { # on_machine NAME COMMAND: by a shell there, which reads what this one reads
    if own_name "$1"; then bash -c "$2"; else ssh -o BatchMode=yes -o ConnectTimeout=10 "$1" "$2"; fi
}
ask_by_ssh() { # those that do not fit end the launch, or, after the first start, are left out: `lost`
    local i asked_by=()
    lost=()
    for i in "${!names[@]}"; do
        on_machine "${names[i]}" "bash -s" <<<"$probe" >"$temp/$i" 2>"$temp/$i.err" &
        asked_by+=($!)
    done
    wait "${asked_by[@]}"
    for i in "${!names[@]}"; do
        judged=$( (judge "${names[i]}" "$(grep -E '^(ok|folder|program|start)' "$temp/$i")" "$(head -n 1 "$temp/$i.err" | tr -d '\r')") 2>&1) && continue
        [ "$starts" -gt 0 ] || { echo "$judged" >&2 && exit 2; }
        lost+=("$i")
        say "${judged#launch: error: }"
    done
}
ask_by_srun() {
    local name answer
    srun --ntasks="${SLURM_JOB_NUM_NODES:-1}" --ntasks-per-node=1 bash -c "echo \"\$(uname -n) \$($probe)\"" >"$temp/all" 2>"$temp/err" </dev/null ||
        fail "srun cannot start anything: $(head -n 1 "$temp/err")" "try srun true by hand"
    while read -r name answer; do judge "$name" "$answer" ""; done <"$temp/all"
}

# ---- how ranks are started: `start` for `count` ranks ----
command -v "$mpiexec" >/dev/null || fail "there is no mpiexec here" "install MPICH or Open MPI, or load its module"
hydra=$("$mpiexec" --version 2>&1 | grep -c HYDRA)
if [ -n "$slurm" ]; then
    command -v srun >/dev/null || fail "SLURM_JOB_ID is set, and there is no srun" "unset SLURM_JOB_ID, or put srun into PATH"
    way=pmix
    [ "$hydra" = 0 ] || way=pmi2
    srun --mpi=list 2>&1 | grep -qw "$way" || fail "srun has no --mpi=$way, which this MPI needs" "srun --mpi=list shows what it has"
    all=${ranks:-${SLURM_NTASKS:-${SLURM_JOB_NUM_NODES:-1}}}
elif [ -n "$hosts" ]; then
    read_hosts
    all=0
    for i in "${slots[@]}"; do all=$((all + i)); done
    all=${ranks:-$all}
else
    [ -n "$ranks" ] || fail "no machines are named" "-n 8 starts 8 ranks on this one, -f HOSTS some on others; in a job of SLURM neither is needed"
    all=$ranks
fi
# Looks at the machines; count is how many ranks they have room for, at most $1.
look_at_machines() {
    count=$1
    start=("$mpiexec" -n "$count")
    if [ -n "$slurm" ]; then
        ask_by_srun # a rank that dies ends the job, as with mpiexec
        start=(srun --mpi="$way" --kill-on-bad-exit=1 ${ranks:+-n "$count"})
        [ "$count" = "$all" ] || start=(srun --mpi="$way" --kill-on-bad-exit=1 -n "$count")
    elif [ -n "$hosts" ]; then
        local list='' room=0 i
        ask_by_ssh
        for i in "${!names[@]}"; do
            [[ " ${lost[*]-} " != *" $i "* ]] || continue
            list=$list,${names[i]}:${slots[i]}
            room=$((room + slots[i]))
        done
        [ ${#lost[@]} = 0 ] || [ "$room" -ge "$count" ] || count=$room
        start=("$mpiexec" -hosts "${list#,}" -n "$count")
        [ "$hydra" != 0 ] || start=("$mpiexec" --host "${list#,}" -n "$count")
    fi
}

