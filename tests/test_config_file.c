/* Config files: what a line may be, what the command line overrides, what is saved with a run and read back.
 * TEST variants: float asan
 * TEST tier: more */
#define _DEFAULT_SOURCE /* fileno in expect_exit.h */
#include "common/base/rng.h"
#include "common/config/args.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdarg.h>

typedef struct {
    int64_t size;
    const char *title;
    bool check;
} Own;

static Own own;
static const Flag own_flags[] = {
    INT_FLAG(Own, 0, "size", size, 1, 4096, "rows and columns"),
    TEXT_FLAG(Own, 0, "title", title, 0, 1000, "TEXT", "of the picture"),
    BOOL_FLAG(Own, 0, "check", check, "compare"),
};
static Program program = {.about = "does everything",
                          .example = "",
                          .groups = ARGS_ALL,
                          .own = own_flags,
                          .own_count = COUNT_OF(own_flags),
                          .values = &own};
static char *folder;

/* ---- calling args_parse ---- */

/* A file of this name in the folder of the test; count 0: up to the zero. */
static char *file_of(const char *name, const char *text, size_t count) {
    char *path = xprintf("%s/%s", folder, name);
    FILE *f = file_open(path, "wb"); /* file_write would wait for the disk each time */
    fwrite(text, 1, count ? count : strlen(text), f);
    file_close(f, path);
    return path;
}

static int split(char *line, char *argv[32]) {
    int argc = 0;
    argv[argc++] = (char *)(uintptr_t) "build/prog";
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    argv[argc] = NULL;
    return argc;
}

/* The words stay for as long as the next call. */
static Config parse(const char *format, ...) {
    static char line[4096];
    char *argv[32];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    own = (Own){.size = 64, .title = "none"};
    return args_parse(split(line, argv), argv, &program);
}

/* One file a.conf with this text, then the flags. */
static Config with(const char *text, const char *flags) {
    char *path = file_of("a.conf", text, 0);
    Config c = parse("%s --config %s", flags, path); /* wherever it stands, the flags come after it */
    free(path);
    return c;
}

typedef struct {
    const char *text;
    const char *flags; /* in front of --config; of a case that is refused: what it says */
    size_t count;      /* of bytes; 0: up to the zero */
} Case;

static void call(void *argument) {
    const Case *c = argument;
    char *path = file_of("a.conf", c->text, c->count);
    parse("%s --config %s", c->flags ? c->flags : "", path);
}

/* ---- what a file says ---- */

static void test_values(void) {
    Config c = with(
        "\xef\xbb\xbfnum-layers=2\r\n\n   # a comment\n\thidden-size\t=  64 # another\nbias = true\n"
        "tied = false\nnorm = rmsnorm\nlearning-rate = 1e-3\ndevice-memory = 64M\nsize = 9\ncheck = true",
        "");
    ok(c.model.L == 2 && c.model.C == 64 && c.model.bias && !c.model.tied && c.model.norm == NORM_RMSNORM &&
           c.learning_rate == 1e-3 && c.device_memory == 64 << 20 && own.size == 9 && own.check,
       "numbers, switches, names, sizes, the program's own; comments, blanks, CRLF and a mark before UTF-8");
    close_to(c.min_lr, 1e-3 / 60, 1e-15, "min-lr follows as it does from a flag");
    c = with("preset = minigpt\nnum-layers = 2\n", "");
    ok(!strcmp(c.preset, "minigpt") && c.model.C == 256 && c.model.L == 2, "a preset, and what changes it");
    c = with("num-layers = 2\npreset = gpt2\nlearning-rate = 1e-4", "--preset small --num-layers=3");
    ok(!strcmp(c.preset, "small") && c.model.C == 768 && c.model.L == 3 && c.model.norm == NORM_RMSNORM &&
           c.learning_rate == 1e-4,
       "the command line overrides preset and flags, and leaves the rest");
    c = with("bias = true\nresume = true", "--no-bias");
    ok(!c.model.bias && c.resume, "a switch that the command line turns off");
    with("title = a b#c  # comment", "");
    ok(!strcmp(own.title, "a b#c"), "blanks inside, and a # that is no comment");
    with("title = \" a # \\\"b\\\" \\\\ \\n\\t\"   # comment", "");
    ok(!strcmp(own.title, " a # \"b\" \\ \n\t"), "in quotes everything has its place");
    with("title =", "");
    ok(!strcmp(own.title, ""), "an empty text");
    c = with("", "--num-layers 3");
    ok(c.model.L == 3 && c.model.C == 128, "an empty file");
    ok(args_from_file(), "that a file was read is known");
    ok(parse("--num-layers 3").model.L == 3 && !args_from_file(), "... and that none was");

    char *a = file_of("first.conf", "num-layers = 2\nhidden-size = 64\n", 0),
         *b = file_of("second.conf", "num-layers = 3\n", 0);
    c = parse("--config %s --seed 9 --config=%s", a, b);
    ok(c.model.L == 3 && c.model.C == 64 && c.seed == 9,
       "of two files the later one overrides the earlier one");
    c = parse("--config %s --config %s", b, a);
    ok(c.model.L == 2, "... in their order");
    free(a);
    free(b);
    char *argv[] = {(char *)(uintptr_t) "build/prog", (char *)(uintptr_t) "--seed", (char *)(uintptr_t) "9",
                    NULL};
    with("num-layers = 2", "");
    ok(args_given(3, argv, "num-layers") && args_given(3, argv, "seed") &&
           !args_given(3, argv, "hidden-size"),
       "what a file gives is given");
}

