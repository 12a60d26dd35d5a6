/* TEST variants: double
 * Every op's gradients, towards inputs and parameters, against finite differences. The objective is L = <y,
 * w> with fixed random w, which is also the seed of backward. Its slope along one element is (8 (L(h) -
 * L(-h)) - (L(2h) - L(-2h))) / 12h with h = 1e-3: an error of h^4 times the fifth derivative (Abramowitz &
 * Stegun 25.3.6), about 1e-12, plus rounding over h.
 *
 * Each op runs twice. First plainly; then as the second of two micro-batches, with a gradient already in its
 * inputs: what it adds must be the same. */
#include "common/cpu/device_cpu.h"
#include "common/tensor/kernels.h"
#include "common/tensor/ops.h"
#include "common/base/rng.h"
#include "tests/tap.h"
#include "tests/tensors.h"

#include <stdlib.h>

enum { MOST_PARAMS = 5, SAMPLES = 60 }; /* elements tried in each tensor */

typedef struct {
    Device *device;
    Params params;
    Param *param[MOST_PARAMS];
    Tensor x[2]; /* inputs; those without data are not there */
    Tensor ids, targets, rope_table;
    int64_t H, K, first, first_id, window;
} Problem;
typedef Tensor *(*Forward)(Problem *p, Tape *tape);

static void fill(Tensor *t, const char *name) { fill_normal(t, 5, rng_stream(name), 1); }

static Problem *problem_new(Shape x) {
    Problem *p = xcalloc(1, sizeof *p);
    p->device = p->params.device = device_new_cpu(0);
    p->x[0] = tensor_new(p->device, MEMORY_ACTIVATIONS, "x", TYPE_REAL, x);
    fill(&p->x[0], "x");
    return p;
}

static void add_param(Problem *p, Shape shape) {
    char name[] = "param.0";
    name[6] = (char)('0' + p->params.count);
    Param *param = p->param[p->params.count] = params_add(&p->params, name, shape);
    fill(&param->data, name);
}

/* Random whole numbers below `below`; about one in `mask` is -1 (mask 0: none). */
static Tensor random_ids(Problem *p, const char *name, Shape shape, int32_t below, uint32_t mask) {
    Tensor t = tensor_new(p->device, MEMORY_ACTIVATIONS, name, TYPE_I32, shape);
    Rng rng = {5, rng_stream(name), 0};
    for (int64_t i = 0; i < tensor_count(&t); i++) {
        int32_t id = (int32_t)rng_below(&rng, (uint32_t)below);
        if (mask && rng_below(&rng, mask) == 0) id = -1;
        tensor_write(&t, i, 1, &id);
    }
    return t;
}

static void problem_delete(Problem *p) {
    Tensor *tensors[] = {&p->x[0], &p->x[1], &p->ids, &p->targets, &p->rope_table};
    for (int i = 0; i < COUNT_OF(tensors); i++)
        if (tensors[i]->data) tensor_free(tensors[i]);
    params_free(&p->params);
    device_delete(p->device);
    free(p);
}

/* ---- finite differences ---- */

static double weight_of(int64_t i) {
    return 2 * rng_uniform(6, rng_stream("weights of y"), (uint64_t)i) - 0.9;
}

static double objective(Problem *p, Forward forward) {
    Tape *tape = tape_new(p->device, false);
    Tensor *y = forward(p, tape);
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(y); i++) sum += real_at(y, i) * weight_of(i);
    tape_delete(tape);
    return sum;
}

/* Of the objective, along element i of t. */
static double slope(Problem *p, Forward forward, Tensor *t, int64_t element) {
    const double h = 1e-3;
    double keep = real_at(t, element), at[5];
    for (int i = -2; i <= 2; i++) {
        if (i == 0) continue;
        set_real_at(t, element, (real)(keep + i * h));
        at[i + 2] = objective(p, forward);
    }
    set_real_at(t, element, (real)keep);
    return (8 * (at[3] - at[1]) - (at[4] - at[0])) / (12 * h);
}

typedef struct {
    double error, largest;
    int64_t tried;
} Comparison;

/* grad times `share`, minus `before`, must be the slope along each element of t; about SAMPLES are tried. */
static void compare(Problem *p, Forward forward, Tensor *t, const Tensor *grad, double share, double before,
                    Comparison *c) {
    int64_t count = tensor_count(t), stride = (count / SAMPLES) | 1;
    for (int64_t i = 0; i < count; i += stride) {
        double want = slope(p, forward, t, i), got = real_at(grad, i) * share - before;
        c->error = worse(c->error, isfinite(got) ? fabs(got - want) : INFINITY);
        c->largest = worse(c->largest, fabs(want));
        c->tried++;
    }
}

