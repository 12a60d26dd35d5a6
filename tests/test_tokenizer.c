/* The tokenizer against the Hugging Face tokenizers library (tests/reference/make_tokenizer_fixtures.py), and
 * what must hold for any text. TEST variants: float asan */
#include "common/base/rng.h"
#include "common/data/tokenizer.h"
#include "tests/tap.h"

#include <jansson.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURES "tests/fixtures/tokenizer/"

static bool same_tokens(const Tokens *a, const Tokens *b) {
    return a->count == b->count &&
           (!a->count || memcmp(a->data, b->data, (size_t)a->count * sizeof *a->data) == 0);
}

static Tokens encode(const Tokenizer *t, const char *text, size_t bytes) {
    Tokens tokens = {0};
    tokenizer_encode(t, text, bytes, &tokens);
    return tokens;
}

static bool round_trip(const Tokenizer *t, const char *text, size_t bytes) {
    Tokens tokens = encode(t, text, bytes);
    Str back = {0};
    tokenizer_decode(t, tokens.data, tokens.count, &back);
    bool same = back.count == bytes && (!bytes || memcmp(back.data, text, bytes) == 0);
    free(tokens.data);
    str_free(&back);
    return same;
}

/* Every case of cases.json under `name`: ids as expected, and the text comes back. */
/* The library's ids come from a Unicode of its own: cases.json says which. */
static void check_cases(const Tokenizer *t, const char *name, const char *what) {
    json_t *root = json_load_file(FIXTURES "cases.json", JSON_ALLOW_NUL, NULL);
    json_t *cases = json_object_get(root, name);
    int wrong = 0, lost = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *text = json_array_get(json_array_get(cases, i), 0),
               *ids = json_array_get(json_array_get(cases, i), 1);
        Tokens got = encode(t, json_string_value(text), json_string_length(text));
        bool same = (size_t)got.count == json_array_size(ids);
        for (int64_t k = 0; same && k < got.count; k++)
            same = got.data[k] == json_integer_value(json_array_get(ids, (size_t)k));
        if (!same) printf("# %s, case %zu: '%s'\n", what, i, json_string_value(text));
        wrong += !same;
        lost += !round_trip(t, json_string_value(text), json_string_length(text));
        free(got.data);
    }
    ok(json_array_size(cases) > 250 && !wrong, "%s: %zu strings, %d with other ids than the library's", what,
       json_array_size(cases), wrong);
    ok(!lost, "%s: %d strings that do not come back", what, lost);
    json_decref(root);
}

/* ---- files ---- */

static void check_loading(void) {
    Tokenizer *whole = tokenizer_load(FIXTURES "tokenizer.json"), *folder = tokenizer_load(FIXTURES);
    Tokenizer *pair = tokenizer_load(FIXTURES "gpt2"), *odd = tokenizer_load(FIXTURES "odd.json");
    check_cases(whole, "tokenizer", "tokenizer.json");
    check_cases(pair, "tokenizer", "vocab.json and merges.txt");
    check_cases(odd, "odd", "shuffled merges and many added tokens");
    ok(tokenizer_vocab_size(whole) == 700 && tokenizer_end_of_text(whole) == 0, "700 tokens, the first %s",
       END_OF_TEXT);
    ok(tokenizer_hash(whole) == tokenizer_hash(pair) && tokenizer_hash(whole) == tokenizer_hash(folder),
       "the three ways to the same tokenizer have one hash");
    ok(tokenizer_hash(whole) != tokenizer_hash(odd), "another tokenizer has another hash");
    tokenizer_free(whole);
    tokenizer_free(folder);
    tokenizer_free(pair);
    tokenizer_free(odd);
}

/* What the library wrote and what is written here, of the same tokenizer, differ in two points that mean the
 * same: merges as ["a", "b"] or "a b", and a flag that the ByteLevel decoder does not use. */
