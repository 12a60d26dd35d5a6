/* Tokenizer files changed at random, the same way each time: every one is refused with one line, or gives a
 * tokenizer that keeps its promises. A child walks through the changes until one ends it, then the next child
 * goes on behind that one; so all that a file can do is seen under the sanitizers.
 * TEST variants: asan
 * TEST tier: more
 * TEST seconds: 1800 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "common/base/rng.h"
#include "common/data/tokenizer.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <sys/mman.h>

#define FIXTURES "tests/fixtures/tokenizer/"

static char *folder;
static int seeds; /* changes of each file */

/* ---- changes ---- */

static const char *const interesting[] = {
    "0",
    "-1",
    "1",
    "698",
    "699",
    "700",
    "2147483647",
    "4294967296",
    "9223372036854775807",
    "1e999",
    "0.5",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "\"a\"",
    "\"a b\"",
    "[\"a\",\"b\"]",
    "\"\\u0120\"",
    "\"\\ud800\"",
    "\xc4",
    "\xff",
    " ",
    "\n",
    "\r\n",
    "\"",
    ",",
    ":",
    "]",
    "}",
    "<|endoftext|>",
    "#version",
};

static void replace(Str *s, size_t at, size_t gone, const char *text, size_t bytes) {
    Str result = {0};
    str_add(&result, s->data, at);
    str_add(&result, text, bytes);
    str_add(&result, s->data + at + gone, s->count - at - gone);
    str_free(s);
    *s = result;
}

/* The string or number at or behind `at`; false at the end of the file. */
static bool find_value(const Str *s, size_t *at, size_t *bytes) {
    while (*at < s->count && s->data[*at] != '"' && (s->data[*at] < '0' || s->data[*at] > '9')) ++*at;
    if (*at == s->count) return false;
    const char *p = s->data + *at;
    *bytes = *p == '"' ? strcspn(p + 1, "\"") + 2 : strspn(p, "0123456789");
    if (*at + *bytes > s->count) *bytes = s->count - *at;
    return true;
}

/* What stays JSON gets further: two values change places, or one becomes an interesting one. */
static void swap_or_set(Str *s, Rng *rng, size_t at, size_t other, const char *text) {
    size_t bytes, other_bytes;
    if (!find_value(s, &at, &bytes)) return;
    if (rng_below(rng, 3) == 0) {
        replace(s, at, bytes, text, strlen(text));
    } else if (find_value(s, &other, &other_bytes) && at + bytes <= other) {
        Str first = {0}, second = {0};
        str_add(&first, s->data + at, bytes);
        str_add(&second, s->data + other, other_bytes);
        replace(s, other, other_bytes, first.data, first.count);
        replace(s, at, bytes, second.data, second.count);
        str_free(&first);
        str_free(&second);
    }
}

static void change(Str *s, Rng *rng) {
    if (!s->count) return;
    size_t at = rng_below(rng, (uint32_t)s->count), other = rng_below(rng, (uint32_t)s->count);
    const char *text = interesting[rng_below(rng, COUNT_OF(interesting))];
    size_t some = rng_below(rng, 40) + 1;
    switch (rng_below(rng, 16)) {
    case 0: s->data[at] = (char)rng_below(rng, 256); break;
    case 1: s->data[at] ^= (char)(1 << rng_below(rng, 8)); break;
    case 2: replace(s, at, some < s->count - at ? some : s->count - at, "", 0); break;
    case 3: replace(s, at, 0, text, strlen(text)); break;
    case 4: s->count = at; break;
    case 5: { /* a part comes twice */
        Str part = {0};
        str_add(&part, s->data + at, some < s->count - at ? some : s->count - at);
        replace(s, other, 0, part.data, part.count);
        str_free(&part);
        break;
    }
    default: swap_or_set(s, rng, at, other, text);
    }
}

/* ---- what a tokenizer promises ---- */