/* One micro-batch: runs forward and backward on `tape`, with the gradient of each input starting at `before`
 * (0: at nothing). */
static void backward(Problem *p, Forward forward, Tape *tape, double before) {
    for (int i = 0; i < 2 && p->x[i].data; i++) {
        p->x[i].grad = NULL;
        if (before == 0 || p->x[i].constant) continue;
        bool add;
        Tensor *grad = tape_grad(tape, &p->x[i], &add);
        fill_constant(grad, (real)before);
    }
    Tensor *y = forward(p, tape);
    Tensor seed = tensor_new(p->device, MEMORY_ACTIVATIONS, "seed", TYPE_REAL, y->shape);
    for (int64_t i = 0; i < tensor_count(y); i++) set_real_at(&seed, i, (real)weight_of(i));
    tape_backward(tape, y, &seed);
    tensor_free(&seed);
}

/* Errors are relative to the op's largest slope. Deletes the problem. */
static void check(Problem *p, Forward forward, const char *name, double tolerance) {
    bool adds = p->H == 0; /* the output of a projection has one reader: its gradient is never added to */
    for (int microbatches = 1; microbatches <= 2; microbatches++) {
        double before = microbatches == 2 && adds ? 3 : 0;
        Comparison c = {0};
        Tape *tape = tape_new(p->device, true);
        for (int i = 0; i < microbatches; i++) {
            tape_reset(tape);
            tape_begin_microbatch(tape, i, microbatches);
            backward(p, forward, tape, before);
        }
        for (int i = 0; i < 2 && p->x[i].data; i++)
            if (!p->x[i].constant) compare(p, forward, &p->x[i], p->x[i].grad, 1, before, &c);
        for (int i = 0; i < p->params.count; i++)
            compare(p, forward, &p->param[i]->data, &p->param[i]->grad[0], 1.0 / microbatches, 0, &c);
        ok(c.error <= tolerance * c.largest,
           "%s%s: %lld slopes up to %.3g, off by %.1e of that, tolerance %.0e", name,
           microbatches == 2 ? ", again and added" : "", (long long)c.tried, c.largest, c.error / c.largest,
           tolerance);
        tape_delete(tape);
    }
    problem_delete(p);
}

/* ---- the ops: each with awkward sizes ---- */

static Tensor *run_linear(Problem *p, Tape *tape) {
    return op_linear(tape, &p->x[0], p->param[0], p->param[1]);
}

static void linear(Shape x, int64_t columns, bool bias, const char *name) {
    Problem *p = problem_new(x);
    add_param(p, SHAPE(x.size[x.rank - 1], columns));
    if (bias) add_param(p, SHAPE(columns));
    check(p, run_linear, name, 1e-10);
}

static Tensor *run_add_bias(Problem *p, Tape *tape) { return op_add_bias(tape, &p->x[0], p->param[0]); }

static void add_bias(void) {
    Problem *p = problem_new(SHAPE(2, 5, 71));
    add_param(p, SHAPE(71));
    check(p, run_add_bias, "add bias", 1e-11);
}

static Tensor *run_add(Problem *p, Tape *tape) { return op_add(tape, &p->x[0], &p->x[1]); }
static Tensor *run_add_to_itself(Problem *p, Tape *tape) { return op_add(tape, &p->x[0], &p->x[0]); }

static void add(void) {
    Problem *p = problem_new(SHAPE(2, 3, 7));
    p->x[1] = tensor_new(p->device, MEMORY_ACTIVATIONS, "b", TYPE_REAL, p->x[0].shape);
    fill(&p->x[1], "b");
    check(p, run_add, "add", 1e-11);
    check(problem_new(SHAPE(2, 3, 7)), run_add_to_itself, "add x to x", 1e-11);
}

static Tensor *run_concat(Problem *p, Tape *tape) { return op_concat(tape, &p->x[0], &p->x[1]); }
static Tensor *run_concat_with_itself(Problem *p, Tape *tape) { return op_concat(tape, &p->x[0], &p->x[0]); }

static void concat(void) {
    Problem *p = problem_new(SHAPE(2, 3, 7));
    p->x[1] = tensor_new(p->device, MEMORY_ACTIVATIONS, "b", TYPE_REAL, SHAPE(2, 3, 4));
    fill(&p->x[1], "b");
    check(p, run_concat, "concat", 1e-11);
    check(problem_new(SHAPE(2, 3, 7)), run_concat_with_itself, "concat x with x", 1e-11);
}

