/* Flags, presets, help, and a configuration's way through JSON.
 * TEST variants: float asan */
#define _DEFAULT_SOURCE /* strsep */
#include "common/config/config_json.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

static const Program everything = {
    .about = "does everything", .example = "--max-steps 200", .groups = ARGS_ALL};

/* ---- calling args_parse ---- */

typedef struct {
    const Program *program;
    const char *line;
    FILE *out;
} Call;

/* The words of a line, between separators, as argv. */
static int split(const char *line, const char *separator, char *argv[64]) {
    int argc = 0;
    argv[argc++] = xstrdup("build/prog");
    for (const char *at = line; *at;) {
        size_t count = strcspn(at, separator);
        argv[argc++] = xprintf("%.*s", (int)count, at);
        at += count;
        at += *at != 0;
    }
    argv[argc] = NULL;
    return argc;
}

static void free_words(int argc, char **argv) {
    base_set_program("prog"); /* not the word that goes now */
    for (int i = 0; i < argc; i++) free(argv[i]);
}

static void call_in_child(void *argument) {
    Call *call = argument;
    char *argv[64];
    if (call->out) dup2(fileno(call->out), STDOUT_FILENO);
    int argc = split(call->line, " ", argv);
    args_parse(argc, argv, call->program);
}

/* The texts of the result are gone with the words; the numbers stay. */
static Config parse(const char *line) {
    char *argv[64];
    int argc = split(line, " ", argv);
    Config config = args_parse(argc, argv, &everything);
    free_words(argc, argv);
    return config;
}

static void expect_usage_error(const Program *program, const char *line, const char *part) {
    Call call = {program, line, NULL};
    Exit e = expect_exit(call_in_child, &call);
    ok(refused(&e, 2, part) && strstr(e.text, " (hint: "), "refused: %.*s", (int)strcspn(e.text, "\n"),
       e.text);
}

/* ---- bad input: a line, and what its message must hold ---- */

