/* config_check: what follows from the flags, and what cannot work, found before anything is allocated. A
 * refusal names the nearest values that work. */
#include "common/config.h"

#include <stdlib.h>

/* Adds "--flag LOW or HIGH" to a hint; a value of 0 stands for none. */
static void offer(Str *hint, const char *flag, int64_t low, int64_t high) {
    if (!low && !high) return;
    str_printf(hint, "%s%s %lld", hint->count ? ", or " : "use ", flag, (long long)(low ? low : high));
    if (low && high) str_printf(hint, " or %lld", (long long)high);
}

/* Offers the divisors of `whole` next to `wanted`, of those that leave a multiple of `quotient_step`. */
static void offer_divisors(Str *hint, const char *flag, int64_t whole, int64_t wanted,
                           int64_t quotient_step) {
    int64_t low = min64(wanted - 1, whole), high = wanted + 1;
    while (low > 0 && (whole % low || whole / low % quotient_step)) low--;
    while (high <= whole && (whole % high || whole / high % quotient_step)) high++;
    offer(hint, flag, low, high <= whole ? high : 0);
}

/* Offers the multiples of `unit` next to `wanted`. */
static void offer_multiples(Str *hint, const char *flag, int64_t unit, int64_t wanted) {
    int64_t low = wanted / unit * unit;
    offer(hint, flag, low, low + unit);
}

char *config_model_problem(ModelConfig *m, char **hint) {
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
        offer_divisors(&help, "--num-attention-heads", m->C, m->H, head_step);
        offer_multiples(&help, "--hidden-size", m->H * head_step, m->C);
    } else if (m->H % m->K) {
        str_printf(&problem, "--num-key-value-heads %lld does not divide --num-attention-heads %lld",
                   (long long)m->K, (long long)m->H);
        offer_divisors(&help, "--num-key-value-heads", m->H, m->K, 1);
    }
    *hint = help.data;
    return problem.data;
}

/* The batch: global = micro-batches x micro-batch. One that is 0 is derived from the other two. */
static void check_batch(Config *c) {
    Str hint = {0};
    if (!c->num_microbatches) {
        if (c->global_batch % c->micro_batch) {
            offer_divisors(&hint, "--micro-batch-size", c->global_batch, c->micro_batch, 1);
            offer_multiples(&hint, "--global-batch-size", c->micro_batch, c->global_batch);
            fail(2, hint.data, "--global-batch-size %lld is not a multiple of --micro-batch-size %lld",
                 (long long)c->global_batch, (long long)c->micro_batch);
        }
        c->num_microbatches = c->global_batch / c->micro_batch;
    }
    if (!c->micro_batch) {
        if (c->global_batch % c->num_microbatches) {
            offer_divisors(&hint, "--num-microbatches", c->global_batch, c->num_microbatches, 1);
            offer_multiples(&hint, "--global-batch-size", c->num_microbatches, c->global_batch);
            fail(2, hint.data, "--global-batch-size %lld is not a multiple of --num-microbatches %lld",
                 (long long)c->global_batch, (long long)c->num_microbatches);
        }
        c->micro_batch = c->global_batch / c->num_microbatches;
    }
    int64_t product = c->num_microbatches * c->micro_batch;
    if (!c->global_batch) c->global_batch = product;
    if (c->global_batch != product) {
        offer(&hint, "--global-batch-size", product, 0);
        if (c->global_batch % c->micro_batch == 0)
            offer(&hint, "--num-microbatches", c->global_batch / c->micro_batch, 0);
        if (c->global_batch % c->num_microbatches == 0)
            offer(&hint, "--micro-batch-size", c->global_batch / c->num_microbatches, 0);
        fail(2, hint.data,
             "--global-batch-size %lld is not --num-microbatches %lld x --micro-batch-size %lld = %lld",
             (long long)c->global_batch, (long long)c->num_microbatches, (long long)c->micro_batch,
             (long long)product);
    }
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

void config_check(Config *c) {
    char *hint, *problem = config_model_problem(&c->model, &hint);
    CHECK_USAGE(!problem, hint, "%s", problem);
    check_batch(c);
    check_counts(c);
    CHECK_USAGE(c->min_lr <= c->learning_rate, "the rate falls from --learning-rate to --min-lr",
                "--min-lr %g is above --learning-rate %g", c->min_lr, c->learning_rate);
    CHECK_USAGE(c->stop_at_step <= c->max_steps, "raise --max-steps, or leave --stop-at-step out",
                "--stop-at-step %lld is beyond --max-steps %lld", (long long)c->stop_at_step,
                (long long)c->max_steps);
    /* logits / temperature must stay finite in float */
    CHECK_USAGE(c->temperature == 0 || c->temperature >= 1e-3, "0 always takes the likeliest token",
                "--temperature %g is neither 0 nor at least 0.001", c->temperature);
}
