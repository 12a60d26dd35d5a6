/* The op in which a number that is not finite appears first: among passes that are under way at once, on tapes of their own,
 * the one to which one device would have come first; in each of the phases.
 *
 * TEST variants: float double asan */
#define _GNU_SOURCE
#include "common/cpu/device_cpu.h"
#include "common/model/not_finite.h"
#include "common/tensor/kernels.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"
#include "tests/tensors.h"

enum { ROWS = 3, COLUMNS = 4 };

typedef struct {
    Device *device;
    Params params;
    Param *weight;
    Tensor good, bad, seed;
} Bench;

static Tensor filled(Device *device, const char *name, real value) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, name, TYPE_REAL, SHAPE(ROWS, COLUMNS));
    fill_constant(&t, value);
    return t;
}

static Bench *bench_new(void) {
    Bench *b = xcalloc(1, sizeof *b);
    b->device = device_new_cpu(0);
    b->params.device = b->device;
    b->weight = params_add(&b->params, "weight", SHAPE(COLUMNS, COLUMNS));
    fill_constant(&b->weight->data, 1);
    b->good = filled(b->device, "good", 2);
    b->bad = filled(b->device, "bad", 2);
    set_real_at(&b->bad, 5, (real)INFINITY);
    b->seed = filled(b->device, "seed", 1);
    return b;
}

static void bench_delete(Bench *b) {
    params_free(&b->params);
    tensor_free(&b->good);
    tensor_free(&b->bad);
    tensor_free(&b->seed);
    device_delete(b->device);
    free(b);
}

static bool is_found(const NotFinite *found, int64_t at, const char *what) {
    return found->op && found->at == at && !strcmp(found->op, what);
}

static void test_phases(void) {
    Bench *b = bench_new();
    NotFinite found = {0};
    Tape *tape = tape_new(b->device, true);
    tape->observer = not_finite_observer(&found);
    Tensor *x = op_add(tape, &b->good, &b->good), *y = op_linear(tape, x, b->weight, NULL);
    tape_backward(tape, op_gelu(tape, y), &b->seed);
    ok(!found.op, "nothing where all is finite");
    tape_reset(tape);

    op_linear(tape, &b->bad, b->weight, NULL);
    ok(is_found(&found, 0, "forward of linear 'weight'"), "forward: %s", found.op);
    free(found.op);
    tape_reset(tape);

    found = (NotFinite){0};
    b->good.grad = NULL;
    x = op_add(tape, &b->good, &b->good);
    y = op_linear(tape, x, b->weight, NULL);
    tape_backward(tape, op_add(tape, y, y), &b->bad);
    ok(is_found(&found, 0, "backward towards the input of add 'add'"), "backward: %s", found.op);
    free(found.op);
    tape_reset(tape);

    found = (NotFinite){0};
    b->good.grad = NULL;
    set_real_at(&b->good, 0, (real)1e30 * (sizeof(real) == 8 ? (real)1e270 : 1));
    set_real_at(&b->seed, 0, (real)1e30 * (sizeof(real) == 8 ? (real)1e270 : 1));
    fill_constant(&b->weight->data, 0);
    tape_backward(tape, op_linear(tape, &b->good, b->weight, NULL), &b->seed);
    ok(is_found(&found, 0, "backward towards the weights of linear 'weight'"), "weights: %s", found.op);
    free(found.op);
    tape_delete(tape);
    bench_delete(b);
}

static void test_earliest(void) {
    Bench *b = bench_new();
    NotFinite found = {0};
    Tape *first = tape_new(b->device, true), *second = tape_new(b->device, true);
    first->observer = second->observer = not_finite_observer(&found);
    found.now = 5;
    op_gelu(second, &b->bad);
    ok(found.op && found.at == 5, "a later pass, which runs first");
    found.now = 3;
    op_linear(first, &b->bad, b->weight, NULL);
    ok(is_found(&found, 3, "forward of linear 'weight'"), "an earlier one: %s", found.op);
    op_gelu(first, &b->bad);
    found.now = 4;
    op_gelu(second, &b->bad);
    ok(is_found(&found, 3, "forward of linear 'weight'"), "the first op of the earliest stays: %s", found.op);
    free(found.op);
    tape_delete(first);
    tape_delete(second);
    bench_delete(b);
}

static void fail_with(void *argument) {
    not_finite_fail(argument, &(StepResult){.step = 7, .loss = NAN, .grad_norm = INFINITY}, NULL);
}

int main(void) {
    NotFinite found = {.op = xstrdup("forward of linear 'weight'")}, nothing = {0};
    Exit named = expect_exit(fail_with, &found), unknown = expect_exit(fail_with, &nothing);
    free(found.op);
    ok(refused(&named, 1,
               "step 7: the loss is nan and the norm of its gradient inf; first in the forward of "
               "linear 'weight' (hint: "),
       "%s", named.text);
    ok(refused(&unknown, 1, "first in the sum over micro-batches"), "%s", unknown.text);
    test_phases();
    test_earliest();
    return tap_done();
}
