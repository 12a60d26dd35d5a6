/* Units of fully sharded training: how parameters fall into them by their names; one of them alone, whose gradients are
 * formed again while those before are on their way; parameters that had values already; units that do not exist, and
 * micro-batches that do not wait for each other.
 *
 * TEST np: 3, all: 1 2 8
 * TEST variants: double */
#define _GNU_SOURCE
#include "chapters/07_fsdp/fsdp.h"
#include "common/cpu/device_cpu.h"
#include "common/model/mlp.h"
#include "common/model/whole.h"
#include "tests/expect_exit.h"
#include "tests/ranks.h"
#include "tests/tensors.h"

static Comm *world;

enum { INPUTS = 5, HIDDEN = 700, OUTPUTS = 3, ROWS = 4, MICROBATCHES = 3 };

/* ---- names ---- */

static void add_named(Params *params, const char *name) { params_add(params, name, SHAPE(3)); }

static void keep_unknown(void *argument) {
    Params params = {.device = device_new_cpu(0)};
    add_named(&params, "token.weight");
    add_named(&params, "blocks.0.norm1.weight");
    fsdp_new(&params, &(FsdpOptions){.stage = 3, .shards = comm_self(), .keep = argument});
}

/* Of a model of two blocks this device has one. */
static void keep_of_another(void *argument) {
    Params part = {.device = device_new_cpu(0)}, whole = {.device = part.device};
    add_named(&part, "blocks.0.norm1.weight");
    add_named(&whole, "blocks.0.norm1.weight");
    add_named(&whole, "blocks.1.norm1.weight");
    fsdp_new(&part, &(FsdpOptions){.stage = 3, .shards = comm_self(), .keep = argument, .whole = &whole});
    exit(0);
}

/* As a schedule would that runs several forwards, whose head forms gradients, before the first backward. */
static void form_two(void *argument) {
    (void)argument;
    Params params = {.device = device_new_cpu(0)};
    add_named(&params, "head.weight");
    fsdp_new(&params, &(FsdpOptions){.stage = 2, .shards = comm_self()});
    param_grad_begin(params.items[0], 0, (Microbatch){0, 2});
    param_grad_begin(params.items[0], 0, (Microbatch){1, 2});
}

static void test_names(void) {
    static const char *const names[] = {"token.weight",
                                        "blocks.0.norm1.weight",
                                        "blocks.0.qkv.bias",
                                        "blocks.1.norm1.weight",
                                        "blocks.10.qkv.weight",
                                        "blocks.10.qkv.bias",
                                        "head.weight",
                                        "head.bias",
                                        "scale"};
    static const char *const units[] = {"token", "blocks.0", "blocks.1", "blocks.10", "head", "scale"};
    Device *device = device_new_cpu(0);
    Params params = {.device = device};
    for (int i = 0; i < COUNT_OF(names); i++) add_named(&params, names[i]);
    Fsdp *f = fsdp_new(&params, &(FsdpOptions){.stage = 3, .shards = world});
    bool same = fsdp_units(f) == COUNT_OF(units);
    int64_t elements = 0;
    for (int u = 0; u < COUNT_OF(units) && same; u++) {
        same &= !strcmp(fsdp_unit(f, u).name, units[u]);
        elements += fsdp_unit(f, u).elements;
    }
    ok_on_all(world, same && elements == 3 * COUNT_OF(names),
              "parameters whose names begin alike are a unit");
    fsdp_delete(f);
    params_free(&params);
    device_delete(device);
}

/* ---- a network that is one unit ---- */

/* The gradient of all devices, by micro-batches of this device's own rows. f NULL: this device's alone. */
static void run(Mlp *m, Fsdp *f, Device *device, int microbatch, int microbatches) {
    Tape *tape = tape_new(device, true);
    Tensor x = tensor_new(device, MEMORY_ACTIVATIONS, "x", TYPE_REAL, SHAPE(ROWS, INPUTS));
    Tensor target = tensor_new(device, MEMORY_ACTIVATIONS, "target", TYPE_REAL, SHAPE(ROWS, OUTPUTS));
    Tensor one = tensor_new(device, MEMORY_ACTIVATIONS, "one", TYPE_REAL, SHAPE(1));
    x.constant = target.constant = true;
    tensor_set_scalar(&one, 1);
    for (int i = microbatch; i < microbatch + microbatches; i++) {
        uint64_t stream = (uint64_t)(world->rank * MICROBATCHES + i);
        fill_normal(&x, 1, stream, 1);
        fill_normal(&target, 2, stream, 1);
        if (f) fsdp_begin(f);
        tape_begin_microbatch(tape, i - microbatch, microbatches);
        tape_backward(tape, op_squared_error(tape, mlp_forward(m, tape, &x), &target), &one);
        tape_reset(tape);
    }
    tensor_free(&x);
    tensor_free(&target);
    tensor_free(&one);
    tape_delete(tape);
}

