#!/usr/bin/env bash
# make data: the same bytes with any number of threads and however often it is killed; odd texts and wishes.
cd "$(dirname "$0")/.." || exit 1
. tests/tap.sh
prepare=build/prepare_data

# about 3 MB of documents, the same each time
awk 'BEGIN {
    split("the a bear fox house river went saw found little old red happy and then because they she it wood", word, " ")
    seed = 1
    while (bytes < 3000000) {
        line = ""
        for (i = 0; i < 12; i++) { seed = (seed * 16807) % 2147483647; line = line word[1 + seed % 20] (seed % 977) " " }
        print line
        bytes += length(line) + 1
        if (seed % 7 == 0) print "<|endoftext|>"
    }
}' >"$temp/text.txt"
# several shards, so that there are several moments to be killed at; a folder follows, and perhaps more
make_data=("$prepare" --text "$temp/text.txt" --vocab-size 600 --shard-tokens 60000 --output-dir)

# ---- it works ----
run make -s data TEXT="$temp/text.txt" VOCAB=600 OUT="$temp/made"
check "make data" succeeded
check "it says what to do next" grep -qF "make ch02 ARGS=\"--data-dir $temp/made\"" "$temp/out"
check "tokenizer and shards" diff <(ls "$temp/made") - <<<$'prepare.json\ntokenizer.json\ntrain_0000.bin\nvalidation_0000.bin'
OMP_NUM_THREADS=1 run "${make_data[@]}" "$temp/one"
check "with one thread" succeeded
# shellcheck disable=SC2016 # awk's own $4
check "about 5% are the validation split" awk '/ train .*documents/ { t = $4 } / validation .*documents/ { v = $4 } END { exit !(v > 0.04 * t && v < 0.06 * t) }' "$temp/out"
shards=$(find "$temp/one" -name 'train_*.bin' | wc -l)
check "several shards" [ "$shards" -ge 4 ]
for threads in 2 3; do
    OMP_NUM_THREADS=$threads run "${make_data[@]}" "$temp/threads$threads"
    check "$threads threads: the same bytes" diff -r "$temp/one" "$temp/threads$threads"
done
ls -li "$temp/one" >"$temp/before"
run "${make_data[@]}" "$temp/one"
check "done already: the same command again is fine" succeeded
check "and touches nothing" diff <(ls -li "$temp/one") "$temp/before"
check "shards of one text hold the tokens of one large shard" cmp \
    <(for f in "$temp"/one/train_*.bin; do tail -c +97 "$f"; done) <(tail -c +97 "$temp/made/train_0000.bin")

# ---- killed ----
finished() { [ -e "$1/validation_0000.bin" ]; }
kill_when() { # folder, file: as soon as the file is there
    OMP_NUM_THREADS=1 nice "${make_data[@]}" "$1" >/dev/null 2>&1 & # nice: whoever kills it should be in time
    local job=$!
    while [ ! -e "$1/$2" ] && kill -0 $job 2>/dev/null; do :; done
    kill -9 $job 2>/dev/null
    wait $job 2>/dev/null
}
unfinished=0
for file in prepare.json tokenizer.json.tmp tokenizer.json train_0000.bin.tmp train_0000.bin train_0001.bin train_0003.bin.tmp \
    validation_0000.bin.tmp; do
    folder=$temp/killed
    rm -rf "$folder"
    mkdir "$folder"
    kill_when "$folder" "$file"
    finished "$folder" || unfinished=$((unfinished + 1))
    find "$folder" -name '*.bin' -exec ls -i {} + >"$temp/before"
    run "${make_data[@]}" "$folder"
    check "killed when $file was there: it goes on" succeeded
    check "the same bytes" diff -r "$temp/one" "$folder"
    check "what was finished is kept" [ -z "$(find "$folder" -name '*.bin' -exec ls -i {} + | grep -vxFf - "$temp/before")" ]
done
check "$unfinished of 8 were really unfinished (how many depends on what else the machine does)" [ "$unfinished" -ge 1 ]
mkdir "$temp/often"
for i in 0 1 2 3 4; do kill_when "$temp/often" "train_000$i.bin"; done
run "${make_data[@]}" "$temp/often"
check "killed five times: it goes on" succeeded
check "the same bytes" diff -r "$temp/one" "$temp/often"

# a full disk, as a limit on the size of a file
mkdir "$temp/full"
run bash -c "trap '' XFSZ; ulimit -f 60; exec \"\$@\"" - "${make_data[@]}" "$temp/full"
check "no room for a shard" refused 1 "train_0000.bin.tmp" "make room"
run "${make_data[@]}" "$temp/full"
check "with room again it goes on" succeeded
check "the same bytes" diff -r "$temp/one" "$temp/full"

# two at once
mkdir "$temp/both"
"${make_data[@]}" "$temp/both" >/dev/null 2>&1 &
job=$!
while [ ! -e "$temp/both/prepare.json" ] && kill -0 $job 2>/dev/null; do :; done
kill -STOP $job
run "${make_data[@]}" "$temp/both"
check "two at work in one folder" refused 1 "another program is at work"
kill -CONT $job
wait $job
check "the first one is not disturbed" diff -r "$temp/one" "$temp/both"