static const struct {
    const char *line, *part;
} bad[] = {
    /* numbers that are none */
    {"--max-steps 12abc", "--max-steps is '12abc', not a whole number"},
    {"--max-steps=", "--max-steps is '', not a whole number"},
    {"--max-steps 1e3", "'1e3'"},
    {"--max-steps 1.5", "'1.5'"},
    {"--max-steps 0x10", "'0x10'"},
    {"--max-steps +5", "'+5'"},
    {"--max-steps=\t5", "not a whole number"},
    {"--max-steps -", "'-', not a whole number"},
    {"--max-steps --5", "--max-steps has no value"},
    {"--max-steps nan", "'nan'"},
    {"--num-layers 4,5", "'4,5'"},
    {"--num-layers four", "'four'"},
    {"--num-layers ４", "'４'"},
    {"--seed 7x", "'7x'"},
    {"--learning-rate nan", "--learning-rate is 'nan', not a number"},
    {"--learning-rate inf", "'inf'"},
    {"--learning-rate=-inf", "'-inf'"},
    {"--learning-rate 0x1p-3", "'0x1p-3'"},
    {"--learning-rate 1e", "'1e'"},
    {"--learning-rate e5", "'e5'"},
    {"--learning-rate 1.2.3", "'1.2.3'"},
    {"--learning-rate 1,5", "'1,5'"},
    {"--learning-rate +1", "'+1'"},
    {"--learning-rate .", "'.'"},
    {"--learning-rate=", "''"},
    {"--learning-rate 3e-4x", "'3e-4x'"},
    {"--device-memory 64X", "--device-memory is '64X', not a size"},
    {"--device-memory M", "'M'"},
    {"--device-memory 64MM", "'64MM'"},
    {"--device-memory 1.5G", "'1.5G'"},
    {"--device-memory=", "''"},
    /* numbers out of range */
    {"--num-layers 0", "--num-layers is '0', must be from 1 to 16384"},
    {"--num-layers -1", "'-1', must be from"},
    {"--num-layers 99999999999999999999", "'99999999999999999999', must be from"},
    {"--num-layers -99999999999999999999", "'-99999999999999999999', must be from"},
    {"--hidden-size 0", "'0'"},
    {"--hidden-size 1000000", "'1000000'"},
    {"--intermediate-size 0", "'0'"},
    {"--vocab-size -1", "'-1'"},
    {"--vocab-size 9223372036854775807", "'9223372036854775807'"},
    {"--num-attention-heads 0", "'0'"},
    {"--num-key-value-heads -2", "'-2'"},
    {"--max-seq-length 0", "'0'"},
    {"--micro-batch-size 0", "'0'"},
    {"--global-batch-size 0", "'0'"},
    {"--num-microbatches 0", "'0'"},
    {"--max-steps 0", "'0'"},
    {"--stop-at-step -1", "'-1'"},
    {"--dropout 1", "--dropout is '1', must be at least 0 and below 1"},
    {"--dropout -0.1", "'-0.1'"},
    {"--norm-eps 0", "'0'"},
    {"--learning-rate -1", "'-1'"},
    {"--learning-rate 1e999", "'1e999'"},
    {"--learning-rate 1e-999", "'1e-999'"},
    {"--min-lr -1e-5", "'-1e-5'"},
    {"--warmup-ratio 1.01", "'1.01'"},
    {"--beta1 1", "'1'"},
    {"--beta2 -0.5", "'-0.5'"},
    {"--eps 0", "'0'"},
    {"--weight-decay -1", "'-1'"},
    {"--grad-clip -1", "'-1'"},
    {"--temperature -1", "'-1'"},
    {"--temperature 1e-4", "--temperature 0.0001"},
    {"--top-p 0", "--top-p is '0', must be above 0 and at most 1"},
    {"--top-p 1.0001", "'1.0001'"},
    {"--top-k -1", "'-1'"},
    {"--max-new-tokens 0", "'0'"},
    {"--log-interval -1", "'-1'"},
    {"--eval-interval -1", "'-1'"},
    {"--eval-windows -1", "'-1'"},
    {"--save-interval -1", "'-1'"},
    {"--sample-interval -1", "'-1'"},
    {"--seed -1", "'-1'"},
    {"--seed 18446744073709551616", "'18446744073709551616'"},
    {"--device-memory -1M", "'-1M'"},
    {"--device-memory 9999999T", "'9999999T', must be from 0 to 1T"},
    {"--device-memory 18014398509481985K", "'18014398509481985K', must be from"}, /* 1K beyond 64 bits */
    /* names */
    {"--norm batchnorm", "--norm is 'batchnorm', not one of layernorm|rmsnorm"},
    {"--norm layernor", "'layernor'"},
    {"--norm layernorm|rmsnorm", "'layernorm|rmsnorm'"},
    {"--norm=", "--norm is ''"},
    {"--norm-place middle", "'middle', not one of pre|post"},
    {"--positions sinus", "'sinus'"},
    {"--activation GELU", "'GELU'"},
    {"--init zero", "'zero'"},
    {"--optimizer lion", "'lion'"},
    {"--preset huge", "--preset is 'huge', not one of tiny|minigpt|gpt2|small|medium|large|xl"},
    {"--preset=", "--preset is ''"},
    {"--preset huge --help", "'huge'"},
    {"--preset tiny --preset huge", "'huge'"},
    {"--output-dir=", "--output-dir is '', must not be empty"},
    {"--data-dir=", "--data-dir is ''"},
    {"--prompt caf\xe9", "not UTF-8"},
    /* words that are no flags */
    {"--max_steps 5", "--max_steps is not a flag (hint: did you mean --max-steps?"},
    {"--num-layer 5", "did you mean --num-layers?"},
    {"--numlayers=5", "did you mean --num-layers?"},
    {"--lerning-rate 1", "did you mean --learning-rate?"},
    {"--batch-size 5", "did you mean --micro-batch-size?"},
    {"-max-steps 5", "-max-steps is not a flag (hint: did you mean --max-steps?"},
    {"---max-steps 5", "did you mean --max-steps?"},
    {"--no-biass", "--no-biass is not a flag"},
    {"--no-max-steps", "--no-max-steps is not a flag"},
    {"--supercalifragilistic", "--supercalifragilistic is not a flag (hint: --help lists"},
    {"--bias\nerror", "--bias?error is not a flag"},
    {"--=5", "--=5 is not a flag"},
    {"-- 5", "'--' is not a flag"},
    {"- 5", "'-' is not a flag"},
    {"train", "'train' is not a flag"},
    {"--max-steps 5 6", "'6' is not a flag"},
    {"--prompt Once upon", "'upon' is not a flag"},
    {" --bias", "'' is not a flag"},
    /* values that are missing, or one too many */
    {"--max-steps", "--max-steps has no value"},
    {"--max-steps --bias", "--max-steps has no value"},
    {"--prompt --tied", "--prompt has no value"},
    {"--preset", "--preset has no value"},
    {"--bias=1", "--bias=1: this flag takes no value"},
    {"--no-bias=true", "--no-bias=true: this flag takes no value"},
    {"--resume yes", "'yes' is not a flag"},
    /* sizes that do not fit */
    {"--num-attention-heads 5", "--num-attention-heads 5 does not divide --hidden-size 128 (hint: use "
                                "--num-attention-heads 4 or 8, or --hidden-size 125 or 130)"},
    {"--hidden-size 130", "use --num-attention-heads 2 or 5, or --hidden-size 128 or 132)"},
    {"--hidden-size 2 --num-attention-heads 3", "use --num-attention-heads 2, or --hidden-size 3)"},
    {"--hidden-size 1 --num-attention-heads 131072 --positions rope",
     "131072 does not divide --hidden-size 1"},
    {"--hidden-size 131072 --num-attention-heads 3", "2 or 4, or --hidden-size 131070)"}, /* not beyond */
    {"--num-microbatches 1073741824 --micro-batch-size 2 --global-batch-size 1",
     "2147483648 (hint: leave one of the three out)"},
    {"--num-key-value-heads 3", "use --num-key-value-heads 2 or 4)"},
    {"--num-key-value-heads 8", "--num-key-value-heads 8 does not divide --num-attention-heads 4 (hint: use "
                                "--num-key-value-heads 4)"},
    {"--preset xl --num-attention-heads 24 --num-key-value-heads 5", "use --num-attention-heads 20 or 25)"},
    {"--hidden-size 12 --positions rope",
     "--num-attention-heads 4 is 3 (hint: use --num-attention-heads 3 or "
     "6, or --hidden-size 8 or 16)"},
    {"--global-batch-size 30", "--global-batch-size 30 is not a multiple of --micro-batch-size 4 (hint: use "
                               "--micro-batch-size 3 or 5, or --global-batch-size 28 or 32)"},
    {"--micro-batch-size 64", "use --micro-batch-size 8, or --global-batch-size 64)"},
    {"--global-batch-size 32 --num-microbatches 5",
     "use --num-microbatches 4 or 8, or --global-batch-size 30 or "
     "35)"},
    {"--global-batch-size 32 --num-microbatches 4 --micro-batch-size 4",
     "--global-batch-size 32 is not --num-microbatches 4 x --micro-batch-size 4 = 16 (hint: use "
     "--global-batch-size 16, or --num-microbatches 8, or --micro-batch-size 8, or leave"},
    {"--micro-batch-size 1048576 --global-batch-size 1048576 --max-seq-length 1048576",
     "--micro-batch-size 1048576 x --max-seq-length 1048576 is too large"},
    {"--max-steps 1099511627776 --global-batch-size 1073741824", "x --max-seq-length 256 is too large"},
    {"--num-microbatches 1073741824 --micro-batch-size 1048576 --max-steps 1000000", "is too large"},
    {"--stop-at-step 701", "--stop-at-step 701 is beyond --max-steps 700"},
    {"--min-lr 0.1", "--min-lr 0.1 is above --learning-rate 0.006"},
    {"--learning-rate 1e-3 --min-lr 2e-3", "--min-lr 0.002 is above --learning-rate 0.001"},
};

