#!/usr/bin/env bash
# Several ranks that are given the same wrong words say so once, and end with 2; --help comes once.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
# Open MPI's mpiexec adds paragraphs of its own
if mpiexec --version 2>&1 | grep -q HYDRA; then own_words() { :; }; else own_words() { sed -i '/: error: /!d' "$temp/err"; }; fi
left() { grep -lazF "USAGE_MARK=$temp" /proc/[0-9]*/environ 2>/dev/null | sed 's/environ/comm/' | xargs -r grep -hxE '04_collectives|02_minigpt|rank-watcher'; }
export USAGE_MARK=$temp

wrong() { # wrong PART FLAG ...
    run timeout 60 mpiexec -n 4 build/04_collectives --output-dir "$temp/run" "${@:2}"
    own_words
    check "4 ranks, ${*:2}: one line, exit 2" refused 2 "$1"
    check "nobody is left" nothing_left
}
wrong "--prat is not a flag" --prat ring
wrong "--part is 'rings'" --part rings
wrong "8 x 8192 can" --matrix-rows 3 # which they find out together, when they know how many they are
wrong "no sharding of the playground over 4 devices fits" --tensor-parallel-size 3
run timeout 60 mpiexec -n 4 build/04_collectives --help
check "--help" succeeded
[ "$(grep -c '^example: ' "$temp/out")" = 1 ] && [ ! -s "$temp/err" ]; ok $? "it comes once"
run timeout 60 mpiexec -n 4 build/02_minigpt --output-dir "$temp/run"
own_words
check "a program of one device, as 4 ranks" refused 2 "uses one device, but 4 processes of it were started"
run build/04_collectives --prat ring
check "alone" refused 2 "--prat is not a flag"
tap_done
