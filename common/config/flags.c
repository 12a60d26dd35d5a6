#include "common/config/flags.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

/* Upper limits leave room: no product of sizes that the programs form passes 63 bits (config_check.c checks
 * the tokens of a batch and of a run). */
#define K1    1024.0
#define M1    (1024 * K1)
#define T1    (1024 * 1024 * M1)
#define EXACT 0x1p53 /* whole numbers up to here survive JSON */

#define INT(group, ...)   INT_FLAG(Config, group, __VA_ARGS__)
#define REAL(group, ...)  REAL_FLAG(Config, group, __VA_ARGS__)
#define BOOL(group, ...)  BOOL_FLAG(Config, group, __VA_ARGS__)
#define ENUM(group, ...)  ENUM_FLAG(Config, group, __VA_ARGS__)
#define TEXT(group, ...)  TEXT_FLAG(Config, group, __VA_ARGS__)
#define BYTES(group, ...) BYTES_FLAG(Config, group, __VA_ARGS__)

const Flag config_flags[] = {
    {"preset", FLAG_PRESET, ARGS_MODEL, FIELD(Config, preset, const char *), 0, 0, ENDS_INCLUDED, NULL,
     "model, batch, optimizer and schedule; any flag overrides it"},
    INT(ARGS_MODEL, "vocab-size", model.V, 0, 16 * M1,
        "tokens in the vocabulary; 0: as many as the data has"),
    INT(ARGS_MODEL, "hidden-size", model.C, 1, 128 * K1, "numbers for each token in the residual stream"),
    INT(ARGS_MODEL, "intermediate-size", model.F, 1, 1 * M1,
        "numbers for each token inside the feed-forward part"),
    INT(ARGS_MODEL, "num-layers", model.L, 1, 16 * K1, "blocks"),
    INT(ARGS_MODEL, "num-attention-heads", model.H, 1, 128 * K1, "heads; must divide the hidden size"),
    INT(ARGS_MODEL, "num-key-value-heads", model.K, 0, 128 * K1,
        "heads of keys and values; 0: as many as heads"),
    INT(ARGS_MODEL, "max-seq-length", model.T, 1, 1 * M1, "tokens in a window"),
    ENUM(ARGS_MODEL, "norm", model.norm, "layernorm|rmsnorm", "normalisation"),
    ENUM(ARGS_MODEL, "norm-place", model.norm_place, "pre|post",
         "before a sublayer, or after its residual sum"),
    ENUM(ARGS_MODEL, "positions", model.positions, "learned|rope",
         "learned for each place in the window, or queries and keys rotated"),
    ENUM(ARGS_MODEL, "activation", model.activation, "relu|gelu|swiglu", "of the feed-forward part"),
    BOOL(ARGS_MODEL, "bias", model.bias, "biases in linear layers and layer norms"),
    BOOL(ARGS_MODEL, "tied", model.tied, "the head is the token embedding"),
    REAL(ARGS_MODEL, "dropout", model.dropout, 0, 1, HIGH_EXCLUDED,
         "share of activations dropped in training"),
    REAL(ARGS_MODEL, "norm-eps", model.norm_eps, 1e-12, 1, ENDS_INCLUDED, "added to the variance in a norm"),
    ENUM(ARGS_MODEL, "init", model.init, "gpt2|xavier",
         "weights at the start: a normal distribution, or a uniform one whose width follows from the shape"),
    REAL(ARGS_MODEL, "init-deviation", model.init_deviation, 0, 1, LOW_EXCLUDED,
         "standard deviation of the weights at the start, with --init gpt2"),
    BOOL(ARGS_MODEL, "print-model", print_model, "print every parameter with its shape, and end"),

    INT(ARGS_BATCH, "micro-batch-size", micro_batch, 1, 1 * M1, "windows that go through the model at once"),
    INT(ARGS_BATCH, "global-batch-size", global_batch, 1, 1024 * M1,
        "windows in one step, on all devices together"),
    INT(ARGS_BATCH, "num-microbatches", num_microbatches, 1, 1024 * M1,
        "micro-batches in one step; derived from the other two (--gradient-accumulation-steps is the same)"),

    INT(ARGS_TRAIN, "max-steps", max_steps, 1, T1, "steps; the learning rate comes down until then"),
    INT(ARGS_TRAIN, "stop-at-step", stop_at_step, 0, T1, "end early, as if interrupted; 0: at --max-steps"),
    ENUM(ARGS_TRAIN, "optimizer", optimizer, "adamw|sgd", "AdamW, or SGD with momentum"),
    REAL(ARGS_TRAIN, "learning-rate", learning_rate, 0, 1000, ENDS_INCLUDED,
         "highest learning rate, at the end of the warm-up"),
    REAL(ARGS_TRAIN, "min-lr", min_lr, 0, 1000, ENDS_INCLUDED,
         "lowest learning rate, at the end; by default the preset's share of --learning-rate"),
    REAL(ARGS_TRAIN, "warmup-ratio", warmup_ratio, 0, 1, ENDS_INCLUDED,
         "share of --max-steps in which the learning rate rises"),
    REAL(ARGS_TRAIN, "beta1", beta1, 0, 1, HIGH_EXCLUDED, "decay of the first moment; momentum of sgd"),
    REAL(ARGS_TRAIN, "beta2", beta2, 0, 1, HIGH_EXCLUDED, "decay of the second moment (adamw)"),
    REAL(ARGS_TRAIN, "eps", eps, 1e-30, 1, ENDS_INCLUDED, "added to the root of the second moment (adamw)"),
    REAL(ARGS_TRAIN, "weight-decay", weight_decay, 0, 1000, ENDS_INCLUDED,
         "how strongly matrices are pulled to zero, biases and norms are not (adamw)"),
    REAL(ARGS_TRAIN, "grad-clip", grad_clip, 0, 1e9, ENDS_INCLUDED,
         "a gradient (of all parameters together) that is longer is cut to this length; 0: off"),
    BOOL(ARGS_TRAIN, "recompute", recompute,
         "keep only the input of each block, and run the block again in backward"),

    TEXT(ARGS_DATA, "data-dir", data_dir, 1, 4000, "DIR",
         "tokens that `make data` wrote; without it: the stories"),
    BOOL(ARGS_DATA, "pad", pad,
         "one document in each window, filled up with tokens that do not count, not several"),
    INT(ARGS_DATA, "num-train-samples", train_windows, 0, T1,
        "different windows to train on, which then come again: a few are learned by heart; 0: no limit"),
    BOOL(ARGS_DATA, "print-data", print_data,
         "print a window of tokens and what is known about the data, and end"),

    TEXT(ARGS_SAMPLE, "prompt", prompt, 0, 1 * M1, "TEXT",
         "continue this text with the model in --output-dir; train nothing"),
    REAL(ARGS_SAMPLE, "temperature", temperature, 0, 1000, ENDS_INCLUDED,
         "below 1: likelier tokens; 0: always the likeliest"),
    INT(ARGS_SAMPLE, "top-k", top_k, 0, 16 * M1, "choose among the k likeliest tokens; 0: all"),
    REAL(ARGS_SAMPLE, "top-p", top_p, 0, 1, LOW_EXCLUDED,
         "choose among the likeliest tokens that together have this probability"),
    INT(ARGS_SAMPLE, "max-new-tokens", max_new_tokens, 1, 16 * M1, "most tokens to generate"),

    INT(ARGS_PROGRESS, "log-interval", log_interval, 0, T1, "steps between lines of progress; 0: never"),
    INT(ARGS_PROGRESS, "eval-interval", eval_interval, 0, T1, "steps between evaluations; 0: never"),
    INT(ARGS_PROGRESS, "eval-windows", eval_windows, 0, T1,
        "windows in an evaluation; 0: the whole validation split"),
    INT(ARGS_PROGRESS, "sample-interval", sample_interval, 0, T1, "steps between samples of text; 0: never"),
    INT(ARGS_PROGRESS, "save-interval", save_interval, 0, T1, "steps between checkpoints; 0: never"),
    INT(ARGS_PROGRESS, "keep-checkpoints", keep_checkpoints, 1, T1, "the newest ones stay, so many of them"),
    BOOL(ARGS_PROGRESS, "trace", trace, "write trace.json for ui.perfetto.dev: when each kernel ran"),
    BOOL(ARGS_PROGRESS, "resume", resume, "go on from the latest complete checkpoint in --output-dir"),

    TEXT(ARGS_PROGRESS, "load-parameters-path", load_parameters_path, 1, 4000, "PATH",
         "start a new run with the weights of a checkpoint, a run or a .safetensors file; --resume has its "
         "own"),

    TEXT(ARGS_RUN, "output-dir", output_dir, 1, 4000, "DIR", "where curves, reports and checkpoints go"),
    INT(ARGS_RUN, "seed", seed, 0, EXACT, "seed of all random numbers"),
    ENUM(ARGS_RUN, "device", device, "cpu|cuda", "what kernels run on: this CPU, or a GPU (make CUDA=1)"),
    BYTES(ARGS_RUN, "device-memory", device_memory, 0, T1,
          "most memory that a device may use, such as 64M; 0: no limit"),
    ENUM(ARGS_DTYPE, "dtype", model.dtype, "f32|bf16",
         "of activations, their gradients, and weights where they are used; weights themselves, their "
         "gradients and the "
         "optimizer's state stay f32"),
    ENUM(ARGS_RUN, "gemm", gemm, "own|openblas", "matrix products on a CPU: our own, or those of OpenBLAS"),

    ENUM(ARGS_DEVICES, "clock", clock, "wall|model", "the time of this machine, or that of --device-model"),
    TEXT(ARGS_DEVICES, "device-model", device_model, 1, 100, "NAME",
         "with --clock model, each process is such a device; 'list' shows the names"),
    BOOL(ARGS_DEVICES, "share-gpu", share_gpu,
         "with --device cuda, as many processes as there are: they share the machine's GPUs, and what they "
         "send each other goes "
         "through the host's memory"),

    INT(ARGS_MESH, "tensor-parallel-size", tensor_parallel, 1, 16 * K1, "devices that share each layer"),
    INT(ARGS_MESH, "pipeline-parallel-size", pipeline_parallel, 1, 16 * K1,
        "devices that each have some of the layers"),

    ENUM(ARGS_OVERLAP, "overlap", overlap, "none|bucket|backward",
         "when devices add up gradients: one by one after backward, in buckets after it, or in buckets "
         "while it runs"),
    BYTES(ARGS_OVERLAP, "bucket-size", bucket_size, 1, T1,
          "bytes of gradients that are added up together, such as 1M"),

    INT(ARGS_SHARDING, "zero-stage", zero_stage, 0, 3,
        "what is cut among devices: 1 the optimizer's state, 2 gradients as well, 3 weights as well; 0: "
        "nothing"),
    BOOL(ARGS_SHARDING, "reduce-once", reduce_once,
         "with --zero-stage 2 or 3, keep whole gradients over a step's micro-batches and add them up once"),
    INT(ARGS_SHARDING, "prefetch", prefetch, 0, 16 * K1,
        "with --zero-stage 3, units of weights that are gathered ahead of use"),
    TEXT(ARGS_SHARDING, "keep-gathered", keep_gathered, 0, 4000, "UNITS",
         "with --zero-stage 3, units that stay gathered until the update, such as blocks.0,head"),
    INT(ARGS_SHARDING, "shard-group", shard_group, 0, 16 * K1,
        "neighbouring devices that the state is cut among; other groups hold copies; 0: all devices"),
    BOOL(ARGS_SHARDING, "async-save", async_save,
         "write a checkpoint while training goes on; otherwise it waits until the checkpoint is on the disk"),

    BOOL(ARGS_TENSOR, "sequence-parallel", sequence_parallel,
         "norms and dropout on a slice of the sequence, one for each device that shares a layer"),
    BOOL(ARGS_TENSOR, "gather-again", gather_again,
         "with --sequence-parallel, keep a slice of what qkv and ffn_up read, and gather it again in "
         "backward"),
    INT(ARGS_TENSOR, "overlap-tensor", overlap_tensor, 1, 1 * K1,
        "pieces of a layer's output, each of which is summed while the next is computed; 1: all at once"),

    ENUM(ARGS_PIPELINE, "pipeline-schedule", pipeline_schedule, "naive|gpipe|1f1b|interleaved|zb-h1|zb-v",
         "in which order each stage takes its micro-batches, forward and backward"),
    INT(ARGS_PIPELINE, "virtual-stages", virtual_stages, 0, 16 * K1,
        "with --pipeline-schedule interleaved, pieces of the model on each stage; 0: 2"),
    TEXT(ARGS_PIPELINE, "schedule-file", schedule_file, 1, 4000, "FILE",
         "the schedule of this file, as each run leaves one in <output-dir>/schedule.csv"),

    BOOL(ARGS_AHEAD, "print-memory", print_memory, "print what each device will hold, and end"),
};
const int config_flag_count = COUNT_OF(config_flags);

