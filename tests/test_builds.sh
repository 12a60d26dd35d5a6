#!/usr/bin/env bash
# The other builds: clang and gcc without a warning, REAL=double trains to the same losses, and under AddressSanitizer
# (which looks for leaks as well) whole runs are clean.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
small=(--num-layers 2 --hidden-size 32 --num-attention-heads 2 --intermediate-size 64 --max-seq-length 256
    --global-batch-size 4 --micro-batch-size 2 --max-steps 6 --eval-interval 3 --eval-windows 2 --sample-interval 3
    --save-interval 3 --max-new-tokens 20)

if command -v clang >/dev/null; then
    make -s CC=clang BUILD=build-clang CFLAGS=-Werror all >"$temp/clang" 2>&1; ok $? "clang builds every program without a warning"
    sed 's/^/# /' "$temp/clang"
    build-clang/02_minigpt "${small[@]}" --output-dir "$temp/clang-run" >/dev/null; ok $? "and what it built trains"
else
    ok 0 "clang # SKIP not installed"
fi
build/02_minigpt "${small[@]}" --output-dir "$temp/float" >/dev/null; ok $? "float"
build-double/02_minigpt "${small[@]}" --output-dir "$temp/double" >/dev/null; ok $? "double"
paste -d, <(cut -d, -f3 "$temp/float/loss.csv") <(cut -d, -f3 "$temp/double/loss.csv") |
    awk -F, 'NR > 2 {d = $1 - $2; if (d < 0) d = -d; if (!(d < 1e-4)) bad = 1} END {exit bad || NR != 8}'
ok $? "float and double: losses within 1e-4 over 6 steps"
build-asan/02_minigpt "${small[@]}" --output-dir "$temp/asan" >/dev/null 2>"$temp/asan.err"; ok $? "a run under AddressSanitizer"
build-asan/02_minigpt "${small[@]}" --output-dir "$temp/asan" --max-steps 8 --resume --recompute >/dev/null 2>>"$temp/asan.err"; ok $? "resumed, with recomputation"
build-asan/02_minigpt --output-dir "$temp/asan" --prompt "One day" --max-new-tokens 300 >/dev/null 2>>"$temp/asan.err"; ok $? "a prompt beyond the window"
for options in "--positions rope --norm rmsnorm --activation swiglu --num-key-value-heads 1 --no-tied" "--norm-place post --activation relu --bias --init xavier --dropout 0.1"; do
    # shellcheck disable=SC2086
    build-asan/02_minigpt "${small[@]}" --output-dir "$temp/asan2" $options >/dev/null 2>>"$temp/asan.err"; ok $? "a run with $options"
done
sed 's/^/# /' "$temp/asan.err"
tap_done