static Tensor *run_embedding(Problem *p, Tape *tape) {
    return op_embedding(tape, &p->ids, p->param[0], p->first_id, p->param[1], p->first);
}

static void embedding(int32_t ids, bool position, int64_t first, int64_t first_id, const char *name) {
    Problem *p = problem_new(SHAPE(1));
    p->x[0].constant = true;
    p->ids = random_ids(p, "ids", SHAPE(3, 5), ids, 0); /* some come often, some never */
    p->first = first, p->first_id = first_id;
    add_param(p, SHAPE(11, 70));
    if (position) add_param(p, SHAPE(8, 70));
    check(p, run_embedding, name, 1e-11);
}

static Tensor *run_layernorm(Problem *p, Tape *tape) {
    return op_layernorm(tape, &p->x[0], p->param[0], p->param[1], 1e-3);
}
static Tensor *run_rmsnorm(Problem *p, Tape *tape) { return op_rmsnorm(tape, &p->x[0], p->param[0], 1e-3); }

static void norm(Forward forward, int64_t columns, bool bias, const char *name) {
    Problem *p = problem_new(SHAPE(2, 3, columns));
    add_param(p, SHAPE(columns));
    if (bias) add_param(p, SHAPE(columns));
    check(p, forward, name, 1e-9);
}

static Tensor *run_relu(Problem *p, Tape *tape) { return op_relu(tape, &p->x[0]); }
static Tensor *run_gelu(Problem *p, Tape *tape) { return op_gelu(tape, &p->x[0]); }
static Tensor *run_swiglu(Problem *p, Tape *tape) { return op_swiglu(tape, &p->x[0]); }

static void activations(void) {
    Problem *p = problem_new(SHAPE(3, 5, 7));
    for (int64_t i = 0; i < tensor_count(&p->x[0]); i++) /* away from the corner */
        set_real_at(&p->x[0], i, real_at(&p->x[0], i) + (real)copysign(0.01, real_at(&p->x[0], i)));
    check(p, run_relu, "relu", 1e-11);
    check(problem_new(SHAPE(3, 5, 7)), run_gelu, "gelu", 1e-9);
    check(problem_new(SHAPE(3, 5, 14)), run_swiglu, "swiglu", 1e-9);
}

static Tensor *run_dropout(Problem *p, Tape *tape) {
    return op_dropout(tape, &p->x[0], (DropoutSite){0.4, 7, rng_stream("dropout"), 5, p->window});
}

static void dropout(int64_t window, const char *name) {
    Problem *p = problem_new(SHAPE(3, 5, 7));
    p->window = window;
    check(p, run_dropout, name, 1e-11);
}

static Tensor *run_rope(Problem *p, Tape *tape) {
    return op_rope(tape, &p->x[0], &p->rope_table, p->H, p->K, p->first);
}

/* A table of cosines and sines of any angles. */
static void rope(void) {
    Problem *p = problem_new(SHAPE(2, 5, (3 + 2) * 6));
    p->H = 3, p->K = 1, p->first = 2;
    p->rope_table = tensor_new(p->device, MEMORY_ACTIVATIONS, "table", TYPE_REAL, SHAPE(7, 6));
    for (int64_t t = 0; t < 7; t++)
        for (int64_t i = 0; i < 3; i++) {
            double angle = 0.7 * (double)(t * (i + 1));
            set_real_at(&p->rope_table, t * 6 + i, (real)cos(angle));
            set_real_at(&p->rope_table, t * 6 + 3 + i, (real)sin(angle));
        }
    check(p, run_rope, "rope", 1e-11);
}

static Tensor *run_attention(Problem *p, Tape *tape) { return op_attention(tape, &p->x[0], p->H, p->K); }

static void attention(int64_t B, int64_t T, int64_t H, int64_t K, int64_t D, const char *name) {
    Problem *p = problem_new(SHAPE(B, T, (H + 2 * K) * D));
    p->H = H, p->K = K;
    check(p, run_attention, name, 1e-9);
}

static Tensor *run_head_loss(Problem *p, Tape *tape) {
    return op_head_loss(tape, &p->x[0], p->param[0], p->param[1], 0, &p->targets);
}

static void head_loss(Shape x, bool bias, const char *name) {
    Problem *p = problem_new(x);
    p->targets = random_ids(p, "targets", SHAPE(x.size[0], x.size[1]), 11, 4);
    add_param(p, SHAPE(11, x.size[2]));
    if (bias) add_param(p, SHAPE(11));
    check(p, run_head_loss, name, 1e-9);
}