static void test_bad(void) {
    for (int i = 0; i < COUNT_OF(bad); i++) expect_usage_error(&everything, bad[i].line, bad[i].part);

    static const Program sampler = {.about = "samples", .example = "", .groups = ARGS_SAMPLE};
    expect_usage_error(&sampler, "--max-steps 5",
                       "--max-steps is a flag of other programs, prog does not use it");
    expect_usage_error(&sampler, "--preset tiny", "--preset is a flag of other programs");
    expect_usage_error(&sampler, "--top_k 5", "did you mean --top-k?");
    expect_usage_error(&sampler, "--maxsteps 5",
                       "--maxsteps is not a flag (hint: --help lists"); /* not its flag */

    Str line = {0};
    str_printf(&line, "--prompt=");
    for (int i = 0; i < (1 << 20) + 1; i++) str_add(&line, "a", 1);
    expect_usage_error(&everything, line.data, "aaa...', longer than 1048576 bytes");
    str_free(&line);
}

/* ---- good input ---- */

static void test_good(void) {
    Config c = parse("");
    ok(strcmp(c.preset, "tiny") == 0 && c.model.C == 128 && c.max_steps == 700, "tiny is the default");
    ok(c.model.K == 4 && c.num_microbatches == 2 && strcmp(c.output_dir, "runs/prog") == 0,
       "key-value heads, micro-batches and the output folder follow");
    ok(!c.data_dir && !c.prompt, "texts that were not given are NULL");

    c = parse("--num-layers 2 --preset gpt2");
    ok(c.model.L == 2 && c.model.C == 768, "the preset comes first, wherever it stands");
    c = parse("--preset gpt2 --preset small --num-layers 2 --num-layers=3 --bias --no-bias");
    ok(c.model.L == 3 && !c.model.bias && c.model.norm == NORM_RMSNORM, "given twice, the last one counts");
    c = parse("--no-tied --bias --recompute --resume --data-dir d --pad --print-model --print-data");
    ok(!c.model.tied && c.model.bias && c.recompute && c.resume && c.pad && c.print_model && c.print_data,
       "switches");
    c = parse("--no-resume");
    ok(!c.resume, "a switch that is off already");
    c = parse("--norm rmsnorm --norm-place=post --positions rope --activation swiglu --init xavier "
              "--optimizer sgd");
    ok(c.model.norm == NORM_RMSNORM && c.model.norm_place == NORM_POST &&
           c.model.positions == POSITIONS_ROPE && c.model.activation == ACTIVATION_SWIGLU &&
           c.model.init == INIT_XAVIER && c.optimizer == OPTIMIZER_SGD,
       "enums by name");
    c = parse("--learning-rate .5 --min-lr 1.e-3 --dropout 0.999999 --top-p 1 --temperature 0 --grad-clip 0");
    ok(c.learning_rate == 0.5 && c.min_lr == 1e-3 && c.model.dropout == 0.999999 && c.top_p == 1 &&
           c.temperature == 0 && c.grad_clip == 0,
       "numbers as people write them, and the ends of ranges");
    c = parse("--seed 9007199254740992 --device-memory 64M");
    ok(c.seed == 9007199254740992u && c.device_memory == 64 << 20, "the largest seed; sizes");
    ok(parse("--device-memory 1T").device_memory == (int64_t)1 << 40 &&
           parse("--device-memory 5K").device_memory == 5120 &&
           parse("--device-memory 77").device_memory == 77,
       "sizes with every unit");
    ok(parse("--prompt=").max_steps == 700, "an empty prompt is a prompt");

    c = parse("--learning-rate 1e-3");
    close_to(c.min_lr, 1e-3 / 60, 1e-15, "min-lr follows the learning rate in the preset's ratio");
    c = parse("--preset minigpt --learning-rate 1e-4");
    ok(c.min_lr == 1e-4, "a constant rate stays constant");
    c = parse("--min-lr 1e-3");
    ok(c.min_lr == 1e-3 && c.learning_rate == 6e-3, "min-lr alone");

    c = parse("--num-microbatches 3");
    ok(c.global_batch == 12 && c.micro_batch == 4, "micro-batches alone: the global batch follows");
    c = parse("--num-microbatches 3 --global-batch-size 9");
    ok(c.global_batch == 9 && c.micro_batch == 3, "micro-batches and global batch: the micro-batch follows");
    c = parse("--micro-batch-size 2");
    ok(c.global_batch == 8 && c.num_microbatches == 4, "micro-batch alone: the number follows");
    c = parse("--num-microbatches 2 --micro-batch-size 8 --global-batch-size 16");
    ok(c.global_batch == 16 && c.num_microbatches == 2 && c.micro_batch == 8, "three that agree");

    char *argv[64];
    int argc = split("--prompt|-1 \xe2\x9c\x93 --tied|--data-dir|some where", "|", argv);
    c = args_parse(argc, argv, &everything);
    ok(c.prompt == argv[2] && c.data_dir == argv[4], "texts with blanks, dashes and Unicode");
    free_words(argc, argv);
}