# ---- the text is shortened meanwhile ----
for bytes in 100000 2999000; do # far from where it reads; and where some bytes of a page go missing
    cp "$temp/text.txt" "$temp/short.txt"
    OMP_NUM_THREADS=1 "$prepare" --text "$temp/short.txt" --vocab-size 600 --shard-tokens 60000 --output-dir "$temp/short" >/dev/null 2>"$temp/err" &
    job=$!
    while [ ! -e "$temp/short/prepare.json" ] && kill -0 $job 2>/dev/null; do :; done
    kill -STOP $job
    truncate -s $bytes "$temp/short.txt"
    kill -CONT $job
    wait $job
    status=$?
    check "the text is cut to $bytes bytes while it is read" refused 1 "short.txt' was " "while it was read" "leave the file alone"
    rm -rf "$temp/short"
done

# ---- a PCRE2 of another Unicode: one that says so stands in for it ----
cat >"$temp/unicode.c" <<'END'
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>
int pcre2_config(uint32_t what, void *where) {
    (void)what;
    if (where) strcpy(where, "99.1.0");
    return sizeof "99.1.0";
}
END
if "${CC:-cc}" -shared -fPIC "$temp/unicode.c" -o "$temp/unicode.so" 2>/dev/null; then
    cp -r "$temp/one" "$temp/unfinished"
    rm "$temp/unfinished/validation_0000.bin" "$temp/unfinished/train_0003.bin"
    LD_PRELOAD=$temp/unicode.so run "${make_data[@]}" "$temp/unfinished"
    tail -n 1 "$temp/err" >"$temp/last" && mv "$temp/last" "$temp/err"
    check "shards that were begun by another Unicode" refused 1 "the shards in '$temp/unfinished' were cut by Unicode" "PCRE2 here cuts by 99.1"
    LD_PRELOAD=$temp/unicode.so run "${make_data[@]}" "$temp/one"
    check "a folder that is done" succeeded
    check "one line says that its Unicode is another" test "$(grep -c 'warning: .*tokenizer.json.* was trained on text cut by Unicode .*, and PCRE2 here cuts by 99.1' "$temp/err")/$(wc -l <"$temp/err")" = 1/1
    LD_PRELOAD=$temp/unicode.so run build/02_minigpt --data-dir "$temp/one" --max-steps 1 --hidden-size 8 --num-attention-heads 1 --num-layers 1 --max-seq-length 32 --output-dir "$temp/run"
    check "so it is in training" test "$(grep -c 'PCRE2 here cuts by 99.1' "$temp/err")" = 1
else
    echo "# no compiler for a stand-in of PCRE2"
fi

# ---- another wish for the same folder ----
head -c 2000000 "$temp/text.txt" >"$temp/shorter.txt"
run "$prepare" --text "$temp/shorter.txt" --vocab-size 600 --shard-tokens 60000 --output-dir "$temp/one"
check "another text" refused 1 text_ "choose another OUT"
sed 's/bear/boar/' "$temp/text.txt" >"$temp/changed.txt"
run "$prepare" --text "$temp/changed.txt" --vocab-size 600 --shard-tokens 60000 --output-dir "$temp/one"
check "a text of the same size" refused 1 text_xxh3
run "$prepare" --text "$temp/text.txt" --vocab-size 601 --shard-tokens 60000 --output-dir "$temp/one"
check "another vocabulary" refused 1 "vocab_size 600, wanted is 601"
run "$prepare" --text "$temp/text.txt" --tokenizer "$temp/one" --shard-tokens 60000 --output-dir "$temp/one"
check "a given tokenizer" refused 1 tokenizer
run "${make_data[@]}" "$temp/one" --shard-tokens 70000
check "other shards" refused 1 "shard_tokens 60000, wanted is 70000"
cp -r "$temp/one" "$temp/damaged"
echo '{"format": ' >"$temp/damaged/prepare.json"
run "${make_data[@]}" "$temp/damaged"
check "a damaged prepare.json" refused 1 "prepare.json"
rm "$temp/damaged/prepare.json"
run "${make_data[@]}" "$temp/damaged"
check "a folder that make data did not make" refused 1 "make data did not make it"
cp "$temp/one/prepare.json" "$temp/damaged/"
head -c 1000 "$temp/one/train_0001.bin" >"$temp/damaged/train_0001.bin"
run "${make_data[@]}" "$temp/damaged"
check "a finished shard that was cut short" refused 1 "train_0001.bin"
echo '{}' >"$temp/damaged/tokenizer.json"
run "${make_data[@]}" "$temp/damaged"
check "a damaged tokenizer.json" refused 1 "tokenizer.json"

