#include "chapters/01_autograd/tour.h"

#include "common/run/machine.h"
#include "common/tensor/ops.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void print_memory(const MemoryUse *use) {
    printf("  %-14s %14s %14s\n", "memory", "bytes now", "at most");
    for (int c = 0; c < MEMORY_CLASSES; c++)
        printf("  %-14s %14" PRId64 " %14" PRId64 "\n", memory_class_names[c], use->now[c], use->peak[c]);
    printf("  %-14s %14s %14" PRId64 "\n", "all together", "", use->joint_peak);
}

static void print_tensor(const char *name, const Tensor *t) {
    real *values = tensor_to_host(t);
    printf("%s %s\n", name, shape_text(t->shape).text);
    for (int64_t r = 0; r < tensor_rows(t); r++) {
        for (int64_t c = 0; c < tensor_columns(t); c++)
            printf(" %5g", (double)values[r * tensor_columns(t) + c]);
        printf("\n");
    }
    free(values);
}

/* "linear        x (3, 2), w (2, 2), b (2)  ->  h (3, 2)" */
static void print_node(const Node *n) {
    char inputs[256] = "";
    for (int i = 0; i < NODE_INPUTS; i++)
        if (n->in[i])
            snprintf(inputs + strlen(inputs), sizeof inputs - strlen(inputs), "%s%s %s", *inputs ? ", " : "",
                     n->in[i]->name, shape_text(n->in[i]->shape).text);
    for (int i = 0; i < NODE_PARAMS; i++)
        if (n->param[i])
            snprintf(inputs + strlen(inputs), sizeof inputs - strlen(inputs), "; %s %s", n->param[i]->name,
                     shape_text(n->param[i]->data.shape).text);
    printf("%-14s %-32s -> %s %s\n", n->op->name, inputs, n->out->name, shape_text(n->out->shape).text);
}

/* Called by the tape after each backward step: shows the gradient that it made. */
static void show_backward(void *context, const Node *n, TapePhase phase) {
    (void)context;
    if (phase == TAPE_BACKWARD_INPUT)
        for (int i = 0; i < NODE_INPUTS; i++)
            if (n->in[i] && n->in[i]->grad) {
                printf("backward of %s towards its input: gradient of ", n->op->name);
                print_tensor(n->in[i]->name, n->in[i]->grad);
            }
    if (phase == TAPE_BACKWARD_PARAM)
        for (int i = 0; i < NODE_PARAMS; i++)
            if (n->param[i]) {
                printf("backward of %s towards its weights: gradient of ", n->op->name);
                print_tensor(n->param[i]->name, &n->param[i]->grad[0]);
            }
}

static Tensor tensor_of(Device *device, const char *name, Shape shape, const real *values) {
    Tensor t = tensor_new(device, MEMORY_ACTIVATIONS, name, TYPE_REAL, shape);
    tensor_write(&t, 0, tensor_count(&t), values);
    return t;
}

static Param *param_of(Params *params, const char *name, Shape shape, const real *values) {
    Param *p = params_add(params, name, shape);
    tensor_write(&p->data, 0, tensor_count(&p->data), values);
    return p;
}

void tour(const Config *config) {
    Device *device = machine_device(config);
    Params params = {.device = device};
    Param *w = param_of(&params, "w", SHAPE(2, 2), (real[]){1, -1, 2, 0});
    Param *b = param_of(&params, "b", SHAPE(2), (real[]){1, 2});
    Tensor x = tensor_of(device, "x", SHAPE(3, 2), (real[]){1, 2, 3, -1, 0, 1});
    Tensor target = tensor_of(device, "target", SHAPE(3, 2), (real[]){6, 3, 5, 1, 3, 2});
    Tensor one = tensor_of(device, "seed", SHAPE(1), (real[]){1});
    print_tensor("x", &x);
    print_tensor("w", &w->data);
    print_tensor("b", &b->data);

    Tape *tape = tape_new(device, true);
    Tensor *h = op_linear(tape, &x, w, b);
    Tensor *r = op_relu(tape, h);
    Tensor *y = op_add(tape, &x, r);
    Tensor *loss = op_squared_error(tape, y, &target);
    printf("\nforward\n");
    h->name = "h", r->name = "r", y->name = "y";
    print_tensor("h = x w + b", h);
    print_tensor("r = relu(h)", r);
    print_tensor("y = x + r", y);
    print_tensor("target", &target);
    printf("loss = the sum of (y - target)^2 = %g\n", tensor_scalar(loss));

    printf("\nthe tape: what was done, in order\n");
    for (int64_t i = 0; i < tape->node_count; i++) {
        printf("%2" PRId64 "  ", i);
        print_node(tape->nodes[i]);
    }
    printf("\nafter the forward the device holds\n");
    print_memory(&device->memory);

    printf("\nthe tape in reverse\n");
    tape->observer.done = show_backward;
    tape_backward(tape, loss, &one);
    printf("\nafter the backward the device holds\n");
    print_memory(&device->memory);

    tape_delete(tape);
    tensor_free(&one);
    tensor_free(&target);
    tensor_free(&x);
    params_free(&params);
    device_delete(device);
}