/* ---- presets ---- */

/* All weights of a model, counted anew. */
static int64_t parameters(const ModelConfig *m) {
    int64_t D = m->C / m->H, KD = m->K * D, gate = m->activation == ACTIVATION_SWIGLU, b = m->bias;
    int64_t norm = m->norm == NORM_LAYERNORM ? m->C + b * m->C : m->C;
    int64_t attention = m->C * (m->C + 2 * KD) + b * (m->C + 2 * KD) + m->C * m->C + b * m->C;
    int64_t feed_forward = (1 + gate) * (m->C * m->F + b * m->F) + m->F * m->C + b * m->C;
    int64_t embeddings = m->V * m->C + (m->positions == POSITIONS_LEARNED ? m->T * m->C : 0);
    int64_t head = m->tied ? 0 : m->V * m->C + b * m->V;
    int64_t last_norm = m->norm_place == NORM_PRE ? norm : 0;
    return embeddings + m->L * (2 * norm + attention + feed_forward) + last_norm + head;
}

static void test_presets(void) {
    static const struct {
        const char *name;
        int64_t parameters, global_batch, micro_batch;
        double learning_rate, min_lr;
    } want[] = {
        /* tiny takes the vocabulary of its data */ {"tiny", 820352, 8, 4, 6e-3, 1e-4},
        {"minigpt", 27430481, 256, 8, 1e-3, 1e-3},
        {"gpt2", 124439808, 512, 4, 6e-4, 6e-5},
        {"small", 190460160, 64, 4, 6e-4, 3e-5},
        {"medium", 505629696, 64, 4, 3e-4, 3e-5},
        {"large", 1072469760, 64, 4, 2.5e-4, 3e-5},
        {"xl", 2127057600, 64, 4, 2e-4, 3e-5},
    };
    char *names = config_preset_names(" ");
    ok(strcmp(names, "tiny minigpt gpt2 small medium large xl") == 0, "presets: %s", names);
    free(names);
    for (int i = 0; i < COUNT_OF(want); i++) {
        char *line = xprintf("--preset %s", want[i].name);
        Config c = parse(line);
        ok(strcmp(c.preset, want[i].name) == 0 && parameters(&c.model) == want[i].parameters,
           "%s: %lld parameters", want[i].name, (long long)parameters(&c.model));
        ok(c.global_batch == want[i].global_batch && c.micro_batch == want[i].micro_batch &&
               c.learning_rate == want[i].learning_rate && c.min_lr == want[i].min_lr && c.model.dropout == 0,
           "%s: batch and rates", want[i].name);
        free(line);
    }
    Config c = parse("");
    ok(c.warmup_ratio == 0.1 && c.beta1 == 0.9 && c.beta2 == 0.98 && c.eps == 1e-8 && c.weight_decay == 0.1 &&
           c.grad_clip == 1 && c.model.norm_eps == 1e-5,
       "tiny: AdamW with decay and clipping");
    c = parse("--preset xl");
    ok(c.warmup_ratio == 0.05 && c.beta2 == 0.95 && c.weight_decay == 0.01 && c.max_steps == 100000 &&
           c.model.norm_eps == 1e-6 && c.model.K == 25,
       "xl: less decay, a long horizon");
    c = parse("--preset minigpt");
    ok(c.warmup_ratio == 0 && c.beta2 == 0.999 && c.weight_decay == 0 && c.grad_clip == 0 &&
           c.model.norm_eps == 1e-6 && c.model.norm_place == NORM_POST && c.model.init == INIT_XAVIER &&
           c.top_k == 10 && c.top_p == 1,
       "minigpt: plain Adam, post-norm, Xavier, top-k 10");
    ok(!config_preset("") && !config_preset("Tiny"), "names are exact");
}