/* ---- ranges ---- */

bool flag_in_range(const Flag *flag, double value) {
    return (flag->ends == LOW_EXCLUDED ? value > flag->low : value >= flag->low) &&
           (flag->ends == HIGH_EXCLUDED ? value < flag->high : value <= flag->high);
}

static void print_size(int64_t bytes, Str *out) {
    static const char *const units[] = {"", "K", "M", "G", "T"};
    int unit = 0;
    for (; unit + 1 < COUNT_OF(units) && bytes != 0 && bytes % 1024 == 0; unit++) bytes /= 1024;
    str_printf(out, "%lld%s", (long long)bytes, units[unit]);
}

/* The fewest digits that read back as the same number. */
static void print_real(double value, Str *out) {
    char digits[32];
    int precision = 6;
    do snprintf(digits, sizeof digits, "%.*g", precision++, value);
    while (strtod(digits, NULL) != value && precision <= 17);
    str_printf(out, "%s", digits);
}

static void print_number(const Flag *flag, double value, Str *out) {
    if (flag->kind == FLAG_BYTES)
        print_size((int64_t)value, out);
    else if (flag->kind == FLAG_REAL)
        print_real(value, out);
    else
        str_printf(out, "%.0f", value);
}

/* "must be from 1 to 9", or its like for other ranges. */
static char *range_problem(const Flag *flag) {
    Str s = {0};
    bool plain = flag->ends == ENDS_INCLUDED;
    str_printf(&s, "must be %s ", plain ? "from" : flag->ends == LOW_EXCLUDED ? "above" : "at least");
    print_number(flag, flag->low, &s);
    str_printf(&s, " %s ", plain ? "to" : flag->ends == HIGH_EXCLUDED ? "and below" : "and at most");
    print_number(flag, flag->high, &s);
    return s.data;
}