static void use(const char *path) {
    static const char text[] =
        "Mina didn't  find\n17 caf\xc3\xa9s "
        "\xff\xe6\x97\xa5<|endoftext|>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaabababababababababab";
    Tokenizer *t = tokenizer_load(path);
    Tokens tokens = {0};
    Str back = {0};
    tokenizer_encode(t, text, sizeof text, &tokens);
    tokenizer_decode(t, tokens.data, tokens.count, &back);
    if (back.count != sizeof text || memcmp(back.data, text, sizeof text) != 0)
        fail(3, NULL, "the text does not come back");
    char *saved = xprintf("%s/saved.json", folder);
    tokenizer_save(t, saved);
    Tokenizer *again = tokenizer_load(saved);
    if (tokenizer_hash(again) != tokenizer_hash(t))
        fail(3, NULL, "saved and loaded, it is another tokenizer");
    tokenizer_free(again);
    tokenizer_free(t);
    free(saved);
    free(tokens.data);
    str_free(&back);
}

/* ---- one file, its changes, and what is loaded ---- */

typedef struct {
    const char *source, *name; /* the fixture, and what it is called in the folder */
    const char *load;          /* in the folder */
    Str original;
    struct Progress {
        int seed, loaded; /* where the child stands, how many files were good */
    } * progress;         /* in shared memory */
} Target;

static void walk(void *argument) {
    expect_exit_child = true; /* looking for leaks would cost a child more than all it does */
    Target *target = argument;
    int *seed = &target->progress->seed;
    char *file = xprintf("%s/%s", folder, target->name), *load = xprintf("%s/%s", folder, target->load);
    for (; *seed < seeds; ++*seed) {
        Rng rng = {.seed = (uint64_t)*seed, .stream = rng_stream(target->source)};
        Str s = {0};
        str_add(&s, target->original.data, target->original.count);
        for (uint32_t i = rng_below(&rng, 3) + 1; i > 0; i--) change(&s, &rng);
        FILE *f = file_open(file, "wb");
        fwrite(s.data, 1, s.count, f);
        file_close(f, file);
        str_free(&s);
        use(load);
        target->progress->loaded++;
        /* a file that was read may have been warned of: what counts is what the next one is told */
        CHECK(ftruncate(STDERR_FILENO, 0) == 0 && lseek(STDERR_FILENO, 0, SEEK_SET) == 0, NULL,
              "cannot empty stderr");
    }
    free(file);
    free(load);
}

static void fuzz(struct Progress *progress, const char *source, const char *name, const char *load) {
    int bad = 0, refusals = 0;
    Target target = {.source = source, .name = name, .load = load, .progress = progress};
    target.original.data = file_read(source, &target.original.count);
    *progress = (struct Progress){0};
    for (; progress->seed < seeds; progress->seed++) {
        Exit e = expect_exit(walk, &target);
        if (e.status == 0) break;
        refusals++;
        if (refused(&e, 1, folder)) continue;
        printf("# %s, seed %d, status %d: %s\n", source, progress->seed, e.status, e.text);
        bad++;
    }
    ok(!bad && progress->loaded > 10 && refusals > 10, "%s, %d changes: %d read, %d refused, %d neither",
       source, seeds, progress->loaded, refusals - bad, bad);
    char *file = xprintf("%s/%s", folder, name); /* whole again, for the file beside it */
    file_write(file, target.original.data, target.original.count);
    free(file);
    str_free(&target.original);
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    seeds = random_cases(500);
    struct Progress *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!ok(shared != MAP_FAILED, "memory that a child shares")) return tap_done();
    folder = file_temp_folder("shard-test");
    fuzz(shared, FIXTURES "tokenizer.json", "whole.json", "whole.json");
    fuzz(shared, FIXTURES "odd.json", "odd.json", "odd.json");
    char *merges = xprintf("%s/merges.txt", folder);
    size_t bytes;
    char *text = file_read(FIXTURES "gpt2/merges.txt", &bytes);
    file_write(merges, text, bytes);
    fuzz(shared, FIXTURES "gpt2/vocab.json", "vocab.json", "");
    fuzz(shared, FIXTURES "gpt2/merges.txt", "merges.txt", "");
    free(text);
    free(merges);
    munmap(shared, sizeof *shared);
    file_remove(folder);
    free(folder);
    return tap_done();
}
