/* config_check: what follows from the flags, and what cannot work, found before anything is allocated. A
 * refusal names the nearest values that work. */
#include "common/config/device_model.h"
#include "common/config/flags.h"

#include <stdlib.h>
#include <string.h>

static bool in_range(const char *flag, int64_t value) {
    for (int i = 0; i < config_flag_count; i++)
        if (strcmp(config_flags[i].name, flag) == 0) return flag_in_range(&config_flags[i], (double)value);
    ASSERT(false);
    return false;
}

/* Adds "--flag LOW or HIGH" to a hint, leaving out values that the flag does not take. */
static void offer(Str *hint, const char *flag, int64_t low, int64_t high) {
    bool has_low = low > 0 && in_range(flag, low), has_high = high > 0 && in_range(flag, high);
    if (!has_low && !has_high) return;
    str_printf(hint, "%s--%s %lld", hint->count ? ", or " : "use ", flag, (long long)(has_low ? low : high));
    if (has_low && has_high) str_printf(hint, " or %lld", (long long)high);
}

/* Offers the divisors of `whole` next to `wanted`, among those that are multiples of `unit` and leave a
 * multiple of `quotient_unit`. */
static void offer_divisors(Str *hint, const char *flag, int64_t whole, int64_t wanted, int64_t unit,
                           int64_t quotient_unit) {
    int64_t near[2] = {0, 0};
    for (int64_t d = 1; d <= whole / d; d++) {
        if (whole % d) continue;
        int64_t pair[2] = {d, whole / d};
        for (int i = 0; i < 2; i++) {
            int64_t divisor = pair[i];
            if (divisor % unit || whole / divisor % quotient_unit) continue;
            if (divisor < wanted) near[0] = max64(near[0], divisor);
            if (divisor > wanted) near[1] = near[1] ? min64(near[1], divisor) : divisor;
        }
    }
    offer(hint, flag, near[0], near[1]);
}

/* Offers the multiples of `unit` next to `wanted`. */
static void offer_multiples(Str *hint, const char *flag, int64_t unit, int64_t wanted) {
    int64_t low = wanted / unit * unit;
    offer(hint, flag, low, low + unit);
}

char *config_model_problem(ModelConfig *m, char **hint) {
    int64_t group_unit = m->K ? m->K : 1; /* a new number of heads must suit a K that is given */
    if (m->K == 0) m->K = m->H;
    Str help = {0}, problem = {0};
    int64_t head_step = m->positions == POSITIONS_ROPE ? 2 : 1; /* RoPE turns pairs */
    if (m->C % m->H || m->C / m->H % head_step) {
        if (m->C % m->H)
            str_printf(&problem, "--num-attention-heads %lld does not divide --hidden-size %lld",
                       (long long)m->H, (long long)m->C);
        else
            str_printf(&problem,
                       "--positions rope needs an even head size, and --hidden-size %lld / "
                       "--num-attention-heads %lld is %lld",
                       (long long)m->C, (long long)m->H, (long long)(m->C / m->H));
        offer_divisors(&help, "num-attention-heads", m->C, m->H, group_unit, head_step);
        if (m->H % m->K == 0) offer_multiples(&help, "hidden-size", m->H * head_step, m->C);
        if (!help.count) str_printf(&help, "make --hidden-size a multiple of --num-attention-heads");
    } else if (m->H % m->K) {
        str_printf(&problem, "--num-key-value-heads %lld does not divide --num-attention-heads %lld",
                   (long long)m->K, (long long)m->H);
        offer_divisors(&help, "num-key-value-heads", m->H, m->K, 1, 1);
    }
    *hint = help.data;
    return problem.data;
}

/* "", or "8 devices x " */
static char *devices_text(const Config *c) {
    return c->data_parallel > 1 ? xprintf("%d devices x ", c->data_parallel) : xstrdup("");
}

/* A device's share of the global batch. */
static int64_t split_devices(const Config *c) {
    int64_t devices = c->data_parallel;
    if (c->global_batch % devices == 0) return c->global_batch / devices;
    Str hint = {0};
    offer_multiples(&hint, "global-batch-size", devices, c->global_batch);
    int64_t fewer = devices;
    while (c->global_batch % fewer) fewer--;
    str_printf(&hint, ", or start %lld device%s", (long long)fewer, fewer > 1 ? "s" : "");
    fail(2, hint.data, "--global-batch-size %lld cannot be shared by %lld devices",
         (long long)c->global_batch, (long long)devices);
}