/* ---- help ---- */

static char *help_of(const Program *program, const char *line) {
    Call call = {program, line, tmpfile()};
    Exit e = expect_exit(call_in_child, &call);
    ok(e.status == 0 && !e.text[0], "%s: exit 0, nothing on stderr", line);
    static char text[1 << 16];
    rewind(call.out);
    text[fread(text, 1, sizeof text - 1, call.out)] = 0;
    fclose(call.out);
    return text;
}

/* Is there a line "  SYNOPSIS   ...[VALUE]", or one with the synopsis alone and the rest below? */
static bool lists(const char *help, const char *synopsis, const char *value) {
    char *start = xprintf("\n  %s", synopsis);
    const char *at = strstr(help, start), *next = at ? strstr(at + 1, "\n  --") : NULL;
    if (at && !strchr(" \n", at[strlen(start)])) at = NULL;
    const char *found = at ? strstr(at, value) : NULL;
    bool result = found && (!next || found < next);
    free(start);
    return result;
}

static bool fits(const char *help) {
    for (size_t count; *help; help += count + (help[count] == '\n')) {
        count = strcspn(help, "\n");
        if (count > 100 || (count && help[count - 1] == ' '))
            return printf("# %.*s\n", (int)count, help), false;
    }
    return true;
}

static void test_help(void) {
    const char *help = help_of(&everything, "--help");
    ok(strstr(help, "prog: does everything\nexample: build/prog --max-steps 200\n") == help,
       "begins with an example");
    int missing = 0;
    Config tiny = parse("");
    for (int i = 0; i < config_flag_count; i++) {
        Str synopsis = {0}, value = {0};
        flag_print_synopsis(&config_flags[i], &synopsis);
        flag_print(&config_flags[i], &tiny, &value);
        bool here = lists(help, synopsis.data, "");
        if (config_flags[i].kind != FLAG_BOOL && config_flags[i].kind != FLAG_TEXT) {
            char *in_brackets = xprintf("[%s]", value.data);
            here = lists(help, synopsis.data, in_brackets);
            free(in_brackets);
        }
        if (!here) printf("# not listed: %s\n", synopsis.data);
        missing += !here;
        str_free(&synopsis);
        str_free(&value);
    }
    ok(missing == 0, "every flag is listed with its default");
    ok(lists(help, "--[no-]tied", "[on]") && lists(help, "--[no-]bias", "[off]") &&
           lists(help, "--output-dir DIR", "[runs/prog]") && lists(help, "--num-microbatches N", "[2]") &&
           lists(help, "--help", "this list"),
       "switches, folders and what follows show their defaults too");

    char *names = config_preset_names(" "), *rest = names;
    for (char *name; (name = strsep(&rest, " "));) {
        char *line = xprintf("--max-steps abc --help --preset=%s", name), *bracket = xprintf("[%s]", name);
        help = help_of(&everything, line);
        ok(fits(help) && lists(help, "--preset NAME", bracket), "%s: 100 columns are enough", name);
        free(line);
        free(bracket);
    }
    free(names);
    ok(lists(help, "--hidden-size N", "[1600]") && lists(help, "--num-key-value-heads N", "[25]"),
       "defaults of the preset, wherever it stands");

    static const Program sampler = {
        .about = "samples", .example = "--top-k 5", .groups = ARGS_SAMPLE | ARGS_RUN};
    help = help_of(&sampler, "-h");
    ok(lists(help, "--top-k N", "[0]") && lists(help, "--seed N", "[1]") && !strstr(help, "--max-steps") &&
           !strstr(help, "--preset NAME"),
       "a program lists the groups that it uses, no more");
}

