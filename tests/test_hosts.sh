#!/usr/bin/env bash
# Two machines, made here of namespaces: each with a network, a name, a /dev/shm and a boot id of its own, joined by a
# bridge. What common/tools/launch starts finds that they are two, says over TCP what one tells the other, and ends on
# both when a rank dies. The README's lines on several machines, word by word. What launch refuses.
# ssh, sbatch and srun are stand-ins: ssh enters the other machine, srun starts by ssh and tells its ranks what SLURM
# tells.
cd "$(dirname "$0")/.." || exit 1
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
mpiexec --version 2>&1 | grep -q HYDRA || { echo "1..0 # SKIP only for MPICH's mpiexec"; exit 0; }
command -v ip >/dev/null || { echo "1..0 # SKIP no ip here"; exit 0; }
own=(unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc)
[ "$(id -u)" = 0 ] || own+=(--user --map-root-user)
if [ -z "${INSIDE_HOSTS-}" ]; then # the second time, all that is made here goes with the namespaces
    "${own[@]}" ip link add try type bridge 2>/dev/null || { echo "1..0 # SKIP no namespaces can be made here"; exit 0; }
    INSIDE_HOSTS=1 exec "${own[@]}" bash "$0"
fi
. tests/tap.sh
mount -t tmpfs tmpfs /dev/shm # other tests look at theirs
repository=$PWD
mkdir "$temp/bin" "$temp/work"
printf '127.0.0.1 localhost\n10.9.0.1 ant\n10.9.0.2 bee\n' >"$temp/names"

# ---- the machines ----
machine() { # machine NAME NUMBER
    unshare --net --mount --uts --ipc sh -c "
        hostname $1 && ip link set lo up && mount --bind '$temp/names' /etc/hosts && mount -t tmpfs tmpfs /dev/shm &&
        cat /proc/sys/kernel/random/uuid >'$temp/$1.boot' && mount --bind '$temp/$1.boot' /proc/sys/kernel/random/boot_id &&
        touch '$temp/$1.made' && exec sleep 1000" >/dev/null &
    echo $! >"$temp/$1"
    until [ -e "$temp/$1.made" ]; do
        kill -0 $! 2>/dev/null || return 1
        sleep 0.01
    done
    ip link add "to-$1" type veth peer name eth0 netns $! && ip link set "to-$1" master wire up &&
        nsenter -t $! --net ip address add "10.9.0.$2/24" dev eth0 && nsenter -t $! --net ip link set eth0 up
}
cat >"$temp/bin/ssh" <<END
#!/bin/bash
while [[ \$1 = -* ]]; do [ "\$1" = -o ] && shift; shift; done
[ -f "$temp/\$1" ] || { echo "ssh: Could not resolve hostname \$1" >&2; exit 255; }
to=\$(cat "$temp/\$1"); shift
exec nsenter -t "\$to" --net --mount --uts --ipc sh -c "\$*"
END
cat >"$temp/bin/sbatch" <<END
#!/bin/bash
[ "\$1 \$2 \$3 \$4" = "-N 2 --ntasks-per-node 2" ] || exit 1
SLURM_JOB_ID=1 SLURM_JOB_NUM_NODES=2 SLURM_NTASKS=4 exec bash "\${@:5}"
END
cat >"$temp/bin/srun" <<END
#!/bin/bash
[ "\$1" = --mpi=list ] && { echo "MPI plugin types are: none pmi2" >&2; exit; }
export SLURM_STEP_NUM_TASKS=4 # and no PMI for the first of these, as with --mpi=none
[ "\$1 \$2" = "--ntasks=2 --ntasks-per-node=1" ] && for at in ant bee; do nsenter -t \$(cat "$temp/\$at") --net --mount --uts --ipc "\${@:3}"; done && exit
[ "\$1 \$2" = "--mpi=pmi2 --kill-on-bad-exit=1" ] || exit 1
exec mpiexec -hosts ant:2,bee:2 -n 4 sh -c 'SLURM_LOCALID=\$MPI_LOCALRANKID; unset MPI_LOCALRANKID MPI_LOCALNRANKS; export SLURM_LOCALID; exec "\$@"' sh "\${@:3}"
END
chmod +x "$temp"/bin/*
PATH=$temp/bin:$PATH
on() { # on NAME COMMAND ...: there, in this folder
    nsenter -t "$(cat "$temp/$1")" --net --mount --uts --ipc sh -c "cd '$PWD' && exec \"\$@\"" sh "${@:2}"
}
if ! { ip link add wire type bridge && ip link set wire up && machine ant 1 && machine bee 2; } 2>"$temp/why"; then
    echo "1..0 # SKIP no machines can be made here: $(head -n 1 "$temp/why")"
    exit 0
fi
printf 'ant:2\nbee slots=2 # as Open MPI writes it\n' >"$temp/hosts"
launch() { timeout 100 nsenter -t "$(cat "$temp/ant")" --net --mount --uts --ipc sh -c "cd '$PWD' && exec \"\$@\"" sh "$repository/common/tools/launch" "$@"; }
sent() { on "$1" awk '/eth0:/ {print $10}' /proc/net/dev; }
left() { # what a job may leave: processes, names in /dev/shm
    grep -lE '^(comm_faults|mesh|test_comm|rank-watcher|hydra_pmi_proxy|mpiexec)' /proc/[0-9]*/comm 2>/dev/null
    on ant ls /dev/shm
    on bee ls /dev/shm
}

