#!/usr/bin/env bash
# Chapter 04 as a user meets it, on 1 to 8 devices: its numbers, the four products, bytes and memory against their
# formulas, pictures, report; the model clock, whose links the fit must find; colours; and what is refused.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=04_collectives
small=(--matrix-rows 64 --matrix-columns 128 --ring-count 1003 --largest-message 64K --tries 2
    --num-layers 2 --hidden-size 24 --intermediate-size 48 --global-batch-size 48)
section() { awk -v title="---- $2" 'index($0, "---- ") == 1 { inside = index($0, title) == 1; next } inside' "$temp/$1.out"; }
after() { # after TITLE: what the devices have after the collective of this title, on one line
    section four "collectives" | awk -v title="$1" 'index($0, title) == 1 { on = 1 } on && /bytes moved/ { exit } on && /after/ { got = 1 } on && got { sub(/.*: /, ""); printf "[%s]", $0 }' | tr -s ' '
}

# ---- four devices, everything ----
on 4 four; ok $? "on 4 devices"
[ -s "$temp/four.err" ]; [ $? = 1 ]; ok $? "nothing on stderr"
says four.out "^4 devices" && [ "$(section four devices | grep -cE '^ +[0-3] +[0-9]+ +shared memory ')" = 4 ]; ok $? "lists them"
section four devices | grep -q 'data 1 *│ 2 │ 3 │'; ok $? "draws the mesh"
[ "$(after "all-gather")" = "[ 3 9 5 2][ 3 9 5 2][ 3 9 5 2][ 3 9 5 2]" ]; ok $? "all-gather"
[ "$(after "all-reduce")" = "[ 22 20 12 17][ 22 20 12 17][ 22 20 12 17][ 22 20 12 17]" ]; ok $? "all-reduce"
[ "$(after "reduce-scatter")" = "[ 22][ 20][ 12][ 17]" ]; ok $? "reduce-scatter"
[ "$(after "all-to-all")" = "[ 3 5 5 9][ 1 9 3 7][ 4 2 5 1][ 1 6 8 2]" ]; ok $? "all-to-all"
[ "$(section four "the all-reduce by hand" | tail -9 | head -4 | awk '{ sub(/.*: +/, ""); print }' | tr -s ' ' | sort -u)" = "22* 20* 12* 17*" ]; ok $? "the ring's last step"
[ "$(section four "the all-reduce by hand" | awk '/sum 3/ { on = 1 } on && /pass/ { exit } on { sub(/.*: +/, ""); printf "[%s]", $0 }' | tr -s ' ')" = "[3 20* 10 3 ][8 9 12* 9 ][13 12 5 17*][22* 19 6 2 ]" ]; ok $? "its sums are whole after 3 steps, one on each device"
for row in "152 158 164 170" "504 526 548 570" "856 894 932 970" "1208 1262 1316 1370"; do
    section four "four cases" | tr -s ' ' | grep -q "^ $row$"; ok $? "a row of A B: $row"
