#include "chapters/01_autograd/gradcheck.h"

#include "common/base/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Which inputs of relus are positive, as a hash (FNV-1a) over all of them. */
static void hash_signs(void *context, const Node *node, TapePhase phase) {
    uint64_t *hash = context;
    if (phase != TAPE_FORWARD || strcmp(node->op->name, "relu") != 0) return;
    real *out = tensor_to_host(node->out);
    for (int64_t i = 0; i < tensor_count(node->out); i++) *hash = (*hash ^ (out[i] > 0)) * 0x100000001b3u;
    free(out);
}

static double loss_at(Params *params, LossFn *loss, void *context, uint64_t *signs) {
    Tape *tape = tape_new(params->device, true);
    *signs = 0xcbf29ce484222325u;
    tape->observer = (TapeObserver){.done = hash_signs, .context = signs};
    double value = tensor_scalar(loss(context, tape));
    tape_delete(tape);
    return value;
}

static void backward(Params *params, LossFn *loss, void *context) {
    Tape *tape = tape_new(params->device, true);
    Tensor one = tensor_new(params->device, MEMORY_ACTIVATIONS, "seed", TYPE_REAL, SHAPE(1));
    tensor_set_scalar(&one, 1);
    tape_backward(tape, loss(context, tape), &one);
    tensor_free(&one);
    tape_delete(tape);
}

static int64_t largest(const real *values, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (fabs((double)values[i]) > fabs((double)values[best])) best = i;
    return best;
}

static bool taken(const GradCheck *checks, int count, int64_t index) {
    for (int i = 0; i < count; i++)
        if (checks[i].index == index) return true;
    return false;
}

/* Elements of p to look at: first the one whose gradient is the largest, then others, none twice. */
static int choose(Param *p, int64_t first, int each, uint64_t seed, GradCheck *checks) {
    int64_t count = tensor_count(&p->data);
    Rng rng = {seed, rng_stream(p->name), 0};
    for (int i = 0; i < each; i++) {
        if (i == count) return i;
        int64_t index = i ? rng_below(&rng, (uint32_t)count) : first;
        while (taken(checks, i, index)) index = (index + 1) % count;
        checks[i] = (GradCheck){.param = p, .index = index};
    }
    return each;
}

/* The loss with this value in place of the element that is checked. */
static double loss_with(const GradCheck *check, real value, Params *params, LossFn *loss, void *context,
                        uint64_t *signs) {
    tensor_write(&check->param->data, check->index, 1, &value);
    return loss_at(params, loss, context, signs);
}

int gradcheck(Params *params, LossFn *loss, void *context, double step, int each, uint64_t seed,
              GradCheck *checks) {
    int count = 0;
    backward(params, loss, context);
    for (int p = 0; p < params->count; p++) {
        Param *param = params->items[p];
        real *gradient = tensor_to_host(&param->grad[0]);
        int64_t steepest = largest(gradient, tensor_count(&param->data));
        double scale = fabs((double)gradient[steepest]);
        int chosen = choose(param, steepest, each, seed, checks + count);
        for (GradCheck *check = checks + count; check < checks + count + chosen; check++) {
            real before;
            tensor_read(&param->data, check->index, 1, &before);
            real high = before + (real)step,
                 low = before - (real)step; /* rounded: their distance is not quite 2h */
            uint64_t signs_high, signs_low;
            double loss_high = loss_with(check, high, params, loss, context, &signs_high);
            double loss_low = loss_with(check, low, params, loss, context, &signs_low);
            tensor_write(&param->data, check->index, 1, &before);
            check->analytic = gradient[check->index];
            check->difference = (loss_high - loss_low) / ((double)high - (double)low);
            check->error = fabs(check->analytic - check->difference) / fmax(scale, 1e-300);
            check->kink = signs_high != signs_low;
        }
        free(gradient);
        count += chosen;
    }
    return count;
}

bool gradcheck_print(const GradCheck *checks, int count, double step, double tolerance) {
    int kinks = 0;
    double worst = 0;
    printf("%-12s %8s %18s %18s %10s\n", "parameter", "index", "gradient", "difference", "error");
    for (const GradCheck *c = checks; c < checks + count; c++) {
        printf("%-12s %8" PRId64 " %18.10g %18.10g %10.1e%s\n", c->param->name, c->index, c->analytic,
               c->difference, c->error, c->kink ? "  kink" : "");
        kinks += c->kink;
        if (!c->kink) worst = fmax(worst, isnan(c->error) ? INFINITY : c->error);
    }
    bool passed = worst <= tolerance && 2 * kinks < count;
    printf("%s: largest error %.1e, tolerance %.0e, step %.0e; %d of %d compared, %d at a kink\n",
           passed ? "PASS" : "FAIL", worst, tolerance, step, count - kinks, count, kinks);
    return passed;
}
