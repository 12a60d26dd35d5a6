#!/usr/bin/env bash
# common/tools/launch on one machine: what each rank says is kept, the first error is shown; what is started again, how often
# and on how many devices; signals; what is refused. (Training: test_restarts.sh. Several machines: test_hosts.sh.)
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
. tests/launched.sh

# ---- a program of a few lines ----
cat >"$temp/prog" <<'END'
#!/bin/sh
# prog FOLDER HOW ...: counts its starts in FOLDER/starts
r=${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}
[ "$r" != 0 ] || echo "$*" >>"$1/starts"
first() { [ "$r" = 0 ] || sleep 0.5; } # rank 0: mpiexec kills who is left when one ends
case $2 in
well) echo "rank $r speaks"; echo "prog: warning: rank $r warns" >&2 ;;
order) # the third is first
    [ "$r" != 2 ] || { echo "prog: error: the cause (hint: look)" >&2; sleep 1; exit 3; }
    [ "$r" != 1 ] || { sleep 0.4; echo "prog: error: what follows from it (hint: look away)" >&2; sleep 1; exit 3; }
    sleep 20 ;;
silent) exit 7 ;;
usage) first; [ "$r" != 0 ] || echo "prog: error: nonsense (hint: think)" >&2; exit 2 ;;
fails) first; [ "$r" != 0 ] || echo "prog: error: again" >&2; exit 1 ;;
saves) # a checkpoint more at each start
    if [ "$r" = 0 ]; then
        n=$(grep -c . "$1/starts")
        sleep 0.1
        mkdir -p "$1/checkpoint/step-00000$n" "$1/checkpoint/step-99999$n.tmp"
        touch "$1/checkpoint/step-00000$n/manifest.json" "$1/checkpoint/step-99999$n.tmp/manifest.json"
    else
        sleep 1
    fi
    exit 1 ;;
narrow) # two ranks are enough, three never
    n=${PMI_SIZE:-${OMPI_COMM_WORLD_SIZE:-1}}
    [ "$n" != 3 ] || { first; [ "$r" != 0 ] || echo "prog: error: 3 are odd (hint: 2)" >&2; exit 2; }
    [ "$n" != 4 ] || exit 1 ;;
waits) trap 'exit 5' TERM; [ "$r" != 0 ] || touch "$1/waiting"; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1 & wait; done ;;
esac
END
chmod +x "$temp/prog"
of() { # of RANKS HOW OPTION ...: prog by launch, in a folder of its own; its words in out and err
    rm -rf "$temp/run"
    mkdir "$temp/run"
    run launch -n "$1" "${@:3}" "$temp/prog" "$temp/run" "$2" --output-dir "$temp/run"
}
starts() { grep -c . "$temp/run/starts"; }
of 3 well
check "three ranks" succeeded
[ "$(sort "$temp/out")" = "$(printf 'rank %s speaks\n' 0 1 2)" ] && [ "$(sort "$temp/err")" = "$(printf 'prog: warning: rank %s warns\n' 0 1 2)" ]; ok $? "all that they say is seen"
for r in 0 1 2; do [ "$(grep -c . "$temp/run/logs/rank-$r.log")" = 2 ] && says "run/logs/rank-$r.log" "rank $r speaks"; ok $? "rank $r has a log of its own"; done
of 3 order
[ "$status" != 0 ] && [ "$(grep -c error: "$temp/err")" = 1 ] && says err "^launch: rank 2 was the first to fail, of 2 that speak of errors in '.*/run/logs': prog: error: the cause \(hint: look\)$"; ok $? "the first to fail is named, by time and not by rank"
of 2 silent
[ "$status" = 7 ] && says err "^launch: ended with 7, and no rank says why"; ok $? "its status is that of mpiexec"
of 2 usage --restarts 3
[ "$status" = 2 ] && [ "$(starts)" = 1 ] && says err "rank 0 says: prog: error: nonsense"; ok $? "a mistake in the flags: no restart"
of 2 fails --restarts 5
[ "$status" = 1 ] && [ "$(starts)" = 2 ] && says err "restart 1 of 5, 2 ranks, from the beginning" && says err "failed again before it saved: no other start"; ok $? "what fails at once is not started for ever"
of 2 saves --restarts 3
[ "$(starts)" = 4 ] && says err "restart 3 of 3, 2 ranks, from step 3$"; ok $? "as many restarts as were asked for, while it saves"
[ "$(grep -c -- --resume "$temp/run/starts")" = 3 ] && ! head -n 1 "$temp/run/starts" | grep -q resume; ok $? "... each goes on from its checkpoint"
mkdir -p "$temp/run/checkpoint/step-000900"
touch "$temp/run/checkpoint/step-000900/manifest.json"
rm "$temp/run/starts"
sleep 0.1
run launch -n 2 --restarts 1 "$temp/prog" "$temp/run" fails --output-dir="$temp/run"
[ "$(starts)" = 2 ] && ! grep -q resume "$temp/run/starts"; ok $? "the checkpoint of an older run is not taken"
of 4 narrow --restarts 1 --elastic
check "--elastic, where three ranks do not fit" succeeded
says err "restart 1 of 1, 3 ranks instead of 4" && says err "restart 1 of 1, 2 ranks instead of 3" && [ "$(starts)" = 3 ]; ok $? "... two go on, and each change is said"
of 4 narrow --restarts 1
[ "$status" = 1 ] && [ "$(starts)" = 2 ] && says err "restart 1 of 1, 4 ranks, "; ok $? "without it their number stays"