/* ---- a program's own flags ---- */

typedef struct {
    int64_t size, repeat;
    double noise;
    bool check;
    unsigned kernel;
    const char *title;
} Own;

static const Flag own_flags[] = {
    INT_FLAG(Own, 0, "size", size, 1, 4096, "rows and columns"),
    INT_FLAG(Own, 0, "max-steps", repeat, 1, 9, "shadows the shared flag"),
    REAL_FLAG(Own, 0, "noise", noise, 0, 1, ENDS_INCLUDED, "deviation of the noise"),
    BOOL_FLAG(Own, 0, "check", check, "compare with the naive kernel"),
    ENUM_FLAG(Own, 0, "kernel", kernel, "naive|blocked|blas", "which GEMM"),
    TEXT_FLAG(Own, 0, "title", title, 0, 100, "TEXT", "of the picture"),
};

static void test_own(void) {
    Own own = {.size = 64, .repeat = 3, .check = true};
    Program program = {.about = "multiplies",
                       .example = "--size 512",
                       .groups = ARGS_RUN,
                       .own = own_flags,
                       .own_count = COUNT_OF(own_flags),
                       .values = &own};
    char *argv[64];
    int argc = split("--size=512 --no-check --kernel blas --seed 9 --max-steps 7 --title Speed", " ", argv);
    Config c = args_parse(argc, argv, &program);
    ok(own.size == 512 && !own.check && own.kernel == 2 && own.repeat == 7 && c.seed == 9 &&
           c.max_steps == 700 && strcmp(own.title, "Speed") == 0,
       "own flags, next to shared ones and instead of one");
    free_words(argc, argv);
    own.title = NULL;
    expect_usage_error(&program, "--size 5000", "--size is '5000', must be from 1 to 4096");
    expect_usage_error(&program, "--sise 5", "did you mean --size?");
    expect_usage_error(&program, "--kernel cuda", "not one of naive|blocked|blas");
    expect_usage_error(&program, "--min-lr 1", "--min-lr is a flag of other programs");
    const char *help = help_of(&program, "--help");
    ok(lists(help, "--size N", "[512]") && lists(help, "--kernel naive|blocked|blas", "[blas]") && fits(help),
       "own flags come first in --help, with the values at hand as defaults");
}

