/* Random command lines: each is refused in one line with a hint, or gives a configuration that holds what
 * config_check promises. Deterministic: case i is a function of i.
 * TEST variants: float asan
 * TEST tier: more */
#define _DEFAULT_SOURCE /* fileno in expect_exit.h */
#include "common/config/args.h"
#include "common/base/rng.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

typedef struct {
    char *argv[16];
    int argc;
    unsigned groups;
} Case;

/* One of the bytes that mean something to the parser, or any other. */
static char random_byte(Rng *rng) {
    static const char special[] = "--==|0123456789.eE+-KMGT \n\t\x7f\xc3\xa9";
    uint32_t i = rng_below(rng, 40);
    return i < sizeof special - 1 ? special[i] : (char)(1 + rng_below(rng, 255));
}

static char *random_value(Rng *rng) {
    static const char *const values[] = {
        "0",
        "1",
        "2",
        "3",
        "4",
        "7",
        "8",
        "12",
        "16",
        "32",
        "64",
        "128",
        "256",
        "1000",
        "-1",
        "-0",
        "0.5",
        "1e-3",
        ".1",
        "1.",
        "1e9",
        "1e308",
        "1e-320",
        "nan",
        "inf",
        "12abc",
        "",
        "64M",
        "1T",
        "2G",
        "pre",
        "post",
        "learned",
        "rope",
        "gelu",
        "relu",
        "layernorm",
        "rmsnorm",
        "xavier",
        "gpt2",
        "tiny",
        "minigpt",
        "medium",
        "xl",
        "sgd",
        "adamw",
        "--bias",
        "1048576",
        "131072",
        "swiglu",
        "a b",
        "runs/x",
        "9007199254740992",
        "9223372036854775807",
        "1099511627776",
        "caf\xc3\xa9",
    };
    return xstrdup(values[rng_below(rng, COUNT_OF(values))]);
}

/* A few bytes changed, put in or taken out. */
static char *mutate(Rng *rng, char *word) {
    Str s = {0};
    str_printf(&s, "%s", "");
    for (char *at = word; *at || rng_below(rng, 4) == 0;) {
        uint32_t what = rng_below(rng, 12);
        if (what == 0 || !*at)
            str_add(&s, (char[]){random_byte(rng)}, 1);
        else if (what == 1)
            at++;
        else
            str_add(&s, at++, 1);
    }
    free(word);
    return s.data;
}

static void add_word(Rng *rng, Case *c, char *word) {
    if (rng_below(rng, 12) == 0) word = mutate(rng, word);
    if (c->argc < COUNT_OF(c->argv) - 1)
        c->argv[c->argc++] = word;
    else
        free(word);
}

static Case make_case(uint64_t number) {
    Rng rng = {.seed = number, .stream = rng_stream("fuzz_args")};
    Case c = {.groups = rng_below(&rng, 3) ? ARGS_ALL : rng_below(&rng, ARGS_ALL + 1)};
    c.argv[c.argc++] = xstrdup("prog");
    for (uint32_t flags = rng_below(&rng, 5); flags > 0; flags--) {
        const Flag *flag = &config_flags[rng_below(&rng, (uint32_t)config_flag_count)];
        const char *no = flag->kind == FLAG_BOOL && rng_below(&rng, 2) ? "no-" : "";
        char *value = random_value(&rng);
        if (rng_below(&rng, 4) == 0 && flag->values) { /* a right name more often */
            free(value);
            value = xprintf("%.*s", (int)strcspn(flag->values, "|"), flag->values);
        }
        if (rng_below(&rng, 4) == 0) {
            add_word(&rng, &c, xprintf("--%s%s=%s", no, flag->name, value));
        } else {
            add_word(&rng, &c, xprintf("--%s%s", no, flag->name));
            if (flag->kind != FLAG_BOOL || rng_below(&rng, 8) == 0) add_word(&rng, &c, xstrdup(value));
        }
        free(value);
    }
    return c;
}

static void run_case(void *argument) {
    Case *c = argument;
    Program program = {.about = "is fed nonsense", .example = "", .groups = c->groups};
    Config k = args_parse(c->argc, c->argv, &program);
    const ModelConfig *m = &k.model;
    ASSERT(m->C % m->H == 0 && m->K > 0 && m->H % m->K == 0);
    ASSERT(m->positions != POSITIONS_ROPE || m->C / m->H % 2 == 0);
    ASSERT(k.micro_batch > 0 && k.num_microbatches > 0 &&
           k.micro_batch * k.num_microbatches == k.global_batch);
    ASSERT(k.micro_batch * m->T <= INT32_MAX && k.stop_at_step <= k.max_steps);
    ASSERT(k.min_lr >= 0 && k.min_lr <= k.learning_rate && isfinite(k.learning_rate));
    for (int i = 0; i < config_flag_count; i++) {
        Str text = {0};
        Config copy = k;
        flag_print(&config_flags[i], &k, &text);
        /* what it prints it reads back; micro-batches may be derived beyond what the flag takes */
        if (text.data && strstr(config_flags[i].name, "batch") == NULL)
            ASSERT(flag_set(&config_flags[i], &copy, text.data) == NULL);
        str_free(&text);
    }
}

int main(void) {
    int count = random_cases(1500), good = 0, refusals = 0, wrong = 0;
    for (int i = 0; i < count; i++) {
        Case c = make_case((uint64_t)i);
        Exit e = expect_exit(run_case, &c);
        bool usage = refused(&e, 2, " (hint: ");
        good += e.status == 0;
        refusals += usage;
        if (!usage && (e.status != 0 || e.text[0])) {
            wrong++;
            printf("# case %d ended with %d: %.300s\n", i, e.status, e.text);
            for (int j = 1; j < c.argc; j++) printf("#   '%s'\n", c.argv[j]);
        }
        for (int j = 0; j < c.argc; j++) free(c.argv[j]);
    }
    ok(wrong == 0, "%d random command lines: %d good, %d refused in one line with a hint", count, good,
       refusals);
    ok(good > count / 10 && refusals > count / 10, "enough of both");
    return tap_done();
}