# ---- to end it ----
for signal in INT TERM HUP; do
    rm -rf "$temp/run" && mkdir "$temp/run"
    (set -m; common/tools/launch -n 2 --restarts 5 "$temp/prog" "$temp/run" waits --output-dir "$temp/run" >"$temp/out" 2>"$temp/err" & echo $! >"$temp/pid"; wait)&
    soon [ -e "$temp/run/waiting" ]
    kill -"$signal" "$(cat "$temp/pid")"
    wait
    [ "$(starts)" = 1 ] && says err "launch: asked to end" && says run/logs/job "^state ended"; ok $? "SIG$signal: it ends, and is not started again"
done
check "nothing is left" nothing_left

# ---- SLURM, whose srun is a stand-in here ----
mkdir "$temp/slurm"
cat >"$temp/slurm/srun" <<'END'
#!/bin/bash
[ "$1" != --mpi=list ] || { echo "MPI plugin types are: none pmi2 pmix" >&2; exit; }
[[ $1 != --ntasks=* ]] || exec "${@:3}"
[ "$2" = --kill-on-bad-exit=1 ] || exit 1
shift 2
n=$SLURM_NTASKS
[ "$1" != -n ] || { n=$2; shift 2; }
exec mpiexec -n "$n" "$@"
END
chmod +x "$temp/slurm/srun"
job() { # job NUMBER RESTARTS OPTION ...
    rm -f "$temp/run/starts"
    run env PATH="$temp/slurm:$PATH" SLURM_JOB_ID="$1" SLURM_NTASKS=2 SLURM_JOB_NUM_NODES=1 SLURM_RESTART_COUNT="$2" timeout 100 common/tools/launch "${@:3}" "$temp/prog" "$temp/run" saves --output-dir "$temp/run"
}
rm -rf "$temp/run" && mkdir "$temp/run"
job 7 0 --restarts 1
[ "$status" = 1 ] && [ "$(starts)" = 2 ] && [ "$(grep -c resume "$temp/run/starts")" = 1 ]; ok $? "in a job of SLURM: as many ranks as it has, and a restart"
job 7 1
[ "$(grep -c resume "$temp/run/starts")" = 1 ]; ok $? "the job is put back into the queue: it goes on"
job 8 1
[ "$(starts)" = 1 ] && ! grep -q resume "$temp/run/starts"; ok $? "... but not with what another job has saved"

# ---- what is refused ----
run launch; check "nothing" refused 2 "no program is named"
run launch --help; says out "common/tools/launch -n 8"; ok $? "--help"
run launch -n; check "no value" refused 2 "-n has no value"
run launch -n 0 "$temp/prog"; check "no rank" refused 2 "-n is '0'"
run launch -n 2 --restarts many "$temp/prog"; check "restarts" refused 2 "--restarts is 'many'"
run launch -n 2 --restart 1 "$temp/prog"; check "an option that is none" refused 2 "--restart is not an option"
run launch -n 2 "$temp/nothing"; check "no program" refused 2 "there is no program"
run launch "$temp/prog"; check "no machines" refused 2 "no machines are named" "-n 8 starts 8"
run launch -n 2 --logs "$temp/prog/logs" "$temp/prog"; check "no folder for the logs" refused 2 "cannot make '$temp/prog/logs'"
words=(-n -f --logs --restarts --elastic --status --stop '' 0 1 -1 999999999999 "$temp/prog" build / . '*' '$(touch hacked)' "a'b" $'a\nb' '"' '--=' '-' '--' hosts)
wrong=0
for i in $(seq 60); do
    RANDOM=$i arguments=()
    for _ in $(seq $((RANDOM % 6))); do arguments+=("${words[RANDOM % ${#words[@]}]}"); done
    [[ " ${arguments[*]-} " != *"-n 1 "*prog* ]] || continue # that is a job
    run launch "${arguments[@]}"
    [ "$status" = 2 ] && [ "$(grep -c '^launch: error: .* (hint: ' "$temp/err")" = 1 ] || { wrong=$((wrong + 1)); printf '# %s:' "$status"; printf " '%s'" "${arguments[@]}"; head -n 3 "$temp/err"; }
done
[ $wrong = 0 ] && [ ! -e hacked ]; ok $? "random words are refused in one line with a hint"
tap_done
