#!/usr/bin/env bash
# Arrows point one way: chapters stand on datasets and common, datasets on common; a chapter may use the lesson code of
# a lower-numbered chapter only; the folders of common are floors, and each uses what is below it. No circles, neither
# of includes nor of calls. This reads the #include lines, and the symbols of what was compiled. Each rule is also shown
# a copy of the tree that breaks it.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh

floors=(base config tensor cpu cuda data comm model run draw tools)

includes() { grep -rnE '^ *# *include' --include='*.c' --include='*.h' --include='*.cu' "$@" 2>/dev/null; }
# "FROM TO": one line for each include of one of our files
include_arrows() { includes common datasets chapters | sed -nE 's|^([^:]*):[0-9]+:.*"([^"]*)".*|\1 \2|p'; }
# of lines "FROM TO", those who are in a circle; an arrow to oneself is none
circles() { awk '$1 != $2' | tsort 2>&1 >/dev/null | grep -v 'contains a loop' | sed 's/^tsort: //'; }
# "FROM TO" for each symbol that one object file in the folder wants and another has
call_arrows() {
    (cd "$1" && find . -name '*.o' | sort | xargs nm -A -P) | awk '{ sub(/:$/, "", $1); sub(/^\.\//, "", $1) }
        $3 == "U" { wants[$1, $2] } $3 ~ /^[TDBRCV]$/ { has[$2] = $1 }
        END { for (key in wants) { split(key, k, SUBSEP); if (k[2] in has) print k[1], has[k[2]] } }' | sort -u
}

# ---- the rules: each prints what breaks it, in the tree of the working directory ----

