#!/usr/bin/env bash
# Chapter 02 as a user meets it: a short run and its files, same bits, resume, Ctrl-C, kill, a loss that is not finite,
# a full disk, prompts, and mistakes. Models are small here, so that each run takes a second.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
program=build/02_minigpt
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 256
    --global-batch-size 4 --micro-batch-size 2 --max-steps 12 --eval-interval 4 --eval-windows 4 --sample-interval 6
    --save-interval 4 --log-interval 2 --max-new-tokens 20)
train() { # train FOLDER FLAGS...: output in FOLDER.out, its status is the program's
    local out=$1
    shift
    "$program" "${small[@]}" --output-dir "$temp/$out" "$@" >"$temp/$out.out" 2>"$temp/$out.err"
}
start() { # like train, in the background; its process is $pid
    (out=$1; shift; exec "$program" "${small[@]}" --output-dir "$temp/$out" "$@" >"$temp/$out.out" 2>"$temp/$out.err") &
    pid=$!
}
same_weights() { cmp -s "$temp/$1/checkpoint/$3/model.safetensors" "$temp/$2/checkpoint/$3/model.safetensors"; }
losses() { cut -d, -f1-6 "$temp/$1/loss.csv"; } # all but the times
says() { grep -q -- "$2" "$temp/$1"; }
one_line_error() { [ "$(wc -l <"$temp/$1.err")" = 1 ] && grep -q ': error: ' "$temp/$1.err"; }

