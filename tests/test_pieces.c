/* What the tokenizer stands on: cutting text into pieces, against the Hugging Face tokenizers library
 * and against the rule as a regular expression; counting pieces; the queues of merging. TEST
 * variants: float asan */
#include "common/data/merge_queue.h"
#include "common/data/piece_count.h"
#include "common/data/pretokenize.h"
#include "common/base/rng.h"
#include "tests/tap.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define FIXTURES "tests/fixtures/tokenizer/"

/* ---- pieces ---- */

static bool has_lengths(Splitter *splitter, const char *text, size_t bytes, const json_t *lengths) {
    const char *piece;
    size_t length, i = 0;
    bool same = true;
    splitter_start(splitter, text, bytes);
    for (; splitter_next(splitter, &piece, &length); i++)
        same &= (json_int_t)length == json_integer_value(json_array_get(lengths, i));
    return same && i == json_array_size(lengths);
}

static void check_pieces(void) {
    json_t *root = json_load_file(FIXTURES "cases.json", JSON_ALLOW_NUL, NULL);
    json_t *cases = json_object_get(root, "pieces");
    Splitter *splitter = splitter_new();
    int wrong = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *text = json_array_get(json_array_get(cases, i), 0);
        json_t *lengths = json_array_get(json_array_get(cases, i), 1);
        bool same = has_lengths(splitter, json_string_value(text), json_string_length(text), lengths);
        if (!same) printf("# pieces, case %zu: '%s'\n", i, json_string_value(text));
        wrong += !same;
    }
    char here[UNICODE_TEXT];
    ok(json_array_size(cases) > 250 && !wrong,
       "%zu strings, %d in other pieces than the library's (it cuts by Unicode %s, PCRE2 by %s)",
       json_array_size(cases), wrong, json_string_value(json_object_get(root, "unicode")),
       unicode_write(unicode_version(), here));
    static const char invalid[] = "ab\xff\xfe"
                                  "cd \xc3 \xc3\xa9t\xc3";
    json_t *lengths = json_loads("[2, 1, 1, 2, 1, 1, 4, 1]", 0, NULL);
    ok(has_lengths(splitter, invalid, sizeof invalid - 1, lengths),
       "bytes that are not UTF-8 stand by themselves");
    json_decref(lengths);
    json_decref(root);
    splitter_free(splitter);
}

/* A letter stands in one piece with the letters around it, from the version of Unicode on that has it. */
static void check_unicode(void) {
    static const struct {
        const char *text, *what;
        int since;
    } letters[] = {{"a\xe2\xb1\xaf"
                    "b",
                    "U+2C6F", 510},
                   {"a\xe0\xa1\xb0"
                    "b",
                    "U+0870", 1400},
                   {"a\xf0\xb1\x8d\x90"
                    "b",
                    "U+31350", 1500},
                   {"a\xe1\xb2\x89"
                    "b",
                    "U+1C89", 1600}};
    Splitter *splitter = splitter_new();
    char here[UNICODE_TEXT];
    for (int i = 0; i < COUNT_OF(letters); i++) {
        const char *piece;
        size_t length, all = strlen(letters[i].text);
        splitter_start(splitter, letters[i].text, all);
        bool one = splitter_next(splitter, &piece, &length) && length == all;
        ok(one == (unicode_version() >= letters[i].since), "PCRE2's Unicode %s: %s is %s",
           unicode_write(unicode_version(), here), letters[i].what, one ? "a letter" : "a sign");
    }
    splitter_free(splitter);
}

/* ---- by hand and by the pattern ---- */

/* clang-format off: ASCII, other characters, no UTF-8 */
static const char *const awkward[] = {
    " ",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\x1c",
    "a",
    "b",
    "S",
    "s",
    "t",
    "re",
    "ll",
    "1",
    "9",
    "'",
    "'",
    "!",
    "<|endoftext|>",
    "\0c",
    "\xc3\xa9",
    "e\xcc\x81",
    "\xd0\x96",
    "\xe6\x97\xa5",
    "\xf0\x9f\x99\x82",
    "\xc2\xa0",
    "\xe3\x80\x80",
    "\xc2\x85",
    "\xe1\xa0\x8e",
    "\xe2\x80\x8b",
    "\xc2\xb2",
    "\xe2\x85\xa7",
    "\xff",
    "\xc3",
    "\xe6\x97",
    "\x80",
    "\xed\xa0\x80",
    "\xf4\x90\x80\x80",
    "\xc0\xaf",
};
/* clang-format on */

