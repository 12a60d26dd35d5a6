# shellcheck shell=bash
# tap.sh: sourced by tests in shell. `check "what" command ...` is ok when the command succeeds; the test ends
# with `tap_done`. A folder $temp is there, and gone afterwards. What it runs reads nothing: mpiexec would read all there is.
set -u
exec </dev/null
# In the background of a script SIGINT is ignored, under nohup SIGHUP, and no shell can undo that for what it starts: begin again.
[ -z "$(trap -p INT QUIT HUP)" ] || exec perl -e '$SIG{INT} = $SIG{QUIT} = $SIG{HUP} = "DEFAULT"; exec @ARGV' bash "tests/${0##*/}" "$@"
count=0
failures=0
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
# mpiexec: the one that belongs to what is in build/
[ ! -x build/mpiexec ] || { mkdir "$temp/own" && ln -s "$PWD/build/mpiexec" "$temp/own/" && PATH=$temp/own:$PATH; }

check() {
    local what=$1 state=ok
    shift
    count=$((count + 1))
    "$@" >"$temp/check.log" 2>&1 || state="not ok" failures=$((failures + 1))
    echo "$state $count - $what"
    [ "$state" = ok ] || sed 's/^/# /' "$temp/check.log"
}

# ok STATUS WHAT: passes when STATUS is 0, for `expression; ok $? "what"`
ok() {
    count=$((count + 1))
    [ "$1" = 0 ] && echo "ok $count - $2" && return
    failures=$((failures + 1))
    echo "not ok $count - $2"
}

# run COMMAND ...: keeps its exit status in $status and what it says in $temp/out and $temp/err
run() {
    status=0
    "$@" >"$temp/out" 2>"$temp/err" </dev/null || status=$?
}

# after run: it ended with this status, and one line of error that holds each of the parts
refused() {
    local want=$1 part
    shift
    cat "$temp/err"
    [ "$status" = "$want" ] && [ "$(grep -c . "$temp/err")" = 1 ] && grep -q ': error: .*(hint: ' "$temp/err" || return 1
    for part in "$@"; do grep -qF -- "$part" "$temp/err" || return 1; done
}

# after run: it succeeded
succeeded() {
    cat "$temp/out" "$temp/err"
    [ "$status" = 0 ]
}

nothing_left() { # does what `left` names go? A watcher ends some moments after its ranks
    for _ in $(seq 200); do
        [ -z "$(left)" ] && return
        sleep 0.05
    done
    left
    return 1
}

tap_done() {
    echo "1..$count"
    [ "$failures" = 0 ] && [ "$count" -gt 0 ] # a test that looked at nothing has shown nothing
    exit
}