/* A device's share of the global batch / by, which must leave nothing over. */
static int64_t split_batch(const Config *c, const char *flag, int64_t by) {
    int64_t share = split_devices(c);
    if (share % by) {
        Str hint = {0};
        offer_divisors(&hint, flag, share, by, 1, 1);
        offer_multiples(&hint, "global-batch-size", by * c->data_parallel, c->global_batch);
        fail(2, hint.data, "--global-batch-size %lld is not a multiple of %s--%s %lld",
             (long long)c->global_batch, devices_text(c), flag, (long long)by);
    }
    return share / by;
}

/* global_batch = data_parallel x num_microbatches x micro_batch; one that is 0 is derived from the others. */
static void check_batch(Config *c) {
    if (!c->num_microbatches) c->num_microbatches = split_batch(c, "micro-batch-size", c->micro_batch);
    if (!c->micro_batch) c->micro_batch = split_batch(c, "num-microbatches", c->num_microbatches);
    int64_t product = c->data_parallel * c->num_microbatches * c->micro_batch;
    if (!c->global_batch) c->global_batch = product;
    if (c->global_batch == product) return;
    int64_t share = split_devices(c);
    Str hint = {0};
    offer(&hint, "global-batch-size", product, 0);
    if (share % c->micro_batch == 0) offer(&hint, "num-microbatches", share / c->micro_batch, 0);
    if (share % c->num_microbatches == 0) offer(&hint, "micro-batch-size", share / c->num_microbatches, 0);
    str_printf(&hint, "%sleave one of the three out", hint.count ? ", or " : "");
    fail(2, hint.data,
         "--global-batch-size %lld is not %s--num-microbatches %lld x --micro-batch-size %lld = %lld",
         (long long)c->global_batch, devices_text(c), (long long)c->num_microbatches,
         (long long)c->micro_batch, (long long)product);
}

/* BLAS counts rows in 32 bits; tokens are counted in 63 over a whole run. */
static void check_counts(const Config *c) {
    int64_t rows = INT32_MAX / c->model.T;
    CHECK_USAGE(c->micro_batch <= rows, "a micro-batch holds at most 2147483647 tokens",
                "--micro-batch-size %lld x --max-seq-length %lld is too large", (long long)c->micro_batch,
                (long long)c->model.T);
    double tokens = (double)c->max_steps * (double)c->global_batch * (double)c->model.T;
    CHECK_USAGE(tokens < 0x1p62, "a run holds at most 4.6e18 tokens",
                "--max-steps %lld x --global-batch-size %lld x --max-seq-length %lld is too large",
                (long long)c->max_steps, (long long)c->global_batch, (long long)c->model.T);
}

/* The mesh itself (mesh_new) refuses sizes that do not fit. */
static void check_devices(Config *c) {
    CHECK_USAGE(device_model(c->device_model), xprintf("one of %s", device_model_names(", ")),
                "--device-model '%s' is not known", c->device_model);
    CHECK_USAGE(!c->share_gpu || c->device == DEVICE_CUDA, "--device cuda --share-gpu",
                "--share-gpu is for GPUs, and --device is cpu");
    c->data_parallel = (int)max64(c->data_parallel, 1);
}

void config_check(Config *c) {
    check_devices(c);
    char *hint, *problem = config_model_problem(&c->model, &hint);
    CHECK_USAGE(!problem, hint, "%s", problem);
    CHECK_USAGE(c->model.dtype == DTYPE_F32 || sizeof(real) == sizeof(float), "build without REAL=double",
                "--dtype bf16 is for programs that compute in single precision");
    check_batch(c);
    check_counts(c);
    CHECK_USAGE(c->min_lr <= c->learning_rate, "the rate falls from --learning-rate to --min-lr",
                "--min-lr %g is above --learning-rate %g", c->min_lr, c->learning_rate);
    CHECK_USAGE(c->stop_at_step <= c->max_steps, "raise --max-steps, or leave --stop-at-step out",
                "--stop-at-step %lld is beyond --max-steps %lld", (long long)c->stop_at_step,
                (long long)c->max_steps);
    CHECK_USAGE(!c->pad || c->data_dir, "leave --pad out, or give a --data-dir",
                "--pad is for documents of --data-dir: the stories are always packed");
    /* logits / temperature must stay finite in float */
    CHECK_USAGE(c->temperature == 0 || c->temperature >= 1e-3, "0 always takes the likeliest token",
                "--temperature %g is neither 0 nor at least 0.001", c->temperature);
}