/* ---- enums ---- */

/* The first name in "relu|gelu|swiglu"; *count its bytes, *rest what follows, NULL after the last. */
static const char *split_name(const char *names, size_t *count, const char **rest) {
    *count = strcspn(names, "|");
    *rest = names[*count] ? names + *count + 1 : NULL;
    return names;
}

/* The number of a name among the enum's values; -1: not there. */
static int enum_index(const Flag *flag, const char *name) {
    size_t count;
    int index = 0;
    for (const char *at, *rest = flag->values; rest; index++) {
        at = split_name(rest, &count, &rest);
        if (strlen(name) == count && memcmp(name, at, count) == 0) return index;
    }
    return -1;
}

static void print_enum(const Flag *flag, unsigned index, Str *out) {
    size_t count = 0;
    const char *at = NULL, *rest = flag->values;
    for (unsigned i = 0; i <= index && rest; i++) at = split_name(rest, &count, &rest);
    str_add(out, at, count);
}

/* ---- values ---- */

#define VALUE(Type, flag, base) (*(Type *)((char *)(base) + (flag)->offset))

void flag_print(const Flag *flag, const void *base, Str *out) {
    const char *text;
    switch (flag->kind) {
    case FLAG_INT: str_printf(out, "%lld", (long long)VALUE(const int64_t, flag, base)); break;
    case FLAG_BYTES: print_size(VALUE(const int64_t, flag, base), out); break;
    case FLAG_REAL: print_real(VALUE(const double, flag, base), out); break;
    case FLAG_BOOL: str_printf(out, "%s", VALUE(const bool, flag, base) ? "true" : "false"); break;
    case FLAG_ENUM: print_enum(flag, VALUE(const unsigned, flag, base), out); break;
    case FLAG_TEXT:
    case FLAG_PRESET:
        text = VALUE(const char *const, flag, base);
        if (text) str_printf(out, "%s", text);
    }
}