static Str awkward_text(Rng *rng, uint32_t parts) {
    Str s = {0};
    str_add(&s, "", 0);
    for (uint32_t i = 0; i < parts; i++) {
        const char *part = awkward[rng_below(rng, COUNT_OF(awkward))];
        str_add(&s, part, *part ? strlen(part) : 2);
    }
    return s;
}

/* The fast path cuts as the regular expression does, which is slower and surely the rule. */
static void check_by_hand(void) {
    Rng rng = {.seed = 1, .stream = rng_stream("test_pieces")};
    int cuts = 0;
    Splitter *fast = splitter_new(), *pattern = splitter_new();
    for (int i = 0; i < 20000; i++) {
        Str s = awkward_text(&rng, 1 + rng_below(&rng, 12));
        const char *a, *b;
        size_t m, n;
        bool more = true, same = true;
        splitter_start(fast, s.data, s.count);
        splitter_start(pattern, s.data, s.count);
        while (more && same) {
            more = splitter_next(fast, &a, &m);
            same = more == splitter_next_by_pattern(pattern, &b, &n) && (!more || (a == b && m == n));
        }
        cuts += !same;
        str_free(&s);
    }
    ok(!cuts, "awkward text is cut by hand as by the pattern: %d differ", cuts);
    splitter_free(fast);
    splitter_free(pattern);
}

/* ---- counting ---- */

/* Megabytes are counted in chunks: the same pieces as in one walk over the text, most of it white space,
 * where a cut in the wrong place shows. */
static void check_counting(void) {
    static const char *const parts[] = {"    ", "\n\n", " a", "b", "\xc3\xa9", "\xff", "'s", "\xc2\xa0 "};
    Rng rng = {.seed = 4, .stream = rng_stream("test_pieces")};
    Str text = {0};
    while (text.count < 10 << 20) {
        const char *part = parts[rng_below(&rng, COUNT_OF(parts))];
        str_add(&text, part, strlen(part));
    }
    const char *piece;
    size_t length;
    uint64_t walked = 0, counted = 0; /* sums of hashes: whatever the order */
    Splitter *splitter = splitter_new();
    splitter_start(splitter, text.data, text.count);
    while (splitter_next(splitter, &piece, &length)) walked += XXH64(piece, length, 0);
    splitter_free(splitter);
    PieceTable table = pieces_count(text.data, text.count);
    for (size_t i = 0; i < table.size; i++)
        if (table.slots[i].length)
            counted += (uint64_t)table.slots[i].count * XXH64(table.slots[i].start, table.slots[i].length, 0);
    free(table.slots);
    ok(walked == counted, "%zu bytes: the pieces of all chunks are those of the text", text.count);
    str_free(&text);
}

/* ---- what merging stands on ---- */

static void check_queues(void) {
    Rng rng = {.seed = 3, .stream = rng_stream("test_pieces")};
    PlacePool pool = EMPTY_POOL;
    Heap heap = {0};
    int wrong = 0, adding = 0;
    for (int round = 0; round < 200; round++) {
        Places places[2] = {NO_PLACES, NO_PLACES};
        int count[2] = {0, 0}, most = (int)rng_below(&rng, 40);
        for (int i = 0; i < most; i++) {
            int list = (int)rng_below(&rng, 2);
            places_add(&places[list], &pool, list ? (uint32_t)i : rng_below(&rng, 1000));
            heap_push(&heap, (HeapKey){rng_below(&rng, 5), rng_below(&rng, 5)});
            count[list]++;
            adding++;
        }
        for (int list = 0; list < 2; list++) {
            uint32_t last = 0, position;
            for (; (position = places_take(&places[list], &pool)) != NOWHERE; last = position, count[list]--)
                wrong += position < last;
            wrong += count[list] != 0;
        }
        for (HeapKey last = {0, 0}; heap.count; heap_pop(&heap)) {
            HeapKey key = heap.keys[0];
            wrong += key.major < last.major || (key.major == last.major && key.minor < last.minor);
            last = key;
        }
    }
    ok(!wrong && pool.capacity <= 64, "%d places and keys come out in order, and their blocks are used again",
       adding);
    free(pool.blocks);
    free(heap.keys);
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    check_pieces();
    check_unicode();
    check_by_hand();
    check_counting();
    check_queues();
    return tap_done();
}