/* ---- JSON ---- */

typedef struct {
    const json_t *json;
    ModelConfig flags, saved;
} Saved;

static void read_model(void *argument) { config_model_from_json(((Saved *)argument)->json, "state.json"); }

static void check_same(void *argument) {
    Saved *s = argument;
    config_check_same_model(&s->flags, &s->saved, "state.json");
}

static bool same_model(const ModelConfig *a, const ModelConfig *b) {
    Saved s = {.flags = *a, .saved = *b};
    return expect_exit(check_same, &s).status == 0;
}

static void test_json(void) {
    Config c = parse("--preset medium --num-key-value-heads 4 --bias --dropout 0.1 --learning-rate "
                     "0.00012345678901234567");
    json_t *json = config_to_json(&c);
    ok(json_object_size(json) == (size_t)config_flag_count, "a configuration keeps every flag");
    ok(json_real_value(json_object_get(json, "learning_rate")) == c.learning_rate &&
           json_is_null(json_object_get(json, "prompt")) && json_is_true(json_object_get(json, "bias")) &&
           strcmp(json_string_value(json_object_get(json, "norm")), "rmsnorm") == 0 &&
           json_integer_value(json_object_get(json, "hidden_size")) == 1024,
       "by its name with underscores, as a number, truth value, name or null");
    char *text = json_dumps(json, 0);
    json_t *again = json_loads(text, 0, NULL);
    ModelConfig model = config_model_from_json(again, "state.json");
    ok(same_model(&model, &c.model) && model.K == 4 && model.bias && model.dropout == 0.1,
       "a model comes back");
    json_decref(again);
    free(text);

    static const struct {
        const char *key, *value, *part; /* value NULL: the key is taken out */
    } damaged[] = {
        {"hidden_size", NULL, "'state.json' has no hidden_size"},
        {"norm", NULL, "'state.json' has no norm"},
        {"hidden_size", "\"1024\"", "hidden_size is \"1024\", of the wrong type"},
        {"hidden_size", "1024.0", "wrong type"},
        {"hidden_size", "null", "hidden_size is null"},
        {"hidden_size", "[1, {\"a\": 2}]", "hidden_size is [1,{\"a\":2}]"},
        {"hidden_size", "0", "hidden_size is '0', must be from 1"},
        {"hidden_size", "-1024", "'-1024'"},
        {"hidden_size", "9223372036854775807", "'9223372036854775807'"},
        {"hidden_size", "1023", "--num-attention-heads 16 does not divide --hidden-size 1023"},
        {"num_attention_heads", "0", "'0'"},
        {"num_key_value_heads", "3", "--num-key-value-heads 3 does not divide"},
        {"vocab_size", "true", "vocab_size is true"},
        {"norm", "\"Norm\"", "norm is 'Norm', not one of"},
        {"norm", "1", "norm is 1"},
        {"norm", "\"\"", "norm is ''"},
        {"bias", "\"true\"", "wrong type"},
        {"bias", "1", "wrong type"},
        {"dropout", "1.0", "dropout is '1', must be at least 0 and below 1"},
        {"dropout", "\"x\\ny\"", "wrong type"},
        {"norm_eps", "0", "norm_eps is '0'"},
        {"num_layers", "1e3", "wrong type"},
    };
    for (int i = 0; i < COUNT_OF(damaged); i++) {
        json_t *copy = json_copy(json);
        if (damaged[i].value)
            json_object_set_new(copy, damaged[i].key, json_loads(damaged[i].value, JSON_DECODE_ANY, NULL));
        else
            json_object_del(copy, damaged[i].key);
        Exit e = expect_exit(read_model, &(Saved){.json = copy});
        ok(refused(&e, 1, damaged[i].part) && strstr(e.text, "state.json") && strstr(e.text, "(hint: "),
           "damaged: %.*s", (int)strcspn(e.text, "\n"), e.text);
        json_decref(copy);
    }
    json_t *list = json_array();
    Exit e = expect_exit(read_model, &(Saved){.json = list});
    ok(refused(&e, 1, "'state.json' holds no configuration"), "a list is no configuration");
    e = expect_exit(read_model, &(Saved){.json = NULL});
    ok(refused(&e, 1, "'state.json' holds no configuration"), "nothing is no configuration");
    json_decref(list);
    json_decref(json);

    static const struct {
        const char *line, *part;
    } differing[] = {
        {"--hidden-size 256", "--hidden-size is 256, but the model saved in 'state.json' has 128 (hint: use "
                              "--hidden-size 128, or another --output-dir)"},
        {"--num-layers 3 --dropout 0.5", "--num-layers is 3, but the model saved in 'state.json' has 4"},
        {"--dropout 0.5", "--dropout is 0.5"},
        {"--norm-eps 1.0000001e-5", "--norm-eps is 1.0000001e-05"},
        {"--positions rope", "use --positions learned"},
        {"--num-key-value-heads 2", "use --num-key-value-heads 4"},
        {"--bias", "--bias is true, but the model saved in 'state.json' has false (hint: use --no-bias,"},
        {"--no-tied", "use --tied,"},
    };
    for (int i = 0; i < COUNT_OF(differing); i++) {
        Saved s = {.flags = parse(differing[i].line).model, .saved = parse("").model};
        e = expect_exit(check_same, &s);
        ok(refused(&e, 2, differing[i].part), "differs: %.*s", (int)strcspn(e.text, "\n"), e.text);
    }
    Config longer = parse("--max-steps 500 --prompt x --print-model");
    Config tiny = parse("");
    ok(same_model(&longer.model, &tiny.model), "flags that are not the model's may differ");
}