static json_t *read_normal(const char *path) {
    json_t *root = json_load_file(path, 0, NULL),
           *merges = json_object_get(json_object_get(root, "model"), "merges");
    json_object_del(json_object_get(root, "decoder"), "add_prefix_space");
    json_object_del(json_object_get(root, "pre_tokenizer"), "unicode");
    for (size_t i = 0; i < json_array_size(merges); i++) {
        json_t *merge = json_array_get(merges, i);
        if (json_is_array(merge))
            json_array_set_new(merges, i,
                               json_sprintf("%s %s", json_string_value(json_array_get(merge, 0)),
                                            json_string_value(json_array_get(merge, 1))));
    }
    return root;
}

static void check_saving(const char *folder, const Tokenizer *trained) {
    char *path = xprintf("%s/tokenizer.json", folder);
    Tokenizer *t = tokenizer_load(FIXTURES "tokenizer.json"), *odd = tokenizer_load(FIXTURES "odd.json");
    tokenizer_save(t, path);
    json_t *ours = read_normal(path), *theirs = read_normal(FIXTURES "tokenizer.json");
    ok(ours && json_equal(ours, theirs), "the saved file says what the library's says");
    json_decref(ours);
    json_decref(theirs);
    const Tokenizer *all[] = {t, odd, trained};
    for (int i = 0; i < COUNT_OF(all); i++) {
        tokenizer_save(all[i], path);
        Tokenizer *back = tokenizer_load(folder);
        ok(tokenizer_hash(back) == tokenizer_hash(all[i]), "tokenizer %d, saved and loaded: the same hash",
           i);
        if (i == 1) check_cases(back, "odd", "saved and loaded");
        tokenizer_free(back);
    }
    tokenizer_free(t);
    tokenizer_free(odd);
    free(path);
}

/* ---- training ---- */

static void check_training(const Tokenizer *trained, const char *text, size_t bytes) {
    Tokenizer *library = tokenizer_load(FIXTURES "tokenizer.json");
    int different = 0;
    for (int32_t id = 0; id < 699; id++) { /* the library puts END_OF_TEXT first, here it is last */
        Str a = {0}, b = {0};
        tokenizer_decode(trained, &id, 1, &a);
        tokenizer_decode(library, &(int32_t){id + 1}, 1, &b);
        different += a.count != b.count || memcmp(a.data, b.data, a.count) != 0;
        str_free(&a);
        str_free(&b);
    }
    ok(tokenizer_vocab_size(trained) == 700 && tokenizer_end_of_text(trained) == 699 && !different,
       "trained on the same text: %d of 699 tokens differ from the library's", different);
    Tokens ours = encode(trained, text, bytes), theirs = encode(library, text, bytes);
    for (int64_t i = 0; i < theirs.count; i++) theirs.data[i] = theirs.data[i] ? theirs.data[i] - 1 : 699;
    ok(same_tokens(&ours, &theirs), "and its text has the same %lld tokens", (long long)ours.count);
    free(ours.data);
    free(theirs.data);
    tokenizer_free(library);
}

/* 3 MB, so that several chunks are counted, with all that a cut must not disturb. */
static void check_threads(const char *text, size_t bytes) {
    Str long_text = {0};
    for (int i = 0; i < 110; i++) {
        str_add(&long_text, text, bytes);
        str_printf(&long_text, "word%d %*s\xff\n\n it's", i * i, i, "");
    }
    uint64_t hash[3];
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        Tokenizer *t = tokenizer_train(long_text.data, long_text.count, 1500);
        hash[threads - 1] = tokenizer_hash(t);
        if (threads == 2)
            ok(round_trip(t, long_text.data, long_text.count), "%zu bytes come back", long_text.count);
        tokenizer_free(t);
    }
    omp_set_num_threads(2);
    ok(hash[0] == hash[1] && hash[0] == hash[2], "1, 2 and 3 threads learn the same");
    str_free(&long_text);
}

