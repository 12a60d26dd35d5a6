/* The two-layer network: its output by hand, its gradients against finite differences, and the gradient check
 * itself, which must see a wrong gradient. TEST variants: float double asan */
#include "chapters/01_autograd/gradcheck.h"
#include "common/cpu/device_cpu.h"
#include "common/model/mlp.h"
#include "common/base/rng.h"
#include "tests/tap.h"
#include "tests/tensors.h"

#include <stdlib.h>
#include <string.h>

enum { B = 5, I = 7, F = 11, O = 3 };

typedef struct {
    Mlp *mlp;
    Tensor x, target;
    double wrong; /* what the squared error is multiplied by in the forward, but not in the backward */
} Problem;

static Tensor *loss_of(void *context, Tape *tape) {
    Problem *p = context;
    Tensor *loss = op_squared_error(tape, mlp_forward(p->mlp, tape, &p->x), &p->target);
    tensor_write(loss, 0, 1, &(double){tensor_scalar(loss) * p->wrong});
    return loss;
}

static Problem problem_new(Device *device) {
    Problem p = {mlp_new(device, I, F, O, 5),
                 tensor_new(device, MEMORY_ACTIVATIONS, "x", TYPE_REAL, SHAPE(B, I)),
                 tensor_new(device, MEMORY_ACTIVATIONS, "target", TYPE_REAL, SHAPE(B, O)), 1};
    p.x.constant = true;
    fill_normal(&p.x, 5, 1, 1);
    fill_normal(&p.target, 5, 2, 1);
    fill_normal(&p.mlp->up_bias->data, 5, 3, 0.5);
    fill_normal(&p.mlp->down_bias->data, 5, 4, 0.5);
    return p;
}

static void test_forward(Device *device, Problem *p) {
    const Tensor *w1 = &p->mlp->up_weight->data, *b1 = &p->mlp->up_bias->data;
    const Tensor *w2 = &p->mlp->down_weight->data, *b2 = &p->mlp->down_bias->data;
    Tape *tape = tape_new(device, false);
    const Tensor *y = mlp_forward(p->mlp, tape, &p->x);
    ok(shape_equal(y->shape, SHAPE(B, O)), "the output is %s", shape_text(y->shape).text);
    double largest = 0;
    for (int b = 0; b < B; b++)
        for (int o = 0; o < O; o++) {
            double sum = (double)real_at(b2, o);
            for (int f = 0; f < F; f++) {
                double h = (double)real_at(b1, f);
                for (int i = 0; i < I; i++)
                    h += (double)real_at(&p->x, b * I + i) * (double)real_at(w1, i * F + f);
                sum += fmax(h, 0) * (double)real_at(w2, f * O + o);
            }
            largest = worse(largest, fabs(sum - (double)real_at(y, b * O + o)));
        }
    ok(largest < (sizeof(real) == 4 ? 1e-5 : 1e-13), "the output, by loops: off by %g", largest);
    tape_delete(tape);
}

static double worst(const GradCheck *checks, int count, int *kinks) {
    double largest = 0;
    *kinks = 0;
    for (int i = 0; i < count; i++) {
        *kinks += checks[i].kink;
        if (!checks[i].kink) largest = worse(largest, checks[i].error);
    }
    return largest;
}

static void test_gradients(Problem *p) {
    enum { EACH = 1000 };
    Params *params = &p->mlp->params;
    GradCheck *checks = xcalloc((size_t)params->count * EACH, sizeof *checks);
    double step = sizeof(real) == 4 ? 1e-2 : 1e-5, tolerance = sizeof(real) == 4 ? 1e-3 : 1e-9;
    int kinks, count = gradcheck(params, loss_of, p, step, EACH, 1, checks);
    double error = worst(checks, count, &kinks);
    ok(count == params_count(params), "every element is checked: %d", count);
    ok(error < tolerance && kinks < count / 4, "gradients: largest error %.2g, %d of %d at a kink", error,
       kinks, count);

    /* a loss that grows 1% faster than its gradient says */
    p->wrong = 1.01;
    count = gradcheck(params, loss_of, p, step, EACH, 1, checks);
    error = worst(checks, count, &kinks);
    ok(error > 0.009 && error < 0.011, "a gradient that is 1%% too small: error %.3g", error);
    p->wrong = 1;

    /* a step so large that relus switch everywhere */
    count = gradcheck(params, loss_of, p, 2, EACH, 1, checks);
    worst(checks, count, &kinks);
    ok(kinks > count / 4, "a step of 2: %d of %d at a kink", kinks, count);

    count = gradcheck(params, loss_of, p, step, 3, 1, checks);
    bool once = true, largest = true;
    for (int i = 0; i < count; i += 3) {
        const Param *param = checks[i].param;
        once &= checks[i].index != checks[i + 1].index && checks[i].index != checks[i + 2].index &&
                checks[i + 1].index != checks[i + 2].index;
        for (int64_t e = 0; e < tensor_count(&param->data); e++)
            largest &= fabs((double)real_at(&param->grad[0], e)) <= fabs(checks[i].analytic);
    }
    ok(count == 12 && once && largest, "3 of each: the largest gradient and two others");
    free(checks);
}

static void test_start(Device *device) {
    enum { WIDE = 4000 };
    Mlp *a = mlp_new(device, 100, WIDE, 50, 5), *b = mlp_new(device, 100, WIDE, 50, 6);
    double sum = 0;
    int64_t count = 100 * WIDE;
    for (int64_t i = 0; i < count; i++) sum += pow((double)real_at(&a->up_weight->data, i), 2);
    close_to(sum / (double)count * 100, 1, 0.01, "variance of up.weight x its rows");
    ok(!same_elements(&a->up_weight->data, &b->up_weight->data), "another seed, other weights");
    ok(params_matmul_count(&a->params) == 150 * WIDE && params_count(&a->params) == 151 * WIDE + 50,
       "counts");
    mlp_delete(a);
    mlp_delete(b);
}

int main(void) {
    Device *device = device_new_cpu(0);
    Problem p = problem_new(device);
    test_forward(device, &p);
    test_gradients(&p);
    test_start(device);
    tensor_free(&p.x);
    tensor_free(&p.target);
    mlp_delete(p.mlp);
    for (int c = 0; c < MEMORY_CLASSES; c++)
        ok(device->memory.now[c] == 0, "nothing left in %s", memory_class_names[c]);
    device_delete(device);
    return tap_done();
}
