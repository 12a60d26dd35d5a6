#!/usr/bin/env bash
# The Makefile as a user meets it: names that a shell would take apart or obey, commands in a loop that reads, one line for
# each file that is compiled.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
unset MAKEFLAGS MFLAGS TEXT OUT VOCAB TOKENIZER RUNS NP # of a `make test` that has started this one
make() { command make --no-print-directory "$@"; }

# ---- hostile names ----
names=("Alice's book.txt" 'a "quoted" one.txt' '$(touch hacked).txt' '`touch hacked`.txt' '$(shell touch hacked).txt' '${HOME}.txt'
    'a; touch hacked.txt' '*.txt' '#comment.txt' 'two  blanks.txt' $'new\nline.txt' '--help.txt' 'a\b.txt' "'; touch hacked; '.txt"
    '$$.txt' '%.txt' 'a&b|c>d.txt')
mkdir "$temp/work"
ln -s "$PWD"/{Makefile,common,chapters,datasets,tests,build} "$temp/work"
[ ! -e .git ] || ln -s "$PWD/.git" "$temp/work" # of another commit, build/ would be built again below the tests beside
within() { (cd "$temp/work" && make -s "$@"); }
made() { # made WHAT FILE: the command has succeeded, and there it is
    [ "$status" = 0 ] && [ -s "$temp/work/$2" ]; ok $? "$1"
    [ "$status" = 0 ] || sed 's/^/# /' "$temp/err"
}
for i in "${!names[@]}"; do
    name=${names[i]%.txt}
    printf 'One day a fox met a crow.<|endoftext|>The crow sang.%.0s' {1..800} >"$temp/work/$name.txt"
    run within data TEXT="$name.txt" VOCAB=258; made "make data TEXT=: name $i" "data/$name/tokenizer.json"
    run within data TEXT="./$name.txt" OUT="out/$name" TOKENIZER="data/$name"; made "... OUT and TOKENIZER" "out/$name/tokenizer.json"
    mkdir -p "$temp/work/runs/$name"
    printf 'step,tokens,loss,val_loss,lr,grad_norm,step_ms,tokens_per_s\n1,1,2,,0,0,0,0\n2,2,1,,0,0,0,0\n' >"$temp/work/runs/$name/loss.csv"
    run within plot RUNS="runs/$name" OUT="./$name.svg"; made "make plot, RUNS and OUT" "$name.svg"
done
run within plot RUNS="runs/${names[0]%.txt} runs/a\\b runs/${names[2]%.txt}" OUT=three.svg; made "several runs, with blanks in their names" three.svg
[ "$(grep -c ': training losses are equal' "$temp/out")" = 2 ]; ok $? "... each is one"
run within plot RUNS="runs/none at all" OUT=none.svg; grep -qF "no run in 'runs/none at all'" "$temp/err"; ok $? "a run that is not there"
run within ch04 NP='1; touch hacked' ARGS="--device-model list"
run make notebooks -n NOTEBOOKS='$(touch hacked); touch hacked'; succeeded >/dev/null; ok $? "NOTEBOOKS"
! find "$temp/work" . -maxdepth 1 -name hacked | grep .; ok $? "no name was obeyed"

# ---- in a loop that reads ----
printf '1\n2\n' >"$temp/numbers"
lines=0
while read -r n; do
    make -s ch04 NP="$n" ARGS="--part devices --output-dir $temp/run" >"$temp/out" 2>&1 && lines=$((lines + 1))
done <"$temp/numbers"
[ $lines = 2 ]; ok $? "while read n; do make ch04 NP=\$n; done: both lines are read"
echo localhost >"$temp/hosts"
lines=0
while read -r n; do
    common/tools/launch -f "$temp/hosts" -n "$n" build/04_collectives --part devices --output-dir "$temp/run" >"$temp/out" 2>&1 && lines=$((lines + 1))
done <"$temp/numbers"
[ $lines = 2 ]; ok $? "the same with common/tools/launch"
without=$(git grep -nE '(^|[ ;(])mpiexec( "?\$| -n)' -- Makefile common/tools | grep -v '/dev/null' | grep -v '^[^:]*:[0-9]*: *#')
[ -z "$without" ]; ok $? "mpiexec is nowhere started with the terminal's input"
printf '%s' "$without" | sed 's/^/# /'

# ---- a compiler of two words ----
printf '#!/bin/sh\nexec "$@"\n' >"$temp/through"
chmod +x "$temp/through"
run env CC="$temp/through cc" tests/install-packages; [ "$status" = 0 ] && [ ! -s "$temp/out" ]; ok $? "CC='ccache gcc' is a compiler that is there"

# ---- a line a file ----
compile() { make BUILD="$temp/build" "$temp/build/obj/common/base/rng.o" "$@"; rm -f "$temp/build/obj/common/base/rng.o"; }
run compile; [ "$(cat "$temp/out")" = "CC common/base/rng.c" ] && [ ! -s "$temp/err" ]; ok $? "make: a line a file"
run compile V=1; grep -q -- '-std=c17.* -c common/base/rng.c' "$temp/out" && ! grep -q '^CC ' "$temp/out"; ok $? "make V=1: the command"
run compile -s; [ ! -s "$temp/out" ] && [ ! -s "$temp/err" ]; ok $? "make -s: nothing"
echo 'static int never_called(void) { return 0; }' >"$temp/warn.h"
run compile CFLAGS="-include $temp/warn.h"; grep -q 'warning: .*never_called' "$temp/err"; ok $? "a warning is seen"
printf 'int x = ;\n' >"$temp/warn.h"
run compile CFLAGS="-include $temp/warn.h"; grep -q 'error: ' "$temp/err"; ok $? "an error is seen"
tap_done