/* a, aa, aaaa ... : one piece, which only a method that is not quadratic gets through. */
static void check_one_letter(void) {
    size_t bytes = 1 << 20;
    char *text = xmalloc(bytes);
    memset(text, 'a', bytes);
    Tokenizer *t = tokenizer_train(text, bytes, 1000);
    Tokens tokens = encode(t, text, bytes);
    ok(tokenizer_vocab_size(t) == 257 + 20 && tokens.count == 1, "2^20 letters: 20 merges, then one token");
    free(tokens.data);
    tokens = encode(t, text, bytes - 1);
    bool halves = tokens.count == 20 && tokens.data[19] == 'a' - '!';
    for (int64_t i = 0; i < tokens.count - 2; i++) halves &= tokens.data[i] == tokens.data[i + 1] + 1;
    ok(halves, "2^20 - 1 letters: one token of each length");
    free(tokens.data);
    tokenizer_free(t);

    Rng rng = {.seed = 2, .stream = rng_stream("test_tokenizer")};
    for (size_t i = 0; i < bytes; i++) text[i] = (char)('a' + rng_below(&rng, 5));
    t = tokenizer_train(text, bytes, 500);
    ok(tokenizer_vocab_size(t) == 500 && round_trip(t, text, bytes), "a megabyte in one piece comes back");
    tokenizer_free(t);
    free(text);
}

static void check_edges(void) {
    Tokenizer *t = tokenizer_train("", 0, 300);
    ok(tokenizer_vocab_size(t) == 257, "nothing to learn from: bytes and %s", END_OF_TEXT);
    Tokens tokens = encode(t, "", 0);
    ok(tokens.count == 0, "no text, no tokens");
    tokenizer_encode(t, "ab", 2, &tokens);
    tokenizer_encode(t, END_OF_TEXT "!", strlen(END_OF_TEXT) + 1, &tokens);
    int32_t want[] = {'a' - '!', 'b' - '!', 256, 0}; /* GPT-2's order of bytes begins with '!' */
    ok(tokens.count == 4 && memcmp(tokens.data, want, sizeof want) == 0,
       "encoding appends; bytes in GPT-2's order");
    free(tokens.data);
    tokenizer_free(t);
    t = tokenizer_train("ab" END_OF_TEXT "ab" END_OF_TEXT, 30, 1000);
    ok(tokenizer_vocab_size(t) == 258, "%s itself is never learned from", END_OF_TEXT);
    tokenizer_free(t);
}

/* ---- any bytes ---- */

/* Noise, and noise of the bytes that the rules speak of. */
static void check_noise(const Tokenizer *t) {
    static const char bytes_of_rules[] =
        "  \n\t'strevl1!aa<|>\xc3\xa9\xc2\xa0\xe6\x97\xa5\xff\xf0\x9f\x99\x82";
    Rng rng = {.seed = 1, .stream = rng_stream("test_tokenizer")};
    size_t bytes = 1 << 20;
    char *noise = xmalloc(bytes);
    for (size_t i = 0; i < bytes; i++) noise[i] = (char)rng_below(&rng, 256);
    ok(round_trip(t, noise, bytes), "a megabyte of noise comes back");
    for (size_t i = 0; i < bytes; i++) noise[i] = bytes_of_rules[rng_below(&rng, sizeof bytes_of_rules)];
    ok(round_trip(t, noise, bytes), "a megabyte of awkward noise comes back");
    free(noise);
}

/* Threads share a tokenizer: each gets what one alone gets. */
static void check_sharing(const Tokenizer *t, const char *text, size_t bytes) {
    Tokens want = encode(t, text, bytes);
    int wrong = 0;
#pragma omp parallel for num_threads(4) reduction(+ : wrong)
    for (int i = 0; i < 40; i++) {
        Tokens got = encode(t, text, bytes);
        wrong += !same_tokens(&got, &want);
        free(got.data);
    }
    ok(!wrong, "four threads encode at once");
    free(want.data);
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    char *folder = file_temp_folder("shard-test");
    size_t bytes;
    char *text = file_read(FIXTURES "text.txt", &bytes);
    Tokenizer *trained = tokenizer_train(text, bytes, 700);
    check_loading();
    check_training(trained, text, bytes);
    check_saving(folder, trained);
    check_noise(trained);
    check_sharing(trained, text, bytes);
    check_threads(text, bytes);
    check_one_letter();
    check_edges();
    tokenizer_free(trained);
    free(text);
    file_remove(folder);
    free(folder);
    return tap_done();
}