rule_common() { includes common | grep -E '"(\.\./)*(chapters|datasets|tests)/'; }
rule_datasets() { includes datasets | grep -E '"(\.\./)*(chapters|tests)/'; }
rule_chapters() { includes chapters | grep -E '"(\.\./)*tests/'; }
rule_lower_chapters() {
    includes chapters | sed -nE 's|^(chapters/([0-9][0-9])_[^:]*:[0-9]*):.*"chapters/([0-9][0-9])_.*|\1 \2 \3|p' | awk '$3 > $2 {print $1}'
}
rule_floors() {
    includes common | awk -v floors="${floors[*]}" '
        BEGIN { n = split(floors, floor, " "); for (i = 1; i <= n; i++) height[floor[i]] = i }
        match($0, /"common\/[a-z_]+\//) {
            split($0, from, "/")
            to = substr($0, RSTART + 8, RLENGTH - 9)
            if (!(from[2] in height) || !(to in height) || height[to] > height[from[2]]) print
        }'
}
rule_nothing_loose() { find common -mindepth 1 -maxdepth 1 ! -type d ! -name README.md; }
rule_same_folders() { diff <(find common -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort) <(printf '%s\n' "${floors[@]}" | sort); }
rule_readme_order() { diff <(sed -nE 's/^\| \[`([a-z]+)\/`\].*/\1/p' common/README.md) <(printf '%s\n' "${floors[@]}"); }
# a number of lines that has become wrong by more than a tenth
rule_readme_lines() {
    local said links link lines row
    sed -nE 's/^\| (.*) \| ([0-9]+) \|$/\2 \1/p' common/README.md | while read -r said row; do
        mapfile -t links < <(grep -oE '\]\([^)]*\)' <<<"$row" | tr -d ']()')
        lines=0
        for link in "${links[@]}"; do
            if [ -d "common/$link" ]; then
                lines=$(find "common/$link" \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cc' \) -exec cat {} + | wc -l)
                break
            fi
            lines=$((lines + $(cat "common/${link%.*}".[ch] | wc -l)))
        done
        [ $((10 * (said > lines ? said - lines : lines - said))) -le "$lines" ] || echo "$said lines are $lines: $row"
    done
}
rule_include_circles() { include_arrows | circles; }
rule_from_the_top() { includes common datasets chapters | grep -E '"' | grep -vE '"(common|datasets|chapters)/'; }
rule_mpi() { includes common datasets chapters | grep -E '[<"](mpi|nccl)\.h' | grep -v '^common/comm/'; }
rule_cuda() { includes common datasets chapters | grep -E '[<"](cuda|cublas)[a-zA-Z_]*\.h' | grep -vE '^common/(cuda|comm)/'; }
# who may turn an address on a device into one that can be followed: kernels and collectives
rule_device_memory() {
    includes common datasets chapters | grep -E '"common/(base/closed_memory|cpu/kernels_cpu)\.h"' | grep -vE '^common/(cpu|comm)/|^common/base/closed_memory\.c'
}
rule_fast_math() { grep -nE -- '-Ofast|-ffast-math' Makefile | grep -v '^[0-9]*:#'; }
rule_length() {
    wc -l chapters/*/*.[ch] common/*/*.[ch] datasets/*.[ch] | awk '$2 != "total" && (($2 ~ /main\.c$/ && $1 > 260) || $1 > 420)'
}

# holds RULE WHAT: nothing in this tree breaks it
holds() {
    local findings
    findings=$("$1")
    [ -z "$findings" ]
    ok $? "$2"
    [ -z "$findings" ] || sed 's/^/# /' <<<"$findings"
}

# finds RULE WHAT FILE LINE: it goes red when FILE ends with this LINE; the copy is as before afterwards
finds() {
    (
        cd "$temp/copy" || exit 1
        mkdir -p "$(dirname "$3")"
        [ ! -e "$3" ] || cp "$3" "$temp/kept"
        echo "$4" >>"$3"
        [ -n "$("$1")" ] && red=0 || red=1
        if [ -e "$temp/kept" ]; then mv "$temp/kept" "$3"; else rm "$3"; fi
        exit "$red"
    )
    ok $? "goes red: $2"
}

holds rule_common "common knows nothing of chapters, datasets or tests"
holds rule_datasets "datasets know nothing of chapters or tests"
holds rule_chapters "chapters know nothing of tests"
holds rule_lower_chapters "a chapter includes lower chapters only"
holds rule_floors "a folder of common includes itself and those below it: ${floors[*]}"
holds rule_nothing_loose "no file lies in common itself but its README"
holds rule_same_folders "the folders of common are these floors"
holds rule_readme_order "common/README.md lists them in this order"
holds rule_readme_lines "and says how many lines each has, and each chapter's reading"
holds rule_include_circles "no circle of includes"
holds rule_from_the_top "includes are written from the top folder"
holds rule_mpi "only common/comm includes mpi.h or nccl.h"
holds rule_cuda "only common/cuda and common/comm include CUDA headers"
holds rule_device_memory "only kernels and collectives can follow an address on a device"
holds rule_fast_math "no -ffast-math, no -Ofast"
holds rule_length "a chapter's main.c fits 260 lines, other files 420"

mkdir "$temp/copy"
cp -r common datasets chapters Makefile "$temp/copy"
finds rule_common "common includes a chapter" common/model/model.h '#include "chapters/01_autograd/gemm.h"'
finds rule_datasets "datasets include a chapter" datasets/waves.c '#include "chapters/01_autograd/gemm.h"'
finds rule_chapters "a chapter includes a test" chapters/02_minigpt/main.c '#include "tests/tap.h"'
finds rule_lower_chapters "a chapter includes a higher one" chapters/02_minigpt/main.c '#include "chapters/03_performance/timed.h"'
finds rule_floors "a lower floor includes a higher one" common/tensor/tape.c '#include "common/model/model.h"'
finds rule_floors "a floor includes the next one" common/data/data.c '#include "common/comm/comm.h"'
finds rule_floors "a folder that is no floor" common/misc/misc.h '#include "common/base/base.h"'
finds rule_same_folders "another folder in common" common/misc/misc.h 'int misc;'
finds rule_nothing_loose "a file in common itself" common/util.h 'int util;'
finds rule_readme_order "a folder that README.md lists twice" common/README.md '| [`base/`](base) |'
finds rule_readme_lines "a number of lines that is wrong" common/README.md '| 01 | [tape](tensor/tape.c) | 900 |'
finds rule_include_circles "a circle between two headers of one folder" common/tensor/tensor.h '#include "common/tensor/tape.h"'
finds rule_include_circles "a circle between headers of a chapter" chapters/04_collectives/lesson.h '#include "chapters/04_collectives/cases.h"'
finds rule_from_the_top "an include beside the file" common/model/model.c '#include "optim.h"'
finds rule_mpi "MPI in a chapter" chapters/05_data_parallel/main.c '#include <mpi.h>'
finds rule_device_memory "a chapter that follows an address on a device" chapters/05_data_parallel/replica.c '#include "common/cpu/kernels_cpu.h"'
finds rule_length "a main.c of 300 lines more" chapters/02_minigpt/main.c "$(printf '/**/\n%.0s' $(seq 300))"

mkdir "$temp/objects"
echo 'int a(void); int b(void); int a(void) { return b(); }' >"$temp/a.c"
echo 'int a(void); int b(void); int b(void) { return a(); }' >"$temp/b.c"
echo 'int a(void); int c(void); int c(void) { return a(); }' >"$temp/c.c"
object() { ${CC:-cc} -c "$temp/$1.c" -o "$temp/objects/$1.o"; }
object a && object c
[ -z "$(call_arrows "$temp/objects" | circles)" ]
ok $? "c calls a: no circle"
object b
[ -n "$(call_arrows "$temp/objects" | circles)" ]
ok $? "goes red: a calls b, b calls a"
for folder in common datasets chapters; do
    findings=$(call_arrows build/obj/$folder | circles)
    [ -z "$findings" ]
    ok $? "no circle of calls between the files of $folder"
    [ -z "$findings" ] || sed 's/^/# /' <<<"$findings"
done
tap_done
