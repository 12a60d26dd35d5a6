#!/usr/bin/env bash
# tests/run itself: a test that hangs is named, has failed, and everything that it started is ended; the tiers; Ctrl-C
# reaches what a test starts even where a script has started the tests in its background.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
[ "${1-}" != interrupt ] || { trap 'echo it came; exit' INT; kill -INT $$; sleep 1; exit 1; }
unset TEST_ALL
left() { pgrep -f "sleep 987.$$$"; }
says() { grep -qE -- "$1" "$temp/out" || { cat "$temp/out"; return 1; }; }
last_line() { [ "$(tail -n 1 "$temp/out")" = "$1" ] || { cat "$temp/out"; return 1; }; }

# ---- a limit ----
cat >"$temp/test_hangs.sh" <<END
# TEST seconds: 2
echo "ok 1 - begins"
sleep 9870$$ &
(trap '' TERM; timeout 9999 sh -c "sleep 9871$$; true") &
mpiexec -n 2 sleep 9872$$
END
printf 'echo "ok 1 - quick"; echo 1..1\n' >"$temp/test_quick.sh"
run tests/run "$temp/test_hangs.sh" "$temp/test_quick.sh"
[ "$status" = 1 ]; ok $? "a test that hangs: the run fails"
check "it is named, with its limit" grep -F "test_hangs.sh' did not end within 2 s and was killed" "$temp/err"
check "all that it started is gone" nothing_left
check "the list of seconds, slowest first, says it again" says "^ +[0-9.]+  $temp/test_hangs.sh   killed: its limit is 2 s$"
[ "$(grep -cE '^ +[0-9.]+  .*/test_' "$temp/out")" = 2 ] && grep -E '^ +[0-9.]+  ' "$temp/out" | sort -rnc; ok $? "... and has both tests in order"
tail -n 1 "$temp/out" | grep -qE '^2 passed, [1-9][0-9]* failed$'; ok $? "the last line counts it among the failed"
printf 'echo "ok 1 - done"; echo 1..1; sleep 9873%s &\n# TEST seconds: 2\n' $$ >"$temp/test_leaves.sh"
run tests/run "$temp/test_leaves.sh"
[ "$status" = 1 ] && grep -qF "did not end within 2 s" "$temp/err"; ok $? "a test that leaves a process behind does not hang the run"
check "that one is gone too" nothing_left

# ---- tiers ----
printf '# TEST tier: all\necho "ok 1 - all"; echo 1..1\n' >"$temp/test_all.sh"
printf '# TEST tier: more\nfor i in $(seq $((1 + ${TEST_ALL:-0}))); do echo "ok $i - more"; done; echo 1..$i\n' >"$temp/test_more.sh"
three=("$temp/test_quick.sh" "$temp/test_all.sh" "$temp/test_more.sh")
run tests/run "${three[@]}"; check "make test: not what is for make test-all" last_line "2 passed, 0 failed"
run tests/run all "${three[@]}"; check "make test-all: everything, and more of it" last_line "4 passed, 0 failed"
run tests/run rest "${three[@]}"; check "the rest: what make test has left out" last_line "3 passed, 0 failed"

# ---- Ctrl-C, started where it is ignored, as in the background of a script ----
printf 'trap "echo ok 1 - SIGINT came; echo 1..1; exit" INT; kill -INT $$; sleep 1; echo not ok 1 - ignored\n' >"$temp/test_interrupt.sh"
ignoring() { (trap '' INT QUIT; exec nohup "$@") >"$temp/out" 2>"$temp/err" </dev/null; }
ignoring tests/run "$temp/test_interrupt.sh"; check "a test can be interrupted all the same" last_line "1 passed, 0 failed"
ignoring bash tests/test_limits.sh interrupt; check "... and one that is started by hand" last_line "it came"
tap_done