static Tensor *run_tied(Problem *p, Tape *tape) {
    Tensor *x = op_embedding(tape, &p->ids, p->param[0], 0, p->param[1], 0);
    return op_head_loss(tape, x, p->param[0], NULL, 1, &p->targets);
}

static void tied(void) {
    Problem *p = problem_new(SHAPE(1));
    p->x[0].constant = true;
    p->ids = random_ids(p, "ids", SHAPE(2, 13), 11, 0);
    p->targets = random_ids(p, "targets", SHAPE(2, 13), 11, 4);
    add_param(p, SHAPE(11, 5));
    add_param(p, SHAPE(13, 5));
    p->param[0]->uses = 2;
    check(p, run_tied, "a weight with two uses", 1e-9);
}

static Tensor *run_squared_error(Problem *p, Tape *tape) {
    return op_squared_error(tape, &p->x[0], &p->x[1]);
}

static void squared_error(void) {
    Problem *p = problem_new(SHAPE(5, 7));
    p->x[1] = tensor_new(p->device, MEMORY_ACTIVATIONS, "target", TYPE_REAL, p->x[0].shape);
    fill(&p->x[1], "target");
    p->x[1].constant = true;
    check(p, run_squared_error, "squared error", 1e-10);
}

/* A segment with a residual, so that x has two readers inside, and a dropout, which must draw
 * the same mask. */
static Tensor *segment(void *context, Tape *tape, Tensor *x) {
    Problem *p = *(Problem **)context;
    Tensor *h = op_layernorm(tape, x, p->param[0], NULL, 1e-3);
    h = op_gelu(tape, op_linear(tape, h, p->param[1], p->param[2]));
    h = op_dropout(tape, h, (DropoutSite){0.4, 7, rng_stream("dropout"), 3, 0});
    h = op_add(tape, x, op_linear(tape, h, p->param[3], p->param[4]));
    tape_drop(tape, x);
    return h;
}

static Tensor *run_recompute(Problem *p, Tape *tape) {
    p->x[0].dropped = false;
    Tensor *y = op_recompute(tape, &p->x[0], segment, &p, sizeof p);
    p->x[0].dropped = false; /* it lives on outside the tape */
    return y;
}

static void recompute(void) {
    Problem *p = problem_new(SHAPE(2, 5, 7));
    const Shape shapes[] = {SHAPE(7), SHAPE(7, 9), SHAPE(9), SHAPE(9, 7), SHAPE(7)};
    for (int i = 0; i < COUNT_OF(shapes); i++) add_param(p, shapes[i]);
    check(p, run_recompute, "recompute", 1e-9);
}

int main(void) {
    linear(SHAPE(2, 5, 7), 11, true, "linear");
    linear(SHAPE(3, 13), 1, false, "linear without bias");
    linear(SHAPE(130, 3), 200, true, "linear in many tiles");
    linear(SHAPE(2, 4099), 3, true, "linear with a long inner dimension");
    linear(SHAPE(4100, 3), 2, true, "linear with many rows");
    add_bias();
    add();
    concat();
    embedding(4, true, 0, 0, "embedding");
    embedding(4, false, 0, 0, "embedding without positions");
    embedding(4, true, 3, 0, "embedding from position 3");
    embedding(30, true, 0, 7, "embedding, of 30 rows those from 7 on");
    embedding(30, false, 0, 23, "embedding, of 30 rows the last");
    norm(run_layernorm, 7, true, "layer norm");
    norm(run_layernorm, 131, false, "layer norm without bias");
    norm(run_rmsnorm, 7, false, "rms norm");
    norm(run_rmsnorm, 131, false, "rms norm, wide");
    activations();
    dropout(0, "dropout");
    dropout(50, "dropout on slices of windows");
    rope();
    attention(2, 13, 3, 3, 5, "attention");
    attention(1, 1, 2, 1, 4, "attention over one token");
    attention(2, 64, 4, 1, 3, "attention, one key head, one full tile");
    attention(2, 70, 6, 2, 4, "attention, grouped, a ragged tile");
    attention(1, 131, 6, 3, 2, "attention, grouped, three tiles");
    head_loss(SHAPE(2, 13, 5), true, "head and loss");
    head_loss(SHAPE(3, 100, 5), true, "head and loss in two chunks");
    head_loss(SHAPE(2, 13, 5), false, "head and loss without bias");
    tied();
    squared_error();
    recompute();
    return tap_done();
}