/* The batch: what was given first, or not at all, follows. */
static void test_follows(void) {
    static const struct {
        const char *text, *flags;
        int64_t global, number, micro;
    } cases[] = {
        {"global-batch-size = 64\nmicro-batch-size = 2", "", 64, 32, 2},
        {"global-batch-size = 64\nmicro-batch-size = 2", "--num-microbatches 3", 6, 3, 2},
        {"global-batch-size = 64\nmicro-batch-size = 2", "--micro-batch-size 4", 64, 16, 4},
        {"num-microbatches = 3", "", 12, 3, 4},
        {"num-microbatches = 3", "--global-batch-size 9", 9, 3, 3},
        {"num-microbatches = 3", "--micro-batch-size 2", 6, 3, 2},
        {"num-microbatches = 3\nglobal-batch-size = 9", "", 9, 3, 3},
        {"num-microbatches = 3\nglobal-batch-size = 12", "--micro-batch-size 2", 12, 6, 2},
        {"num-microbatches = 3\nmicro-batch-size = 2", "--global-batch-size 8", 8, 4, 2},
        {"global-batch-size = 32", "--num-microbatches 4 --micro-batch-size 2", 8, 4, 2},
        {"micro-batch-size = 8", "--num-microbatches 4 --global-batch-size 12", 12, 4, 3},
        {"num-microbatches = 3\nmicro-batch-size = 2\nglobal-batch-size = 6", "", 6, 3, 2},
        {"num-microbatches = 3\nmicro-batch-size = 2\nglobal-batch-size = 6", "--global-batch-size 8", 8, 4,
         2},
        {"gradient-accumulation-steps = 5", "", 20, 5, 4},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        Config c = with(cases[i].text, cases[i].flags);
        bool right = c.global_batch == cases[i].global && c.num_microbatches == cases[i].number &&
                     c.micro_batch == cases[i].micro;
        ok(right, "batch %d: %lld windows in %lld x %lld", i, (long long)c.global_batch,
           (long long)c.num_microbatches, (long long)c.micro_batch);
    }
    program.devices = 4;
    Config c = with("global-batch-size = 64", "");
    ok(c.micro_batch == 4 && c.num_microbatches == 4, "4 devices: 64 windows");
    c = with("global-batch-size = 8\nmicro-batch-size = 1", "--tensor-parallel-size 2");
    ok(c.data_parallel == 2 && c.micro_batch == 1 && c.num_microbatches == 4, "2 x 2 devices");
    program.devices = 0;
    c = with("learning-rate = 1e-2\nmin-lr = 5e-3", "--learning-rate 1e-3");
    close_to(c.min_lr, 5e-4, 1e-15, "min-lr follows in the file's ratio");
    c = with("learning-rate = 0\nmin-lr = 0", "--learning-rate 1e-3");
    ok(c.min_lr == 0, "... where it has one");
    c = with("learning-rate = 1e-2", "--min-lr 1e-3");
    ok(c.min_lr == 1e-3, "min-lr of the command line");
}

/* ---- what is refused ---- */