/* ---- what a hint offers works ---- */

/* Applies each "--flag N or M" of a hint to a copy of the model; false where one is refused. */
static bool offers_work(const char *hint, const ModelConfig *model, int *offers) {
    char *copy = xstrdup(hint), *rest = copy;
    const Flag *flag = NULL;
    bool work = true;
    for (char *word; (word = strsep(&rest, " ,"));) {
        for (int i = 0; i < config_flag_count; i++)
            if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, config_flags[i].name) == 0)
                flag = &config_flags[i];
        if (!flag || !*word || strspn(word, "0123456789") != strlen(word)) continue;
        Config changed = {.model = *model};
        char *more = NULL, *problem = flag_set(flag, &changed, word);
        if (!problem) problem = config_model_problem(&changed.model, &more);
        if (problem) printf("# offered %s %s: %s\n", flag->name, word, problem);
        work &= !problem;
        ++*offers;
        free(problem);
        free(more);
    }
    free(copy);
    return work;
}

static void test_offers(void) {
    bool work = true;
    int refusals = 0, offers = 0, silent = 0;
    for (int64_t C = 1; C <= 48; C++)
        for (int64_t H = 1; H <= 20; H++)
            for (int64_t K = 0; K <= H; K = K ? 2 * K : 1)
                for (int rope = 0; rope < 2; rope++) {
                    ModelConfig m = {.C = C, .H = H, .K = K, .positions = (Positions)rope}, asked = m;
                    char *hint, *problem = config_model_problem(&m, &hint);
                    int before = offers;
                    if (problem) work &= offers_work(hint, &asked, &offers);
                    refusals += problem != NULL;
                    /* with a K that does not suit H either there may be no single step */
                    silent += problem && before == offers && (K == 0 || H % K == 0);
                    free(problem);
                    free(hint);
                }
    ok(work && refusals > 1000 && silent == 0, "%d offers for %d models that cannot be: all work", offers,
       refusals);
}

int main(void) {
    test_bad();
    test_good();
    test_presets();
    test_help();
    test_own();
    test_json();
    test_offers();
    return tap_done();
}