# ---- a tokenizer that is there ----
run make -s data TEXT="$temp/shorter.txt" TOKENIZER="$temp/one/tokenizer.json" OUT="$temp/given"
check "TOKENIZER" succeeded
check "it is copied" cmp "$temp/one/tokenizer.json" "$temp/given/tokenizer.json"
run make -s data TEXT="$temp/shorter.txt" TOKENIZER="$temp/nowhere" OUT="$temp/given2"
check "TOKENIZER is not there" grep -q 'error: .*nowhere.*(hint: ' "$temp/err"

# ---- odd texts ----
odd() { # the text comes from stdin
    cat >"$temp/odd.txt"
    rm -rf "$temp/odd"
    run "$prepare" --text "$temp/odd.txt" --vocab-size 300 --output-dir "$temp/odd"
}
odd < <(printf '')
check "an empty text" refused 1 "is empty"
check "no folder is made for it" [ ! -e "$temp/odd" ]
odd < <(printf 'x')
check "one byte" refused 1 "too little text"
odd < <(printf '\n<|endoftext|>\n\n%.0s' $(seq 1000))
check "nothing but separators" refused 1 "too little text"
odd < <(head -c 20000 "$prepare")
check "a program" refused 1 "is not text: byte"
odd < <(head -c 30000 "$temp/text.txt" | iconv -t utf-16 2>/dev/null)
check "UTF-16" refused 1 "is not text: byte" iconv
odd < <(LC_ALL=C awk 'BEGIN { for (i = 0; i < 3000; i++) printf "na%cve caf%c %d\n", 239, 233, i }')
check "bytes that are not UTF-8 are taken" succeeded
check "and warned of" grep -q 'warning: .* is not UTF-8 at 6000 of ' "$temp/err"
odd < <(head -c 1000000 /dev/zero | tr '\0' a)
check "a million of one letter" succeeded
odd < <(head -c 600000 /dev/zero | tr '\0' '\n')
check "nothing but line ends" refused 1 "too little text"
odd < <(awk 'BEGIN { for (i = 0; i < 50000; i++) print "line " i "\r" }')
check "one document, with line ends of Windows" succeeded
check "both splits hold a document" [ "$(grep -c ' 1 documents' "$temp/out")" = 2 ]
# 800 documents with two line breaks before, three behind, one inside; 800 marks; the last ends with the file
odd < <(awk 'BEGIN { for (i = 0; i < 800; i++) printf "\n\nstory %03d\nis told\r\n\n<|endoftext|>", i }')
check "what is left out is said" grep -q "left out   $((800 * (5 + 13))) of $((800 * (5 + 13 + 17))) bytes: line breaks at both ends of documents" "$temp/out"
odd < <(printf '\xEF\xBB\xBF'; printf 'to be or not to be\n%.0s' $(seq 1000))
check "a byte order mark is left out, and that is said" grep -q "left out   5 of 19003 bytes: the byte order mark, line breaks" "$temp/out"
run "$prepare" --text "$temp" --output-dir "$temp/odd2"
check "a folder" refused 1 "not a file"
run "$prepare" --text "$temp/nowhere.txt" --output-dir "$temp/odd2"
check "no such file" refused 1 "nowhere.txt"
run "$prepare" --text /dev/null --output-dir "$temp/odd2"
check "a device" refused 1 "/dev/null"
if [ "$(id -u)" != 0 ]; then
    chmod 0 "$temp/odd.txt"
    run "$prepare" --text "$temp/odd.txt" --output-dir "$temp/odd2"
    check "a file that may not be read" refused 1 "odd.txt"
fi

# ---- odd wishes ----
for vocab in 256 0 -5 1048577 99999999999999999999 4k ''; do
    run "$prepare" --text "$temp/text.txt" --vocab-size "$vocab" --output-dir "$temp/odd2"
    check "a vocabulary of '$vocab'" refused 2 "--vocab-size"
done
run "$prepare" --text "$temp/text.txt" --vocab-size 300 --tokenizer "$temp/one" --output-dir "$temp/odd2"
check "a vocabulary and a tokenizer" refused 2 "exclude each other"
run "$prepare" --output-dir "$temp/odd2"
check "no text" refused 2 "--text is missing"
run "$prepare" --text "$temp/text.txt"
check "no folder" refused 2 "--output-dir is missing"
run "$prepare" --text "$temp/text.txt" --output-dir "$temp/text.txt"
check "the folder is a file" refused 1 "$temp/text.txt"
run "$prepare" --text "$temp/text.txt" --output-dir /proc/data
check "a folder that cannot be made" refused 1 "/proc/data"
run "$prepare" --text "$temp/text.txt" --output-dir "$temp/odd2" --shard-tokens 0
check "no tokens in a shard" refused 2 "--shard-tokens"
run "$prepare" --help
check "--help" grep -q -- '--vocab-size' "$temp/out"
check "it speaks of line breaks" grep -q 'line breaks at both ends of a document are left out' <(tr -s ' \n' ' ' <"$temp/out")
run make -s data
check "make data without TEXT" grep -q 'make data TEXT=file.txt' "$temp/err"
check "none of these left a folder" [ ! -e "$temp/odd2" ]
tap_done