# ---- a job ----
before=$(sent ant)
run launch -f "$temp/hosts" build/tests/test_comm
check "test_comm on two machines" succeeded
crossed=$(($(sent ant) - before))
[ "$crossed" -gt 10000000 ]; ok $? "its messages cross the wire (10 MB and more)"
echo "# $crossed bytes"
grep -q '^# rank 0 shares its machine with 2 of 4 ranks' "$temp/out"; ok $? "the ranks of a machine have found each other, and none else"
bits=$(grep '^# bits' "$temp/out")
[ -n "$bits" ] && [ "$bits" = "$(mpiexec -n 4 build/tests/test_comm | grep '^# bits')" ]; ok $? "the same bits as on one machine"
check "nothing stays" nothing_left

for victim in 0 1 2 3; do
    mkdir "$temp/ready$victim"
    launch -f "$temp/hosts" build/tests/comm_faults work large "$temp/ready$victim" >/dev/null 2>"$temp/err" &
    job=$!
    for _ in $(seq 600); do
        [ "$(find "$temp/ready$victim" -name '[0-9]' | wc -l)" = 4 ] && break
        sleep 0.05
    done
    process=$(cat "$temp/ready$victim/$victim")
    kill -9 "$process"
    for _ in $(seq 100); do kill -0 $job 2>/dev/null && sleep 0.05; done
    ! kill -0 $job 2>/dev/null; ok $? "rank $victim killed: the job ends within 5 s"
    ! wait $job; ok $? "with an error"
    [ "$(grep error: "$temp/err" | grep -v '^\[\|^=' | wc -l)" = 1 ] && grep -q "comm_faults: error: rank $victim died (process $process on $([ $victim -lt 2 ] && echo ant || echo bee))" "$temp/err"
    ok $? "it alone is named, and its machine"
    check "nothing stays on either machine" nothing_left
done

# ---- the README ----
ln -s "$repository/build" "$repository/common" "$temp/work"
cd "$temp/work" || exit 1
said=0
while IFS= read -r line; do
    said=$((said + 1))
    run on ant timeout 100 bash -c "${line%%   *}"
    check "README: ${line%%   *}" succeeded
    [ $said = 1 ] || { [ "$(grep -c '^ .* ant$' "$temp/out")" = 2 ] && [ "$(grep -c '^ .* bee$' "$temp/out")" = 2 ]; }
    ok $? "two devices on each machine"
done < <(sed -n '/^## Several machines/,/^## [^S]/s/^    //p' "$repository/README.md")
[ $said = 3 ]; ok $? "these were all its lines"
check "nothing stays" nothing_left

