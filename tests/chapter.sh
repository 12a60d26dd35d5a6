# shellcheck shell=bash disable=SC2154 # chapter, small and steps are the test's
# chapter.sh: sourced, behind tap.sh, by tests of programs that run on several devices. One of a chapter says
#   chapter=09_pipeline_parallel   the program that `on`, `start` and `text` start
#   small=(--num-layers 2 ...)     flags of all runs; those that `near` compares have --max-steps "$steps"
# A run has its output in $temp/FOLDER, its words in $temp/FOLDER.out and $temp/FOLDER.err.
command -v mpiexec >/dev/null || { echo "1..0 # SKIP no mpiexec here"; exit 0; }
unset OMP_NUM_THREADS # the devices share the cores

# ---- runs ----
program() { # program CHAPTER N FOLDER FLAGS...: on N devices; its status is the program's
    timeout 200 mpiexec -n "$2" "build/$1" "${small[@]}" --output-dir "$temp/$3" "${@:4}" >"$temp/$3.out" 2>"$temp/$3.err"
}
on() { program "$chapter" "$@"; } # on N FOLDER FLAGS...
# start N FOLDER FLAGS...: goes on by itself; a signal for it goes to $pid. timeout hands a signal on to mpiexec, and but for
# --foreground to all of its group as well: then mpiexec gets it twice, and takes the second Ctrl-C for one that is to kill.
start() {
    timeout --foreground 120 mpiexec -n "$1" "build/$chapter" "${small[@]}" --output-dir "$temp/$2" "${@:3}" >"$temp/$2.out" 2>"$temp/$2.err" &
    pid=$!
}
soon() { # soon COMMAND ...: it succeeds within 30 s
    for _ in $(seq 600); do "$@" && return; sleep 0.05; done
    return 1
}
# dies_with FOLDER RANK: that rank of what `start` has started is killed, and all end within 5 s, with an error that names it
dies_with() {
    local victim began
    victim=$(pgrep -f "$chapter .*$temp/$1" | while read -r p; do tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qE "^(PMI|OMPI_COMM_WORLD)_RANK=$2$" && echo "$p"; done | head -1)
    began=$(date +%s)
    kill -9 "$victim"
    ! wait "$pid" && [ $(($(date +%s) - began)) -le 5 ] && grep -q "rank $2" "$temp/$1.err"
}
text() { # text N FLAGS...: what the run `a` goes on with
    mpiexec -n "$1" "build/$chapter" --output-dir "$temp/a" --prompt "Once there was" --temperature 0 --max-new-tokens 12 "${@:2}" 2>"$temp/text.err" | head -1
}

# ---- what they have left ----
says() { grep -qE -- "$2" "$temp/$1"; } # says FILE PATTERN
is_png() { [ "$(head -c 8 "$1" 2>/dev/null | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ]; }
json() { python3 -c "import json, sys; d = json.load(open(sys.argv[1])); assert $2, $2" "$temp/$1"; } # json FILE CONDITION
losses() { cut -d, -f1-6 "$temp/$1/loss.csv"; }                                                       # all but the times
same() { # same A B: losses, weights and moments, to the bit; flags may differ
    build/compare "$temp/$1" "$temp/$2" >"$temp/compare.out" || {
        grep -qE '^different: 0 of [1-9][0-9]* rows, 0 of [1-9][0-9]* tensors, 1 other' "$temp/compare.out" &&
            grep -qE '^state.json differs:( config\.[a-z_]+)+$' "$temp/compare.out"
    }
}
near() { # near A B: the losses of all $steps differ by rounding alone, and so do evaluations that both have made
    python3 - "$temp/$1/loss.csv" "$temp/$2/loss.csv" "$steps" <<'END'
import csv, sys
rows = [{(r["step"], k): float(r[k]) for r in csv.DictReader(open(f)) for k in ("loss", "val_loss") if r[k]} for f in sys.argv[1:3]]
both = rows[0].keys() & rows[1].keys()
for row in rows:
    assert sum(k == "loss" for _, k in row) == sum(k == "loss" for _, k in both) == int(sys.argv[3]), row
worst = max(abs(rows[0][k] - rows[1][k]) for k in both)
assert worst < 1e-4, worst
END
}
# bubbles FOLDER: each of four waits of a pipeline is the formula's
bubbles() { awk '/^idle time/ { on = 1; next } !NF { on = 0 } on { rows++; if ($NF < 0.999999 || $NF > 1.000001) bad = 1 } END { exit bad || rows != 4 }' "$temp/$1.out"; }
# one_line_error FOLDER [PROGRAM]: an error is said once, with a hint
one_line_error() { [ "$(grep -c ': error: ' "$temp/$1.err")" = 1 ] && grep -q "${2:-$chapter}: error: .*(hint: " "$temp/$1.err"; }
refuses() { # refuses N STATUS PART FLAGS...: says PART in one line, and leaves no folder
    local status=0
    on "$1" refused "${@:4}" || status=$?
    cat "$temp/refused.err"
    [ $status = "$2" ] && one_line_error refused && grep -qF -- "$3" "$temp/refused.err" && [ ! -e "$temp/refused" ]
}