# ---- a run and its files ----
train a; ok $? "a short run"
[ "$(head -1 "$temp/a/loss.csv")" = step,tokens,loss,val_loss,lr,grad_norm,step_ms,tokens_per_s ]; ok $? "loss.csv has its header"
[ "$(wc -l <"$temp/a/loss.csv")" = 14 ]; ok $? "loss.csv has step 0 and 12 steps"
awk -F, 'NR == 3 {first = $3} NR > 1 && $3 != "" {last = $3} END {exit !(last < first)}' "$temp/a/loss.csv"; ok $? "the loss comes down"
[ "$(head -c 8 "$temp/a/loss.png" | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ]; ok $? "loss.png is a PNG"
for key in chapter arguments machine devices threads_per_device parameters matmul_parameters flops_per_token steps tokens wall_s tokens_per_s peak_gflops mfu loss val_loss bits_per_byte entropy_floor trigram_loss memory queue; do
    grep -q "\"$key\": [^n]" "$temp/a/report.json"; ok $? "report.json has $key"
done
grep -q '"synchronisations": 1,$' "$temp/a/report.json"; ok $? "... in a step the host waits for the device once"
says a.out "a sample at step 6"; ok $? "a sample on the way"
tail -1 "$temp/a.out" | grep -q "$temp/a/loss.png"; ok $? "the last line says where the picture is"
PATH=/nowhere train bare --max-steps 2; [ "$(tail -1 "$temp/bare.out")" = "in $temp/bare: checkpoints; not drawn, as a warning says: loss.png" ] && grep -q "warning: no picture .*there is no gnuplot" "$temp/bare.err"; ok $? "without gnuplot it does not promise a picture"
grep -q $'\r' "$temp/a.out"; [ $? = 1 ]; ok $? "no carriage returns in a pipe"
[ "$(ls "$temp/a/checkpoint" | tr '\n' ' ')" = "step-000008 step-000012 " ]; ok $? "the last two checkpoints are kept"

# ---- same bits ----
train b; losses b | diff -q - <(losses a) >/dev/null && same_weights a b step-000012; ok $? "the same run twice: same losses, same weights"
OMP_NUM_THREADS=1 train one; same_weights a one step-000012; ok $? "1 thread and 2: same weights"
train other --seed 2; ! same_weights a other step-000012; ok $? "another seed: other weights"
train micro --micro-batch-size 1; ! same_weights a micro step-000012; ok $? "other micro-batches round differently"
train recompute --recompute; same_weights a recompute step-000012; ok $? "--recompute: same weights"
train blas --gemm openblas; [ $? = 0 ] && says blas.out "products by OpenBLAS" && awk -F, 'NR == FNR { a[FNR] = $3; next } FNR > 2 && ($3 - a[FNR]) ^ 2 > 1e-8 { bad = 1 } END { exit bad || FNR < 10 }' "$temp/a/loss.csv" "$temp/blas/loss.csv"; ok $? "products by OpenBLAS: the same losses to rounding"
train drop --dropout 0.2; train drop2 --dropout 0.2 --recompute; same_weights drop drop2 step-000012 && ! same_weights a drop step-000012; ok $? "dropout is active, and the same when recomputed"

train trace --trace; same_weights a trace step-000012; ok $? "--trace: same weights"
python3 -c "import json, sys; events = json.load(open(sys.argv[1]))['traceEvents']; assert sum(e['name'].startswith('step ') for e in events) == 12" "$temp/trace/trace.json" 2>"$temp/trace.err"; ok $? "... and the 12 steps are in trace.json"

# ---- resume ----
train r --stop-at-step 5; train r --resume; same_weights a r step-000012 && losses r | sed '/^5,/s/,[^,]*\(,[^,]*,[^,]*\)$/,\1/' | diff -q - <(losses a) >/dev/null; ok $? "stopped at 5 (which adds a validation loss) and resumed: same bits, same loss.csv"
start k --save-interval 1 --max-steps 12
while [ ! -d "$temp/k/checkpoint/step-000003" ] && kill -0 $pid 2>/dev/null; do sleep 0.02; done
kill -9 $pid; wait $pid 2>/dev/null
train k --save-interval 1 --resume; same_weights a k step-000012 && losses k | diff -q - <(losses a) >/dev/null; ok $? "killed in the middle and resumed: same bits, same loss.csv"
train r --resume && says r.out "^validation loss [0-9]" && grep -q '"val_loss": [0-9]' "$temp/r/report.json"; ok $? "resuming a finished run measures it again"
train none --resume; [ $? = 1 ] && one_line_error none && says none.err "no checkpoint"; ok $? "nothing to resume"
train r --resume --hidden-size 64; [ $? = 2 ] && one_line_error r && says r.err "hidden-size"; ok $? "another model is not resumed"
train r --resume --optimizer sgd; [ $? = 2 ] && one_line_error r && says r.err "optimizer is sgd, but the run saved in .* has adamw (hint: use --optimizer adamw, or another"; ok $? "moments of another optimizer are not loaded"
train sgd --optimizer sgd --stop-at-step 2; train sgd --resume; [ $? = 2 ] && one_line_error sgd && says sgd.err "optimizer is adamw, but the run saved in .* has sgd"; ok $? "... nor the other way round"
cp -r "$temp/a" "$temp/damaged"; printf x | dd of="$temp/damaged/checkpoint/step-000012/model.safetensors" bs=1 seek=3000 conv=notrunc 2>/dev/null
train damaged --resume; [ $? = 1 ] && one_line_error damaged && says damaged.err "model.safetensors" && says damaged.err "step-000008"; ok $? "a damaged checkpoint is refused by name, the previous one is offered"

# ---- resumed with another schedule: the warning names the rate of the next step, before and after ----
train s --stop-at-step 5
lr() { awk -F, -v step="$2" '$1 == step { printf "%.4g", $5 }' "$temp/$1/loss.csv"; }
was=$(lr a 6)
for flags in "--max-steps 700" "--learning-rate 0.001" "--min-lr 0.003" "--warmup-ratio 0.9"; do
    # shellcheck disable=SC2086
    rm -rf "$temp/s2"; cp -r "$temp/s" "$temp/s2"; train s2 $flags --stop-at-step 6 --resume
    [ "$(lr s2 6)" != "$was" ] && says s2.err "warning: .*; the learning rate of step 6 is $(lr s2 6), as saved it would have been $was$"; ok $? "$flags: both rates"
done
rm -rf "$temp/s2"; cp -r "$temp/s" "$temp/s2"; train s2 --weight-decay 0.2 --resume; says s2.err "weight-decay" && ! says s2.err "learning rate"; ok $? "the same rate: nothing of it"

# ---- resumed with another batch: the windows go on, over the end of an epoch as well ----
still=(--max-seq-length 64 --learning-rate 0 --min-lr 0 --max-steps 14 --eval-interval 0 --sample-interval 0)
for i in $(seq 90); do echo "Story $i tells of $((i * 7)) things that came after the $((i - 1)) others.<|endoftext|>"; done >"$temp/text"
build/prepare_data --text "$temp/text" --vocab-size 300 --output-dir "$temp/data" >"$temp/data.out" 2>&1; ok $? "data of less than 56 windows"
for source in stories data; do
    from=(); [ $source = data ] && from=(--data-dir "$temp/data")
    train w4$source "${still[@]}" "${from[@]}"
    train w$source "${still[@]}" "${from[@]}" --global-batch-size 8 --stop-at-step 2
    train w$source "${still[@]}" "${from[@]}" --global-batch-size 4 --stop-at-step 4 --resume
    train w$source "${still[@]}" "${from[@]}" --global-batch-size 16 --stop-at-step 6 --resume
    check "8, then 4, then 16 windows a step: no gap and no repeat, $source" python3 tests/windows_consumed.py "$temp/w$source/loss.csv" "$temp/w4$source/loss.csv" 64 8 8 4 4 16 16
done
train r --resume --data-dir "$temp/data" --max-seq-length 256; [ $? = 1 ] && one_line_error r && says r.err "trained with another tokenizer .*the stories, without --data-dir"; ok $? "other data is refused before the model is compared"

# ---- interrupted ----
start i --max-steps 100000 --save-interval 0
for _ in $(seq 500); do [ -s "$temp/i/loss.csv" ] && [ "$(wc -l <"$temp/i/loss.csv")" -gt 4 ] && break; sleep 0.02; done
kill -INT $pid; wait $pid; ok $? "Ctrl-C: finishes, exit 0"
compgen -G "$temp/i/checkpoint/step-*" >/dev/null && [ -s "$temp/i/loss.png" ] && [ -s "$temp/i/report.json" ]; ok $? "Ctrl-C: saved, drawn and reported"
[ "$(tail -1 "$temp/i/loss.csv" | cut -d, -f4)" != "" ]; ok $? "Ctrl-C: the last step has its validation loss"

# ---- numbers that are not finite, budgets, disks ----
train nan --learning-rate 1000 --weight-decay 10 --warmup-ratio 0 --grad-clip 0 --max-steps 60 --eval-interval 0; [ $? = 1 ] && one_line_error nan && says nan.err "step [0-9]*: the loss" && says nan.err "first in the"; ok $? "a loss that is not finite names the step and the op"
train tight --num-layers 8 --recompute --device-memory 5M --learning-rate 1000 --weight-decay 10 --warmup-ratio 0 --grad-clip 0 --max-steps 60 --eval-interval 0 --sample-interval 0; [ $? = 1 ] && one_line_error tight && says tight.err "first in the"; ok $? "... whatever memory the search for it takes"
train budget --device-memory 200K; [ $? = 1 ] && one_line_error budget && says budget.err "passes the budget"; ok $? "a budget that is too small"
train small --device-memory 20K; [ $? = 1 ] && one_line_error small && says small.err "needs 131 KB and passes the budget of 20.5 KB by 111 KB; held: 0 B"; ok $? "... in a unit in which it can be read"
train full --output-dir /dev/full/x; [ $? = 1 ] && one_line_error full; ok $? "an output folder that cannot be made"
(trap '' XFSZ; ulimit -f 64; train disk); [ $? = 1 ] && one_line_error disk && says disk.err "cannot write"; ok $? "a disk that is full while a checkpoint is written"

# ---- prompts ----
"$program" --output-dir "$temp/a" --prompt "One day" --max-new-tokens 200 >"$temp/p.out" 2>"$temp/p.err"; ok $? "--prompt"
head -1 "$temp/p.out" | grep -q '^One day'; ok $? "the text begins with the prompt"
"$program" --output-dir "$temp/a" --prompt "" --temperature 0 --max-new-tokens 5 >/dev/null 2>&1; ok $? "an empty prompt, greedy"
"$program" --output-dir "$temp/a" --prompt "$(printf 'word %.0s' $(seq 500))" --max-new-tokens 5 >"$temp/p.out" 2>&1 && says p.out "longer than the window"; ok $? "a prompt longer than the window says so"
"$program" --output-dir "$temp/nowhere" --prompt x >/dev/null 2>"$temp/p.err"; [ $? = 1 ] && [ "$(wc -l <"$temp/p.err")" = 1 ]; ok $? "--prompt without a checkpoint"
for seed in 1 2; do "$program" --output-dir "$temp/a" --prompt "One" --seed $seed --max-new-tokens 20 2>&1 | grep -av 'new tokens in' >"$temp/text$seed"; done
"$program" --output-dir "$temp/a" --prompt "One" --seed 1 --max-new-tokens 20 2>&1 | grep -av 'new tokens in' | cmp -s - "$temp/text1" && ! cmp -s "$temp/text1" "$temp/text2"; ok $? "a seed, a text; another seed, another text"

# ---- printing and refusing ----
"$program" --preset minigpt --print-model | grep -q '^27430481 parameters'; ok $? "minigpt has 27,430,481 parameters"
"$program" --preset gpt2 --print-model | grep -q '^124439808 parameters'; ok $? "gpt2 has 124,439,808 parameters"
(ulimit -v 4000000; "$program" --preset xl --print-model) | grep -q '^2127057600 parameters'; ok $? "xl is printed without its 8.5 GB"
"$program" --print-data >"$temp/data.out"; ok $? "--print-data"
says data.out '^  | <|endoftext|>·' && says data.out '^validation: 64 windows of 256 tokens' && says data.out '^entropy floor 0'; ok $? "it shows a window, and the floor"
train v --vocab-size 500; [ $? = 2 ] && one_line_error v && says v.err "too small for"; ok $? "a vocabulary too small for the data"
train v --vocab-size 2000; ok $? "a vocabulary larger than the data's"
PMI_SIZE=4 train mpi; [ $? = 2 ] && one_line_error mpi && says mpi.err mpiexec; ok $? "under mpiexec it refuses"
train pad --pad; [ $? = 2 ] && one_line_error pad && says pad.err "data-dir"; ok $? "--pad without documents"
train d --data-dir "$temp/empty"; [ $? != 0 ] && one_line_error d; ok $? "a data folder that is not there"

# ---- a few windows, again and again ----
train few --num-train-samples 8 --learning-rate 0; ok $? "--num-train-samples 8, with 4 in a step"
awk -F, 'NR > 2 { loss[$1] = $3 } END { for (s = 3; s <= 12; s++) if (loss[s] != loss[s - 2]) bad = 1; exit bad || loss[1] == loss[2] }' "$temp/few/loss.csv"; ok $? "each second step has the same ones"

tap_done