static void test_refused(void) {
    static const Case cases[] = {
        {"\nmax-step = 3", "a.conf' line 2: max-step is not a flag (hint: did you mean max-steps?)", 0},
        {"--max-steps = 3", "line 1: --max-steps is not a flag (hint: did you mean max-steps?)", 0},
        {"max_seq_length = 3", "did you mean max-seq-length?", 0},
        {"sise = 3", "did you mean size?", 0},
        {"supercalifragilistic = 3", "is not a flag (hint: --help lists all flags", 0},
        {"size = 3\n\n# x\nmax-steps = 3x",
         "line 4: max-steps is '3x', not a whole number (hint: --max-steps N", 0},
        {"size = 5000", "line 1: size is '5000', must be from 1 to 4096", 0},
        {"learning-rate = 1e9", "line 1: learning-rate is '1e9', must be from 0 to 1000", 0},
        {"bias = yes", "line 1: bias is 'yes', neither true nor false (hint: --[no-]bias", 0},
        {"norm = batchnorm", "line 1: norm is 'batchnorm', not one of layernorm|rmsnorm", 0},
        {"preset = huge", "line 1: preset is 'huge', not one of tiny", 0},
        {"prompt = caf\xe9", "line 1: prompt is 'caf\xe9', not UTF-8", 0},
        {"data-dir =", "line 1: data-dir is '', must not be empty", 0},
        {"max-steps 3", "line 1: 'max-steps' is no flag with a value", 0},
        {"bias", "line 1: 'bias' is no flag with a value", 0},
        {"= 3", "line 1: '' is no flag with a value", 0},
        {"no-bias = true", "line 1: no-bias is not a flag here (hint: write bias = false)", 0},
        {"seed = 1\nbias = true\nseed = 1", "line 3: seed is given twice, first in ", 0},
        {"num-microbatches = 2\ngradient-accumulation-steps = 2",
         "line 2: gradient-accumulation-steps is given twice", 0},
        {"config = b.conf", "line 1: a config file cannot name another (hint: ", 0},
        {"title = \"a", "line 1: the quote is never closed", 0},
        {"title = \"a\" b", "line 1: 'b' stands behind the value", 0},
        {"title = \"\\x\"", "line 1: \\x in the value is not known", 0},
        {"title = \"\\", "line 1: ", 0},
        {"num-layers = 2\0", "is no text, it holds a zero byte", 15},
        {"global-batch-size = 30", "--global-batch-size 30 is not a multiple of --micro-batch-size 4", 0},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        Exit e = expect_exit(call, &(Case){cases[i].text, NULL, cases[i].count});
        ok(refused(&e, 2, cases[i].flags) && strstr(e.text, " (hint: "), "refused: %.*s",
           (int)strcspn(e.text, "\n"), e.text);
    }
    Exit e = expect_exit(call, &(Case){"", "--config /nothing/here", 0});
    ok(refused(&e, 2, "--config: cannot open '/nothing/here': No such file"), "no such file");
    e = expect_exit(call, &(Case){"", "--config /", 0});
    ok(refused(&e, 2, "--config: cannot read '/': Is a directory"), "a folder");
    e = expect_exit(call, &(Case){"", "--config /dev/zero", 0});
    ok(refused(&e, 2, "--config: '/dev/zero' is longer than"), "a file without an end");
    e = expect_exit(call, &(Case){"", "--confg x", 0});
    ok(refused(&e, 2, "--confg is not a flag (hint: did you mean --config?)"), "a slip in its name");
    e = expect_exit(call, &(Case){"", "--config", 0});
    ok(refused(&e, 2, "--config: cannot open '--config'") || refused(&e, 2, "--config has no value"),
       "no name");
    program.groups = ARGS_SAMPLE;
    e = expect_exit(call, &(Case){"max-steps = 5", NULL, 0});
    ok(refused(&e, 2, "line 1: max-steps is a flag of other programs, prog does not use it"),
       "another's flag");
    program.groups = ARGS_ALL;
}

/* ---- what is saved ---- */

static const char *texts[] = {"x",    "",          "a b", " a",  "a ",           "#",  "a #b",    "\"", "\\",
                              "\n\t", "a\nb = \"", "=",   "a\r", "\xe2\x9c\x93", "-1", "\x01\x7f"};

/* A random value that the flag takes; the caller frees it, after what points into it. */
static char *random_value(Rng *rng, const Flag *flag) {
    switch (flag->kind) {
    case FLAG_INT:
    case FLAG_BYTES:
        return xprintf("%.0f", flag->low + floor(rng_next(rng) * fmin(flag->high - flag->low, 1e6)));
    case FLAG_REAL: return xprintf("%.17g", flag->low + rng_next(rng) * fmin(flag->high - flag->low, 1));
    case FLAG_BOOL: return xstrdup(rng_below(rng, 2) ? "true" : "false");
    case FLAG_TEXT: return xstrdup(texts[rng_below(rng, COUNT_OF(texts))]);
    default: return NULL; /* names stay */
    }
}

