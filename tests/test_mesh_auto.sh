#!/usr/bin/env bash
# --mesh auto: the meshes that it lists, their order beside that of the steps that are run, meshes of thousands of devices that
# nobody has here, what does not fit, and what is refused.
# TEST tier: more
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
. tests/chapter.sh
chapter=10_3d_parallel
small=(--mesh auto --output-dir "$temp/run")
find_on() { # find_on N FLAGS...
    local n=$1
    shift
    run timeout 120 mpiexec -n "$n" build/10_3d_parallel "${small[@]}" "$@"
}
alone() { run timeout 120 build/10_3d_parallel --mesh auto --output-dir "$temp/run" "$@"; }
# both tables: "data pipe tensor" of each row, and the last columns
rows() { sed -n '/^ *data .*bubble/,/^$/p' "$temp/out" | awk '$1 ~ /^[0-9]+$/ && NF > 9'; }
run_rows() { sed -n '/^ *data .*measured/,$p' "$temp/out" | awk '$1 ~ /^[0-9]+$/'; }
# what was run was predicted within so many percent, and the order is that of the prediction
right() {
    run_rows | awk -v percent="$1" '{ r = $NF - 1; if (r < 0) r = -r; if (r > percent / 100) off = 1
        if (NR > 1 && $(NF - 1) < last) off = 1; last = $(NF - 1) } END { exit off || NR < 3 }'
}
count() { [ "$("$1" | wc -l)" = "$2" ]; }

for device in h100 ${TEST_ALL:+laptop-core}; do
    find_on 8 --run-meshes 100 --device-model $device; check "8 of $device" succeeded
    check "... all 8 meshes that 4 layers and 4 heads allow" count rows 8
    check "... each is run" count run_rows 8
    check "... as predicted within 5 percent, in the order predicted" right 5
done
if [ -n "${TEST_ALL:-}" ]; then
    find_on 8 --run-meshes 100 --device-model a100 --pipeline-schedule zb-h1 --zero-stage 1 --sequence-parallel
    check "another schedule, ZeRO and sequence parallel" right 5
fi
find_on 4 --run-meshes 2; check "on 4 devices, 2 of the meshes are run" count run_rows 2
find_on 4; check "... 3 where nothing else is asked for" count run_rows 3
small=(--global-batch-size 16 --device-model laptop-core --max-seq-length 32)
on 4 axes --sweep axes && on 4 auto --mesh auto --micro-batch-size 4 --run-meshes 0; ok $? "--sweep axes and --mesh auto of the same meshes"
same_columns() { # the columns that both have are in the same units
    awk 'FNR == 1 { file++ } file == 1 && /^[0-9] x / && $6 == 0 { mfu[$1, $3, $5, $7, $9] = $11; bubble[$1, $3, $5, $7, $9] = $12; mb[$1, $3, $5, $7, $9] = $19 }
        file == 2 && /^ +[0-9]+ +[0-9]+ +[0-9]+ +0 / && ($1, $2, $3, $6, $8) in mb { rows++; at = $1 SUBSEP $2 SUBSEP $3 SUBSEP $6 SUBSEP $8
            print; print mfu[at], bubble[at], mb[at]
            if ($9 != mb[at] || far($11, bubble[at]) || far($12, mfu[at])) bad = 1 }
        function far(a, b) { return a < b - 3 || a > b + 3 } END { exit bad || rows < 3 }' "$temp/axes.out" "$temp/auto.out"
}
check "... say the same of them: MB of a device; MFU and bubble, in percent" same_columns

# ---- devices that nobody has ----
wide=(--preset large --global-batch-size 4096 --device-model h100)
for n in 64 4096; do
    alone "${wide[@]}" --devices $n; check "$n devices" succeeded
    rows | awk -v n=$n '$1 * $2 * $3 != n { bad = 1 } $NF + 0 > 100 { bad = 1 } END { exit bad || NR < 6 }'; ok $? "... every mesh has so many, and no MFU is above 1"
    count run_rows 0; ok $? "... none is run"
done
alone "${wide[@]}" --devices 64 --device-memory 1500M
succeeded >/dev/null && grep -q "a device would hold more than it has" "$temp/out" && rows | awk '$4 > 0 || $5 == "yes" { saved = 1 } END { exit !saved }'
ok $? "with less memory: ZeRO or recomputation, and some meshes are out"

# ---- heads that cannot be cut ----
alone --devices 64 --preset xl --global-batch-size 64 --device-model h100
check "xl, of 25 heads, on 64 devices" succeeded
rows | awk '$3 != 1 { bad = 1 } END { exit bad || !NR }'; ok $? "... no mesh has devices along tensor"
grep -q "^not along tensor: 2, 4, 8, 16 .. devices, as --tensor-parallel-size 2 does not divide --num-attention-heads 25 (hint: " "$temp/out"; ok $? "... and a line says why"
alone "${wide[@]}" --devices 4; ! grep -q "not along tensor" "$temp/out"; ok $? "no such line where all can be cut"

# ---- refused ----
alone "${wide[@]}" --devices 64 --device-memory 100M; check "nothing fits" refused 1 "no mesh of 64 devices"
alone --devices 20000; check "too many devices" refused 2 "devices"
alone --mesh any; check "a choice that there is not" refused 2 "given|auto"
tap_done
