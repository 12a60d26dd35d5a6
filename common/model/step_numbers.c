#include "common/model/step_numbers.h"

#include "common/tensor/kernels.h"

StepNumbers step_numbers_new(Device *device) {
    StepNumbers n = {.memory = tensor_new(device, MEMORY_ACTIVATIONS, "numbers of the step", TYPE_F64,
                                          SHAPE(STEP_NUMBERS))};
    device->kernels->zero(&device->queue, &n.memory);
    /* loss and norm are neighbours: they are read together */
    Tensor *views[STEP_NUMBERS] = {&n.loss, &n.norm, &n.clip, &n.tokens, &n.squares, &n.seed};
    for (int i = 0; i < STEP_NUMBERS; i++) *views[i] = tensor_view(&n.memory, i, SHAPE(1));
    n.seed.type = TYPE_REAL;
    for (int i = 0; i < COUNT_OF(n.reads); i++)
        n.reads[i].loss_and_norm = device_pin(device, 2 * sizeof(double));
    return n;
}

void step_numbers_free(StepNumbers *n) {
    while (n->done < n->started) step_read(n);
    for (int i = 0; i < COUNT_OF(n->reads); i++) device_unpin(n->memory.device, n->reads[i].loss_and_norm);
    tensor_free(&n->memory);
}

static void sum_over(Comm *comm, Tensor *number) {
    comm_all_reduce(comm, &number->device->queue, number->data, number->data, 1, TYPE_F64, REDUCE_SUM);
}

static void set_seed(StepNumbers *n) {
    Device *device = n->memory.device;
    device->kernels->reciprocal(&device->queue, &n->tokens, &n->seed);
}

void step_begin(StepNumbers *n, Batch *batch, Comm *comm) {
    Device *device = n->memory.device;
    device->kernels->zero(&device->queue, &n->loss);
    if (!batch) return;
    batch_write_tokens(batch, &n->tokens);
    if (comm) sum_over(comm, &n->tokens);
    set_seed(n);
}

void step_set_tokens(StepNumbers *n, double tokens) {
    tensor_write(&n->tokens, 0, 1, &tokens);
    set_seed(n);
}

void step_add_loss(StepNumbers *n, const Tensor *sums) {
    Device *device = n->memory.device;
    device->kernels->add_means(&device->queue, sums, &n->tokens, &n->loss);
}

void step_sum_loss(StepNumbers *n, Comm *comm) { sum_over(comm, &n->loss); }

void step_clip(StepNumbers *n, Optimizer *optimizer, const NormGroups *groups, double limit) {
    Device *device = n->memory.device;
    optimizer_squares(optimizer, groups, &n->squares);
    device->kernels->clip(&device->queue, &n->squares, &n->loss, limit, &n->norm, &n->clip);
}

void step_start_read(StepNumbers *n, int64_t step, int64_t first_window) {
    Device *device = n->memory.device;
    ASSERT(n->started - n->done < COUNT_OF(n->reads));
    int place = (int)(n->started++ % COUNT_OF(n->reads));
    tensor_start_read(&n->memory, 0, 2, n->reads[place].loss_and_norm);
    n->reads[place].arrived = device_point(device);
    n->reads[place].result = (StepResult){step, first_window, 0, 0};
}

StepResult step_read(StepNumbers *n) {
    ASSERT(n->done < n->started);
    int place = (int)(n->done++ % COUNT_OF(n->reads));
    device_reach(n->memory.device, n->reads[place].arrived);
    StepResult was = n->reads[place].result;
    was.loss = n->reads[place].loss_and_norm[0];
    was.grad_norm = n->reads[place].loss_and_norm[1];
    return was;
}
