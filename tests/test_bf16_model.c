/* TEST variants: float, all: asan
 * A model in bf16 beside the same in f32: its loss, its gradients, fifty steps of training; what memory it takes; that the
 * copies of weights follow the weights; and the same bits twice, by one thread and by two. */
#include "tests/tap.h"
#include "tests/tensors.h"
#include "tests/training.h"

#include <string.h>

static Config config_of(ModelConfig model, Dtype dtype) {
    Config c = *config_preset("tiny");
    c.model = model;
    c.model.dtype = dtype;
    c.global_batch = 4;
    c.micro_batch = 2;
    c.num_microbatches = 2;
    c.max_steps = 50;
    c.learning_rate = 3e-3;
    c.min_lr = 3e-4;
    c.seed = 11;
    return c;
}

static Training start(ModelConfig model, Dtype dtype, bool recompute, int threads) {
    Config c = config_of(model, dtype);
    c.recompute = recompute;
    Training t = training_new(&c, c.model.T, 2, 0.1);
    t.device->queue.threads = threads;
    return t;
}

/* The gradients' difference in proportion to the gradient, of the parameter where that is largest. */
static double largest_difference(const Training *narrow, const Training *wide, const char **name) {
    double worst = 0;
    for (int i = 0; i < wide->model->params.count; i++) {
        const Param *p = narrow->model->params.items[i];
        real *got = tensor_to_host(&p->grad[0]),
             *want = tensor_to_host(&wide->model->params.items[i]->grad[0]);
        double off = 0, size = 0;
        for (int64_t k = 0; k < tensor_count(&p->data); k++) {
            off += (double)(got[k] - want[k]) * (double)(got[k] - want[k]);
            size += (double)want[k] * (double)want[k];
        }
        if (is_worse(worst, sqrt(off / size))) worst = sqrt(off / size), *name = p->name;
        free(got), free(want);
    }
    return worst;
}

/* Rounding to bf16 moves a number by 2^-9 of itself at most; a gradient has passed through some thirty. Where relu asks for
 * the sign of a number near 0, it may be another one: then a whole term is there or not. */
static void test_gradients(const char *what, ModelConfig model, bool recompute) {
    const char *name = "";
    Training wide = start(model, DTYPE_F32, recompute, 2), narrow = start(model, DTYPE_BF16, recompute, 2);
    double want = training_gradient(&wide, 0), got = training_gradient(&narrow, 0);
    close_to(got, want, 2e-3, what);
    double worst = largest_difference(&narrow, &wide, &name);
    ok(worst > 1e-4 && worst < (model.activation == ACTIVATION_RELU ? 0.12 : 0.03),
       "%s: gradients differ by at most %.2g of their length ('%s')", what, worst, name);
    const MemoryUse *use = &narrow.device->memory, *before = &wide.device->memory;
    int64_t matrices = 0;
    for (int i = 0; i < narrow.model->params.count; i++) {
        const Tensor *data = &narrow.model->params.items[i]->data;
        if (data->shape.rank > 1) matrices += tensor_count(data);
    }
    ok(use->now[MEMORY_PARAMETERS] == before->now[MEMORY_PARAMETERS] + 2 * matrices,
       "%s: parameters and a copy of the matrices, %lld bytes", what, (long long)use->now[MEMORY_PARAMETERS]);
    ok(use->now[MEMORY_GRADIENTS] == before->now[MEMORY_GRADIENTS] &&
           use->now[MEMORY_OPTIMIZER] == before->now[MEMORY_OPTIMIZER],
       "%s: gradients and the optimizer's state as in f32", what);
    ok(use->peak[MEMORY_ACTIVATIONS] < before->peak[MEMORY_ACTIVATIONS],
       "%s: activations take %lld bytes, not %lld", what, (long long)use->peak[MEMORY_ACTIVATIONS],
       (long long)before->peak[MEMORY_ACTIVATIONS]);
    training_delete(&narrow);
    training_delete(&wide);
}

/* ---- training ---- */

static double train(Training *t, int64_t steps) {
    double loss = NAN;
    for (int64_t step = 0; step < steps; step++) {
        loss = training_gradient(t, step);
        training_update(t, step);
    }
    return loss;
}

static void test_training(void) {
    ModelConfig model = awkward_model();
    Training wide = start(model, DTYPE_F32, false, 2), narrow = start(model, DTYPE_BF16, false, 2);
    double first = training_gradient(&wide, 0), want = train(&wide, 50), got = train(&narrow, 50);
    ok(want < 0.9 * first && fabs(got - want) < 0.01 * want,
       "after 50 steps the loss is %.4f, from %.4f; in f32 %.4f", got, first, want);
    training_delete(&narrow);
    training_delete(&wide);
}

static bool same_weights(const Training *a, const Training *b) {
    bool same = true;
    for (int i = 0; i < a->model->params.count; i++)
        same &= same_elements(&a->model->params.items[i]->data, &b->model->params.items[i]->data);
    return same;
}

static void test_bits(void) {
    Training one = start(awkward_model(), DTYPE_BF16, false, 1),
             two = start(awkward_model(), DTYPE_BF16, false, 2),
             again = start(awkward_model(), DTYPE_BF16, true, 2);
    double losses[] = {train(&one, 3), train(&two, 3), train(&again, 3)};
    ok(losses[0] == losses[1] && same_weights(&one, &two), "one thread and two: the same bits");
    ok(losses[1] == losses[2] && same_weights(&two, &again), "recomputed: the same bits");
    training_delete(&one);
    training_delete(&two);
    training_delete(&again);
}

/* ---- the copies ---- */

static bool copies_follow(Training *t) {
    bool same = true;
    for (int i = 0; i < t->model->params.count; i++) {
        Param *p = t->model->params.items[i];
        const Tensor *used = param_acquire(p);
        if (p->data.shape.rank == 1) {
            same &= used == &p->data;
        } else {
            Tensor want = tensor_new(t->device, MEMORY_ACTIVATIONS, "want", TYPE_BF16, p->data.shape);
            t->device->kernels->cast(&t->device->queue, &p->data, &want);
            same &= used->type == TYPE_BF16 && same_elements(used, &want);
            tensor_free(&want);
        }
        param_release(p);
    }
    return same;
}

static void test_copies(void) {
    Training t = start(awkward_post_norm_model(), DTYPE_BF16, false, 2);
    ok(copies_follow(&t), "ops get matrices in bf16 and vectors as they are");
    train(&t, 2);
    ok(copies_follow(&t), "after updates they get the new ones");
    Param *p = t.model->params.items[0];
    tensor_write(&p->data, 0, 1, &(real){42});
    param_changed(p);
    ok(copies_follow(&t), "and after any other change that is told");
    training_delete(&t);
}

int main(void) {
    test_gradients("pre-norm", awkward_model(), false);
    test_gradients("pre-norm, recomputed", awkward_model(), true);
    test_gradients("post-norm", awkward_post_norm_model(), false);
    ModelConfig tied = awkward_post_norm_model();
    tied.norm_place = NORM_PRE;
    tied.tied = true;
    tied.activation = ACTIVATION_GELU;
    test_gradients("tied", tied, false);
    test_training();
    test_bits();
    test_copies();
    return tap_done();
}