static char *set_int(const Flag *flag, void *base, const char *text) {
    static const char units[] = "KMGT";
    char *end;
    int64_t value = strtoll(text, &end, 10); /* at most INT64_MAX, which no flag takes */
    bool overflow = false;
    if (flag->kind == FLAG_BYTES && *end && strchr(units, *end)) {
        for (const char *unit = units; unit <= strchr(units, *end); unit++)
            overflow |= __builtin_mul_overflow(value, 1024, &value);
        end++;
    }
    bool starts_well = strspn(text, "-0123456789") > 0; /* strtoll would take blanks and a plus too */
    if (!starts_well || end == text || *end)
        return xstrdup(flag->kind == FLAG_BYTES ? "not a size such as 64M" : "not a whole number");
    if (overflow || !flag_in_range(flag, (double)value)) return range_problem(flag);
    VALUE(int64_t, flag, base) = value;
    return NULL;
}

static char *set_real(const Flag *flag, void *base, const char *text) {
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    bool decimal =
        strspn(text, "0123456789.-+eE") == strlen(text); /* strtod would take inf, nan, 0x1p3 too */
    if (!decimal || text[0] == '+' || end == text || *end) return xstrdup("not a number");
    if (errno == ERANGE || !flag_in_range(flag, value)) return range_problem(flag);
    VALUE(double, flag, base) = value;
    return NULL;
}