done
[ "$(section four "four cases" | grep -c 'largest difference from the unsharded product on any device: 0$')" = 6 ]; ok $? "six products equal the unsharded one"
section four "four cases" | grep -q 'A\[I, J_X\] . B\[J, K\]' && section four "four cases" | grep -qF '(4, 2) times (4, 4): J is cut in A, not in B'; ok $? "case 2 says what goes wrong without"
section four "four cases" | grep -q '^  not allowed: one mesh axis would cut I and K'; ok $? "case 4 is not allowed"
[ "$(grep -c 'bytes moved' "$temp/four.out")" = 13 ] && ! grep 'bytes moved: [1-9]' "$temp/four.out" | grep -qv 'ratio 1$'; ok $? "bytes moved are those of the formulas"
section four "every way" | grep -qE '^A\[I_X, J_Y\] +\(32, 64\) .* 1 ' && section four "every way" | grep -qE '^A\[I_XY, J\] +\(8, 128\) '; ok $? "shapes on each device"
section four "every way" | grep -qE '^ +3  32 \.\. 63 +64 \.\. 127 +\(32, 64\) .* 2048$'; ok $? "slices that are there"
section four "every way" | grep -qE 'device 2: +44 +55$' && [ "$(section four "every way" | grep -cE 'device [0-3]: +0 +11 +22 +33 +44 +55 +66 +77$')" = 4 ]; ok $? "vectors added, then gathered"
[ "$(section four "every way" | grep -c '^┌')" = 5 ]; ok $? "plain boxes in a pipe: five rows of them"
grep -q $'\033' "$temp/four.out"; [ $? = 1 ]; ok $? "and no colours"
[ "$(section four "a playground" | grep -cE '^ +[124] +[124] +[124] ')" = 6 ]; ok $? "six shardings of the playground"
for picture in shardings_2x2 shardings_2x4 costs bandwidth; do is_png "$temp/four/$picture.png"; ok $? "$picture.png is a PNG"; done
tail -1 "$temp/four.out" | grep -q "pictures and report.json are in $temp/four"; ok $? "the last line says where the pictures are"
for key in chapter arguments machine devices threads_per_device mesh wall_s memory comm; do json four/report.json "d['$key'] is not None"; ok $? "report.json has $key"; done
json four/report.json "d['devices'] == 4 and d['mesh'] == {'data': 2, 'pipe': 1, 'tensor': 2} and d['model_s'] is None"; ok $? "the mesh"
json four/report.json "len(d['comm']) == len(d['memory']) == 4 and all(c['all_reduce']['calls'] == d['comm'][0]['all_reduce']['calls'] > 10 for c in d['comm'])"; ok $? "a list of what each device sent"
json four/report.json "set(d['collectives']) == {'all_reduce', 'own_ring', 'own_tree', 'all_gather', 'reduce_scatter', 'all_to_all'} and all(len(m['bytes']) == 4 and min(m['seconds']) > 0 and m['alpha_s'] >= 0 for m in d['collectives'].values())"; ok $? "what was measured"

# ---- what moves in a part, per device, from the report: nothing that is only printed counts ----
on 4 ring --part ring; json ring/report.json "sum(c['send']['bytes'] for c in d['comm']) == 2 * 2 * 3 * 1003 * 4 + 2 * 3 * 4 * 4 and sum(c['all_reduce']['bytes'] for c in d['comm']) == 2 * 2 * 3 * 1003 * 4 and sum(c['all_gather']['calls'] for c in d['comm']) == 0"; ok $? "ring, tree and library move 2 (n-1) S each"
on 4 devices --part devices; json devices/report.json "all(v['calls'] == 0 for c in d['comm'] for v in c.values())"; ok $? "listing the devices moves nothing"

# ---- other numbers of devices ----
for n in 1 2 3 5 6 8; do
    on $n n$n; ok $? "on $n devices: every prediction is met"
    [ "$(grep -c 'largest difference from the unsharded product on any device: 0$' "$temp/n$n.out")" = 6 ]; ok $? "the products too"
    json n$n/report.json "len(d['comm']) == $n"; ok $? "$n entries in the report"
done
build/04_collectives "${small[@]}" --output-dir "$temp/alone" >"$temp/alone.out" 2>&1 && says alone.out "^1 device$" && says alone.out "try make ch04 NP=4"; ok $? "without mpiexec: one device"
on 4 columns --part devices --tensor-parallel-size 4; says columns.out 'data 0 *│ 0 │ 1 │ 2 │ 3 │'; ok $? "--tensor-parallel-size"
on 3 three --part shardings; says three.out '^A \(64, 129\), all ones'; ok $? "a matrix that 3 do not divide is made a little larger"
SHARD_SHARED_RANKS=2 on 4 pairs --part devices; says pairs.out 'shared memory with 1, messages'; ok $? "pairs that share memory"
SHARD_SHARED_RANKS=1 on 3 apart; [ $? = 0 ] && says apart.out '^ +2 +[0-9]+ +messages '; ok $? "no memory shared: messages alone"

