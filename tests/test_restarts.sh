#!/usr/bin/env bash
# Training by common/tools/launch: a run that has lost a rank goes on from its last checkpoint with the same bits, on fewer
# devices where asked; a run in the background outlives its terminal, is asked, and is stopped.
# TEST seconds: 900
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
. tests/launched.sh
steps=40

# ---- training ----
cat >"$temp/small.conf" <<END
num-layers = 2
hidden-size = 32
num-attention-heads = 4
intermediate-size = 64
max-seq-length = 64
global-batch-size = 8
micro-batch-size = 1
max-steps = $steps
eval-interval = 20
eval-windows = 3
save-interval = 10
sample-interval = 0
log-interval = 1
END
kill_at() { # kill_at STEP RANK FOLDER: kill -9, when that step is on its way
    soon grep -qs "^step $1/" "$3/logs/rank-0.log"
    kill -9 "$(cat "$3/logs/rank-$2.pid")"
}
disturbed() { # disturbed RANKS PROGRAM FLAG ...
    launch -n "$1" "build/$2" --config "$temp/small.conf" --output-dir "$temp/$2 a" "${@:3}" >"$temp/out" 2>&1 || cat "$temp/out"
    kill_at 23 1 "$temp/$2 b" &
    run launch -n "$1" --restarts 2 "build/$2" --config "$temp/small.conf" --output-dir "$temp/$2 b" "${@:3}"
    check "$2: kill -9 in the middle" succeeded
    says err "rank 0 says: $2: error: rank 1 died \(process" && says err "^launch: restart 1 of 2, $1 ranks, from step [123]0$"; ok $? "it says who died, and from where it goes on"
    grep launch "$temp/err" | sed 's/^/# /'
    diff <(losses "$2 a") <(losses "$2 b") >/dev/null; ok $? "... to the same bits of loss.csv"
    run build/compare "$temp/$2 a" "$temp/$2 b"
    check "... and the same weights and moments" succeeded
}
disturbed 2 05_data_parallel
disturbed 2 07_fsdp
disturbed 4 08_tensor_parallel --tensor-parallel-size 2
disturbed 4 10_3d_parallel --tensor-parallel-size 2 --pipeline-parallel-size 2

kill_at 23 2 "$temp/elastic" &
run launch -n 4 --restarts 2 --elastic build/08_tensor_parallel --config "$temp/small.conf" --tensor-parallel-size 2 --output-dir "$temp/elastic"
check "--elastic: 2 x 2 devices lose one" succeeded
says err "restart 1 of 2, 3 ranks instead of 4, from step" && says err "restart 1 of 2, 2 ranks instead of 3, from step" && says out "^2 devices"; ok $? "... and go on as 1 x 2"
says elastic/run.conf "^global-batch-size = 8$" && near "08_tensor_parallel a" elastic; ok $? "... with the same batch: the same losses, to rounding"

# ---- in the background ----
long=(build/05_data_parallel --config "$temp/small.conf" --max-steps 100000 --eval-interval 0)
far="$temp/it's \$(touch hacked) far"
setsid bash -c '"$@"; sleep 100' sh common/tools/launch -n 2 --detach --restarts 1 "${long[@]}" --output-dir "$far" >"$temp/out" 2>"$temp/err" &
session=$!
disown
soon grep -q "to stop" "$temp/out"; ok $? "--detach"
cat "$temp/err"
soon grep -q "^step 3/" "$far/logs/rank-0.log"
kill -HUP -- "-$session" 2>/dev/null
kill -9 -- "-$session" 2>/dev/null
sleep 0.5
run launch --status "$far"
check "its terminal is gone, and it goes on" succeeded
says out "build/05_data_parallel, 2 ranks, since .*: running, process [0-9]+$" && says out "^step [0-9]+/100000  loss"; ok $? "--status says so, and its last line"
run launch -n 2 "${long[@]}" --output-dir "$far"
check "a second job in its folder" refused 2 "a job is at work in"
kill -9 "$(cat "$far/logs/rank-1.pid")"
soon grep -q "^launch: restart 1 of 1, 2 ranks, from" "$far/logs/launch.log"; ok $? "it is started again there, too"
trains_again() { sed '1,/^---- start 2/d' "$far/logs/rank-0.log" | grep -q "^step [0-9]"; }
soon trains_again; ok $? "... and trains"
run launch --stop "$far"
check "--stop" succeeded
says out "it has ended with 0" && find "$far/checkpoint" -name manifest.json | grep -q .; ok $? "... when it has saved"
run launch --status "$far"
says out ": ended with 0$"; ok $? "--status: it has ended"
run launch --stop "$far"; check "--stop once more" refused 2 "it does not run: ended with 0"
run launch --status "$temp"; check "--status of nothing" refused 2 "no job was started in"
[ ! -e hacked ]; ok $? "no name was obeyed"
check "nothing is left" nothing_left

tap_done