/* All flags, as args_save writes them; what a run is asked for once is as it was. */
static void test_saved(void) {
    int count = random_cases(100), same = 0, alike = 0;
    char *path = xprintf("%s/" ARGS_SAVED, folder);
    for (int i = 0; i < count; i++) {
        Rng rng = {.seed = (uint64_t)i, .stream = rng_stream("config_file")};
        Config c = parse(i % 2 ? "--preset small" : "");
        char *values[256] = {NULL};
        for (int f = 0; f < config_flag_count; f++) {
            const Flag *flag = &config_flags[f];
            bool fixed =
                flag->group & (ARGS_MODEL | ARGS_BATCH) && flag->kind == FLAG_INT; /* must go together */
            if (fixed ||
                strstr("min-lr max-steps stop-at-step temperature pad device-model share-gpu", flag->name))
                continue;
            values[f] = random_value(&rng, flag);
            if (values[f]) free(flag_set(flag, &c, values[f]));
        }
        c.learning_rate = 1 + c.learning_rate;
        own = (Own){
            .size = 1 + rng_below(&rng, 4096), .title = texts[i % COUNT_OF(texts)], .check = i % 3 == 0};
        c.output_dir = folder;
        c.resume = c.print_model = c.print_data = c.print_memory = false;
        c.prompt = NULL;
        Own saved = own;
        args_save(&c);
        uint64_t fingerprint = args_fingerprint(&c);
        Config back = parse("--config %s", path);
        bool equal = own.size == saved.size && own.check == saved.check && !strcmp(own.title, saved.title);
        for (int f = 0; f < config_flag_count; f++) {
            Str here = {0}, there = {0};
            flag_print(&config_flags[f], &c, &here);
            flag_print(&config_flags[f], &back, &there);
            bool fits = !here.data == !there.data && (!here.data || !strcmp(here.data, there.data));
            if (!fits)
                printf("# case %d: %s is '%s', was '%s'\n", i, config_flags[f].name, there.data, here.data);
            equal &= fits;
            str_free(&here);
            str_free(&there);
        }
        same += equal;
        alike += args_fingerprint(&back) == fingerprint;
        back.seed++;
        alike -= args_fingerprint(&back) == fingerprint;
        for (int f = 0; f < config_flag_count; f++) free(values[f]);
    }
    ok(same == count, "%d of %d configurations come back from %s", same, count, ARGS_SAVED);
    ok(alike == count, "... with the same fingerprint, and a seed further with another");
    char *text = file_read(path, NULL);
    ok(strstr(text, "\n# num-microbatches = ") && strstr(text, "\n# prompt =") == NULL &&
           !strstr(text, "\nresume"),
       "what follows is a comment, and what is asked for once is not there");
    free(text);
    free(path);
}

/* Files with bytes changed, put in, taken out, lines twice: each is read, or refused in one line. */
static void test_damaged(void) {
    Config c = parse("--preset small");
    c.output_dir = folder;
    args_save(&c);
    char *path = xprintf("%s/" ARGS_SAVED, folder);
    size_t count;
    char *text = file_read(path, &count);
    int cases = random_cases(300), wrong = 0, read = 0;
    for (int i = 0; i < cases; i++) {
        Rng rng = {.seed = (uint64_t)i, .stream = rng_stream("config_file damaged")};
        Str damaged = {0};
        uint32_t rate = 20 + rng_below(&rng, 3000);
        for (size_t at = 0; at < count; at++) {
            uint32_t what = rng_below(&rng, rate);
            char other =
                (char)(rng_below(&rng, 3) ? "\"\\#=\n -0."[rng_below(&rng, 9)] : (int)rng_below(&rng, 256));
            if (what != 1) str_add(&damaged, what == 0 ? &other : &text[at], 1);
            if (what == 2) str_add(&damaged, &other, 1);
        }
        Exit e = expect_exit(call, &(Case){damaged.data, NULL, damaged.count});
        bool fine = e.status == 0 && !e.text[0], usage = refused(&e, 2, " (hint: ");
        read += fine;
        wrong += !fine && !usage;
        if (!fine && !usage) printf("# case %d ended with %d: %.300s\n", i, e.status, e.text);
        str_free(&damaged);
    }
    ok(wrong == 0 && read > cases / 20 && read < cases,
       "%d damaged files: %d read, the others refused in one line", cases, read);
    free(text);
    free(path);
}

int main(void) {
    folder = file_temp_folder("config-file");
    test_values();
    test_follows();
    test_refused();
    test_saved();
    test_damaged();
    file_remove(folder);
    free(folder);
    return tap_done();
}
