#!/usr/bin/env bash
# Chapter 03 as a user meets it: its tables, pictures, report and trace, the sweeps, the mistakes, and bad input. What is
# counted must be right; of what is timed only that it is there.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
program=build/03_performance
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 64
    --global-batch-size 4 --micro-batch-size 2 --warmup-steps 2 --max-steps 5 --point-seconds 0)
measure() { # measure FOLDER FLAGS...: output in FOLDER.out, its status is the program's
    local out=$1
    shift
    "$program" "${small[@]}" --output-dir "$temp/$out" "$@" >"$temp/$out.out" 2>"$temp/$out.err"
}
says() { grep -q -- "$2" "$temp/$1"; }
one_line_error() { [ "$(wc -l <"$temp/$1.err")" = 1 ] && grep -q ': error: ' "$temp/$1.err"; }
is_png() { [ "$(head -c 8 "$1" 2>/dev/null | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ]; }
json() { python3 -c "import json, sys; d = json.load(open(sys.argv[1])); assert $2, $2" "$temp/$1"; }

# ---- a run and what it leaves ----
measure a; ok $? "a short run"
for picture in bandwidth roofline batch batch_time threads; do is_png "$temp/a/$picture.png"; ok $? "$picture.png is a PNG"; done
for key in chapter arguments machine devices threads_per_device parameters matmul_parameters flops_per_token steps tokens wall_s tokens_per_s peak_gflops mfu loss trigram_loss memory; do
    json a/report.json "d['$key'] is not None"; ok $? "report.json has $key"
done
json a/report.json "d['steps'] == 5 and d['tokens'] == 5 * 4 * 64"; ok $? "the steps that warm up are not counted"
json a/report.json "d['performance']['product_flops'] == d['flops_per_token'] == 6 * d['matmul_parameters'] + 6 * 2 * 32 * 64"; ok $? "FLOPs counted in the kernels are 6 N + 6 L C T"
json a/report.json "abs(sum(o['flops'] for o in d['performance']['ops']) / (4 * 64) / sum(d['performance'][k + '_flops'] for k in ('product', 'again', 'other')) - 1) < 1e-12"; ok $? "those of all ops are those of a step"
json a/report.json "0 < d['mfu'] <= d['performance']['hfu'] and 0 < d['performance']['between_kernels_s'] < d['performance']['step_s'] > d['performance']['roof_s'] > 0"; ok $? "what was done is at least what the formula asks for"
says a.out "ratio 1.000000"; ok $? "the ratio is printed"
for phase in data forward "backward, inputs" "backward, parameters" clip optimizer; do says a.out "^$phase "; ok $? "a line for the phase: $phase"; done
for op in "linear ffn_up" attention gelu "layernorm norm1" add "embedding token" head_loss squares adamw; do says a.out "^$op  "; ok $? "a line for the op: $op"; done
[ "$(sed '1,/^---- other batches/d; /^---- /,$d' "$temp/a.out" | grep -cE '^ +(8|16|32|64|128|256) ')" = 6 ]; ok $? "six batches"
sed '1,/^---- other numbers/d' "$temp/a.out" | grep -qE '^ +1 .*100%'; ok $? "one thread"
tail -1 "$temp/a.out" | grep -q "$temp/a/roofline.png"; ok $? "the last line says where the picture is"
PATH=/nowhere measure bare --sweep none; [ "$(tail -1 "$temp/bare.out")" = "in $temp/bare: trace.json; not drawn, as a warning says: bandwidth.png, roofline.png" ]; ok $? "without gnuplot it promises none"
[ -s "$temp/a.err" ]; [ $? = 1 ]; ok $? "nothing on stderr"

# ---- without sizes the work is fitted ----
preset=(--preset minigpt --num-layers 1 --hidden-size 16 --num-attention-heads 2 --intermediate-size 16 --max-seq-length 32
    --vocab-size 1024 --sweep none --no-trace --fit-seconds 0)
"$program" "${preset[@]}" --output-dir "$temp/fit" >"$temp/fit.out" 2>&1; json fit/report.json "d['tokens'] == 3 * 8 * 32"; ok $? "a preset of 256 windows is cut to a micro-batch and three steps"
says fit.out "fitted to about 0 s: 8 windows a step instead of 256, 3 measured steps instead of 30; .*--global-batch-size 256 --max-steps 30$"; ok $? "... which is said"
"$program" "${preset[@]}" --output-dir "$temp/fit" --global-batch-size=16 --max-steps 4 >"$temp/fit.out" 2>&1; json fit/report.json "d['tokens'] == 4 * 16 * 32" && ! says fit.out "fitted"; ok $? "... and not done where sizes are given"

# ---- the trace ----
json a/trace.json "[e['name'] for e in d['traceEvents'] if e['name'].startswith('step ')] == ['step %d' % s for s in range(1, 8)]"; ok $? "trace.json has the 7 steps"
json a/trace.json "sum(e['args']['FLOPs'] for e in d['traceEvents'] if 'shapes' in e.get('args', {})) == 7 * round(sum(o['flops'] for o in json.load(open('$temp/a/report.json'))['performance']['ops']))"; ok $? "and the FLOPs of their kernels"
measure quiet --no-trace --sweep none; ok $? "--no-trace --sweep none"
[ ! -e "$temp/quiet/trace.json" ] && [ ! -e "$temp/quiet/batch.png" ] && says quiet.out "^model FLOPs utilisation"; ok $? "leaves them out"

# ---- other models ----
measure again --recompute --sweep none --no-trace; json again/report.json "d['performance']['product_flops'] > 1.1 * d['flops_per_token']"; ok $? "--recompute does more than the formula asks for"
says again.out "^recompute "; ok $? "and has a phase for it"
measure llama --norm rmsnorm --positions rope --activation swiglu --num-key-value-heads 1 --no-tied --bias --dropout 0.1 --sweep threads
says llama.out "ratio 1.000000" && [ ! -e "$temp/llama/batch.png" ] && is_png "$temp/llama/threads.png"; ok $? "other blocks, --sweep threads"
"$program" --preset minigpt --print-model | grep -q '^27430481 parameters'; ok $? "--print-model"
"$program" --print-data | grep -q '^entropy floor 0'; ok $? "--print-data"

# ---- mistakes ----
measure wrong --mistakes; ok $? "--mistakes"
for what in "four times as many threads" "vocabulary of 50304" "B lies transposed" "y\[i\]\[j\] += x\[j\]\[i\]" "of denormals"; do says wrong.out "$what"; ok $? "measures: $what"; done

# ---- refusing ----
measure bad --sweep some; [ $? = 2 ] && one_line_error bad; ok $? "a sweep that is not there"
measure bad --max-steps 0; [ $? = 2 ] && one_line_error bad; ok $? "no steps"
measure bad --point-seconds -1; [ $? = 2 ] && one_line_error bad; ok $? "negative seconds"
measure bad --learning-rate 1; [ $? = 2 ] && one_line_error bad && says bad.err "flag of other programs"; ok $? "a flag of other chapters"
measure bad --global-batch-size 3; [ $? = 2 ] && one_line_error bad; ok $? "a batch that cannot be cut"
measure bad --vocab-size 100; [ $? = 2 ] && one_line_error bad; ok $? "a vocabulary too small for the data"
measure bad --device-memory 100K; [ $? = 1 ] && one_line_error bad && says bad.err "passes the budget"; ok $? "a budget that is too small"
measure bad --output-dir /dev/full/x; [ $? = 1 ] && one_line_error bad; ok $? "an output folder that cannot be made"
PMI_SIZE=4 measure bad; [ $? = 2 ] && one_line_error bad && says bad.err mpiexec; ok $? "under mpiexec it refuses"
OPENBLAS_CORETYPE=Sandybridge measure forced --sweep none --no-trace; says forced.out "OPENBLAS_CORETYPE=Sandybridge chose"; ok $? "the banner says who chose the BLAS kernels"

# ---- interrupted ----
("$program" "${small[@]}" --max-steps 100000 --output-dir "$temp/i" >"$temp/i.out" 2>"$temp/i.err"; echo $? >"$temp/i.status") &
for _ in $(seq 1000); do grep -q "^---- a training step" "$temp/i.out" 2>/dev/null && break; sleep 0.02; done
sleep 0.3; kill -INT "$(pgrep -P $! -f 03_performance | head -1)"; wait $!
[ "$(cat "$temp/i.status")" = 0 ] && says i.out "^model FLOPs utilisation" && json i/report.json "0 < d['steps'] < 100000" && json i/trace.json "d['traceEvents']"; ok $? "Ctrl-C: what was measured is told, the files are whole"

tap_done