# ---- the playground computes the same, however it is sharded ----
sums() { sed -n 's/^sums of squares of outputs and gradients: \(.*\);.*/\1/p' "$temp/$1.out"; }
[ -n "$(sums n1)" ] && [ "$(sums n1)" = "$(sums four)" ] && [ "$(sums n1)" = "$(sums n8)" ] && [ "$(sums n1)" = "$(sums n3)" ]; ok $? "on 1, 3, 4 and 8 devices"
on 4 one --part playground --data-parallel-size 1 --fsdp-size 2 --tensor-parallel-size 2; [ "$(grep -cE '^ +1 +2 +2 ' "$temp/one.out")" = 1 ] && [ "$(sums one)" = "$(sums n1)" ]; ok $? "degrees that are asked for"
# held: weights and gradients 2 x 2 L D F / (f t), x and h ((L+2) b D + (L+1) b F/t), gathered 2 D F/t
awk -v L=2 -v D=24 -v F=48 -v b=24 -v f=2 -v t=2 '$1 == 1 && $2 == 2 && $3 == 2 {
    w = 2*2*L*D*F/(f*t)*4e-6; x = ((L+2)*b*D + (L+1)*b*F/t)*4e-6; g = 2*D*F/t*4e-6
    exit !(sprintf("%.3f %.3f %.3f", w, x, g) == $4 " " $5 " " $6 && $8 == 1 && $11 == 1) }' "$temp/one.out"; ok $? "its memory, by the formula"

# ---- the model clock ----
for n in 2 3 4 5 6 7 8; do
    on $n model$n --part costs --clock model --device-model h100 --tries 1
    json model$n/report.json "all(abs(m['alpha_s'] / 3.4e-6 - 1) < 1e-6 and abs(m['bytes_per_s'] / 450e9 - 1) < 1e-6 for k, m in d['collectives'].items() if k != 'own_tree' or $n in (2, 4, 8))"
    ok $? "the fit finds the links of the model, $n devices"
done
json model5/report.json "all(abs(t / (8 * (3.4e-6 + s / 5 / 450e9)) - 1) < 1e-9 for s, t in zip(d['collectives']['own_ring']['bytes'], d['collectives']['own_ring']['seconds']))"; ok $? "the own ring takes 2 (n-1) (alpha + S/(n W))"
on 4 again --part costs --clock model --device-model h100 --tries 1; sed 's/model4/again/' "$temp/model4.out" | diff - <(sed "s/again/again/" "$temp/again.out") >/dev/null; ok $? "the same digits twice"
on 4 modelled --clock model --device-model a100; [ $? = 0 ] && json modelled/report.json "d['model_s'] > sum(p['step_s'] for p in d['playground']) > 0" && says modelled.out '^times are those of a model: a100'; ok $? "all parts under the model clock"
on 2 ideal --part costs --clock model --device-model ideal; [ $? = 0 ] && json ideal/report.json "d['collectives']['own_ring']['alpha_s'] == 0 and d['collectives']['own_ring']['bytes_per_s'] is None"; ok $? "messages that are free"

# ---- colours ----
CLICOLOR_FORCE=1 on 4 colours --part shardings; grep -q $'\033\\[48;5;117m' "$temp/colours.out"; ok $? "coloured when told that there is a terminal"
CLICOLOR_FORCE=1 NO_COLOR=1 on 4 plain --part shardings; grep -q $'\033' "$temp/plain.out"; [ $? = 1 ]; ok $? "NO_COLOR"

# ---- refusing ----
on 4 bad --part playground --fsdp-size 3; [ $? = 2 ] && one_line_error bad && says bad.err 'data x fsdp x tensor must be 4'; ok $? "degrees that do not make 4"
on 4 bad --part playground --fsdp-size 4 --hidden-size 10; [ $? = 2 ] && one_line_error bad && says bad.err 'fsdp --hidden-size 10'; ok $? "sizes that cannot be cut"
on 4 bad --part shardings --matrix-rows 60; [ $? = 2 ] && one_line_error bad && says bad.err '64 x 128 can'; ok $? "a matrix that cannot be cut"
on 4 bad --tensor-parallel-size 3 --part devices; [ $? = 2 ] && one_line_error bad; ok $? "a mesh that cannot be"
on 1 bad --part chorus; [ $? = 2 ] && one_line_error bad; ok $? "a part that is not there"
on 1 bad --largest-message 12; [ $? = 2 ] && one_line_error bad; ok $? "a message too small to fit a line to"
on 1 bad --learning-rate 1; [ $? = 2 ] && one_line_error bad && says bad.err "flag of other programs"; ok $? "a flag of other chapters"
on 1 bad --tries 0; [ $? = 2 ] && one_line_error bad; ok $? "no tries"
on 2 bad --part playground --device-memory 1K; [ $? != 0 ] && says bad.err 'passes the budget'; ok $? "a budget that is too small"
build/04_collectives --help | grep -q -- '--fsdp-size N'; ok $? "--help"
tap_done