static char *set_enum(const Flag *flag, void *base, const char *text) {
    int index = enum_index(flag, text);
    if (index < 0) return xprintf("not one of %s", flag->values);
    VALUE(unsigned, flag, base) = (unsigned)index;
    return NULL;
}

static char *set_bool(const Flag *flag, void *base, const char *text) {
    bool value = strcmp(text, "true") == 0;
    if (!value && strcmp(text, "false") != 0) return xstrdup("neither true nor false");
    VALUE(bool, flag, base) = value;
    return NULL;
}

static char *set_text(const Flag *flag, void *base, const char *text) {
    size_t count = strlen(text);
    if ((double)count < flag->low) return xstrdup("must not be empty");
    if ((double)count > flag->high) return xprintf("longer than %.0f bytes", flag->high);
    json_t *probe = json_string(text); /* jansson refuses what is not UTF-8, and report.json must hold it */
    if (!probe) return xstrdup("not UTF-8");
    json_decref(probe);
    VALUE(const char *, flag, base) = text;
    return NULL;
}

static char *set_preset(const Flag *flag, void *base, const char *text) {
    const Config *preset = config_preset(text);
    if (!preset) {
        char *names = config_preset_names("|"), *problem = xprintf("not one of %s", names);
        free(names);
        return problem;
    }
    VALUE(const char *, flag, base) = preset->preset;
    return NULL;
}

char *flag_set(const Flag *flag, void *base, const char *text) {
    switch (flag->kind) {
    case FLAG_INT:
    case FLAG_BYTES: return set_int(flag, base, text);
    case FLAG_REAL: return set_real(flag, base, text);
    case FLAG_BOOL: return set_bool(flag, base, text);
    case FLAG_ENUM: return set_enum(flag, base, text);
    case FLAG_TEXT: return set_text(flag, base, text);
    case FLAG_PRESET: return set_preset(flag, base, text);
    }
    ASSERT(false);
    return NULL;
}

/* ---- what help and hints say ---- */

void flag_print_synopsis(const Flag *flag, Str *out) {
    static const char *const placeholders[] = {
        [FLAG_INT] = "N", [FLAG_BYTES] = "SIZE", [FLAG_REAL] = "X", [FLAG_PRESET] = "NAME"};
    if (flag->kind == FLAG_BOOL)
        str_printf(out, "--[no-]%s", flag->name);
    else
        str_printf(out, "--%s %s", flag->name, flag->values ? flag->values : placeholders[flag->kind]);
}

char *flag_usage(const Flag *flag) {
    Str s = {0};
    flag_print_synopsis(flag, &s);
    str_printf(&s, ": %s", flag->help);
    return s.data;
}