# ---- a machine that is gone ----
train=(build/05_data_parallel --num-layers 1 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 32
    --global-batch-size 8 --micro-batch-size 1 --max-steps 40 --save-interval 10 --eval-interval 0 --eval-windows 2 --log-interval 1 --sample-interval 0)
rm -rf runs
lose_bee() { # its ranks die, and it does not answer any more
    for _ in $(seq 600); do grep -qs '^step 23/' runs/05_data_parallel/logs/rank-0.log && break; sleep 0.05; done
    mv "$temp/bee" "$temp/bee.gone"
    kill -9 "$(cat runs/05_data_parallel/logs/rank-3.pid)"
}
lose_bee &
loser=$!
run launch -f hosts --restarts 2 "${train[@]}"
wait $loser
check "a machine that is gone: the run goes on" succeeded
grep -q "^launch: rank [012] .*: 05_data_parallel: error: rank 3 died .* on bee)" "$temp/err" && grep -q "^launch: 'bee' does not answer" "$temp/err" && grep -q "^launch: restart 1 of 2, 2 ranks instead of 4, from step [123]0$" "$temp/err" # 10: the set of step 20 was still being written
said=$?
ok $said "... on the other, with fewer devices, and says so"
[ $said = 0 ] || sed 's/^/# /' "$temp/err"
grep -q '^2 devices, which share memory' "$temp/out" && [ "$(tail -n 1 runs/05_data_parallel/loss.csv | cut -d, -f1)" = 40 ]; ok $? "... to its end"
mv "$temp/bee.gone" "$temp/bee"
[ "$(find runs/05_data_parallel/logs -name 'rank-[0123].log' | wc -l)" = 4 ]; ok $? "every rank has a log"
check "nothing stays" nothing_left

# ---- what launch refuses ----
run launch -f hosts build/nothing; check "no such program" refused 2 "there is no program 'build/nothing'"
run launch -f nothing build/tests/mesh; check "no such file" refused 2 "there is no file 'nothing'"
run launch -f hosts -n many build/tests/mesh; check "a strange number" refused 2 "-n is 'many'"
run launch build/tests/mesh; check "no file" refused 2 "no machines are named"
printf 'ant\ncow\n' >'more'
run launch -f more build/tests/mesh; check "a machine that does not answer" refused 2 "'cow' does not answer" "ssh-copy-id 'cow'"
printf '#!/bin/sh\n[ "$(uname -n)" = ant ] || { echo "error while loading libmpi" >&2; exit 127; }\n' >program
chmod +x program
run launch -f hosts ./program; check "a program that does not start there" refused 2 "does not start on 'bee': error while loading libmpi (status 127)"
printf '#!/bin/sh\n[ "$(uname -n)" = ant ] || { echo "program: error: this CPU lacks what it needs" >&2; exit 1; }\n' >program
run launch -f hosts ./program; check "an older kind of processor there" refused 2 "does not start on 'bee': program: error: this CPU lacks what it needs (status 1)" "MARCH="
printf '#!/bin/sh\n' >other
chmod +x other
on bee mount --bind other program
run launch -f hosts ./program; check "another build" refused 2 "'bee' has another build of './program'"
mkdir folder folder/inner
cp other folder/inner/program
cp other folder/program
on bee mount -t tmpfs tmpfs folder
cd folder || exit 1
run launch -f ../hosts ./program; check "no program there" refused 2 "'bee' has no program './program'"
cd inner || exit 1
run launch -f ../../hosts ./program; check "no folder there" refused 2 "'bee' has no folder '$PWD'" "rsync"
cd "$repository" || exit 1

# ---- SLURM without a way for its processes to find each other ----
run env SLURM_STEP_NUM_TASKS=4 build/tests/mesh 1 1 1; check "srun without --mpi" refused 2 "try srun --mpi=pmi2 or --mpi=pmix"
run env SLURM_STEP_NUM_TASKS=1 build/tests/mesh 1 1 1; check "one process of srun is one device" succeeded
tap_done