/* All of the network's parameters get names of one unit; the biases, and with them all, get values. */
static Mlp *network(Device *device) {
    Mlp *m = mlp_new(device, INPUTS, HIDDEN, OUTPUTS, 3);
    fill_normal(&m->up_bias->data, 4, 0, 0.3);
    fill_normal(&m->down_bias->data, 5, 0, 0.3);
    for (int i = 0; i < m->params.count; i++) {
        char *name = xprintf("all.%s", m->params.items[i]->name);
        free((char *)(uintptr_t)m->params.items[i]->name);
        m->params.items[i]->name = m->params.items[i]->data.name = name;
    }
    return m;
}

/* Parameter i whole, or its gradient, from the shards. */
static real *whole(const Params *mine, const Param *p, Shape shape, bool gradient, bool copy) {
    Tensor **tensors = xcalloc((size_t)mine->count + 1, sizeof *tensors);
    for (int k = 0; k < mine->count; k++)
        tensors[k] = gradient ? &mine->items[k]->grad[0] : &mine->items[k]->data;
    real *to = xmalloc((size_t)shape_count(shape) * sizeof *to);
    whole_gather(&(Holding){world, mine, tensors, copy}, p->name, shape, to);
    free(tensors);
    return to;
}

/* Over the micro-batches the sums over the devices, in that order, on the host. */
static real **by_hand(void) {
    Device *device = device_new_cpu(0);
    Mlp *m = network(device);
    real **sums = xcalloc((size_t)m->params.count, sizeof *sums);
    for (int i = 0; i < MICROBATCHES; i++) {
        run(m, NULL, device, i, 1);
        for (int k = 0; k < m->params.count; k++) {
            const Tensor *grad = &m->params.items[k]->grad[0];
            int64_t count = tensor_count(grad);
            real *mine = tensor_to_host(grad), *sum = xmalloc((size_t)count * sizeof *sum);
            comm_all_reduce(world, NULL, mine, sum, count, TYPE_REAL, REDUCE_SUM);
            for (int64_t e = 0; e < count && sums[k]; e++) sum[e] = sums[k][e] + sum[e];
            free(mine);
            free(sums[k]);
            sums[k] = sum;
        }
    }
    mlp_delete(m);
    device_delete(device);
    return sums;
}

static void test_one_unit(void) {
    real **want = by_hand();
    for (int way = 0; way < 8; way++) {
        FsdpOptions options = {
            .stage = 2 + (way & 1), .overlap = way & 2, .prefetch = way & 4, .shards = world};
        Device *device = device_new_cpu(0);
        Mlp *m = network(device), *unsharded = network(device);
        Fsdp *f = fsdp_new(&m->params, &options);
        run(m, f, device, 0, MICROBATCHES);
        fsdp_finish(f);
        bool same = fsdp_units(f) == 1, kept = true;
        for (int i = 0; i < m->params.count; i++) {
            const Tensor *was = &unsharded->params.items[i]->data;
            size_t bytes = (size_t)tensor_bytes(was);
            real *gradient = whole(fsdp_params(f), m->params.items[i], was->shape, true, false);
            real *values = whole(fsdp_params(f), m->params.items[i], was->shape, false, false);
            void *old = tensor_to_host(was);
            same &= memcmp(gradient, want[i], bytes) == 0;
            kept &= memcmp(values, old, bytes) == 0;
            free(gradient);
            free(values);
            free(old);
        }
        ok_on_all(world, same,
                  "one unit, stage %d%s%s: the gradients of %d micro-batches have the bits of their sum",
                  options.stage, options.overlap ? ", overlap" : "", options.prefetch ? ", prefetch" : "",
                  MICROBATCHES);
        ok_on_all(world, kept, "and the weights are what they were before they were sharded");
        fsdp_delete(f);
        mlp_delete(m);
        mlp_delete(unsharded);
        device_delete(device);
    }
    for (int i = 0; i < 4; i++) free(want[i]);
    free(want);
}

int main(void) {
    static char name[] = "token,blocks.1", none[] = "blocks.2";
    /* before there are ranks: a child of this process meets the error */
    Exit e = expect_exit(keep_unknown, name), two = expect_exit(form_two, NULL),
         other = expect_exit(keep_of_another, name + 6), nowhere = expect_exit(keep_of_another, none);
    world = ranks_world();
    ok_on_all(
        world,
        refused(&e, 2, "there is no unit 'blocks.1' to keep gathered (hint: the units are token, blocks.0)"),
        "%s", e.text);
    ok_on_all(world, other.status == 0, "a unit of another device may be named: %s", other.text);
    ok_on_all(world, refused(&nowhere, 2, "(hint: the units are blocks.0, blocks.1)"), "%s", nowhere.text);
    ok_on_all(world,
              refused(&two, 1,
                      "the gradient of 'head.weight' for micro-batch 1 begins before that for "
                      "micro-batch 0 has been reduced (hint: with --reduce-once they may come in any order)"),
              "%s", two.text);
    test_names();
    test_one_unit();
    comm_close(world);
    return tap_done();
}
