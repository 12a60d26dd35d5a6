#include "chapters/03_performance/timed.h"

#include "common/base/interrupt.h"
#include "common/run/machine.h"

#include <stdlib.h>

Subject subject_new(const Config *config, Dataset *data) {
    Subject s = {.config = *config, .data = data, .device = machine_device(config)};
    s.model = model_new(s.device, &config->model, config->seed, &layers_serial);
    s.model->recompute = config->recompute;
    s.optimizer = optimizer_new(&s.model->params, config);
    return s;
}

void subject_free(Subject *s) {
    optimizer_delete(s->optimizer);
    model_delete(s->model);
    device_delete(s->device);
}

Timed timed_new(Subject *subject, int64_t micro_batch, int64_t microbatches) {
    Device *device = subject->device;
    return (Timed){
        .subject = subject,
        .micro_batch = micro_batch,
        .microbatches = microbatches,
        .tape = tape_new(device, true),
        .batch = batch_new(device, micro_batch * microbatches, subject->config.model.T),
        .numbers = step_numbers_new(device),
    };
}

void timed_free(Timed *t) {
    step_numbers_free(&t->numbers);
    batch_free(&t->batch);
    tape_delete(t->tape);
}

double timed_step(Timed *t) {
    const Config *c = &t->subject->config;
    Model *model = t->subject->model;
    Optimizer *optimizer = t->subject->optimizer;
    int64_t first = t->steps * t->micro_batch * t->microbatches;
    double began = now_seconds();
    profile_step_begin(t->profile, t->steps + 1);

    profile_phase(t->profile, PHASE_DATA);
    batch_load(&t->batch, t->subject->data, SPLIT_TRAIN, first);
    step_begin(&t->numbers, &t->batch, NULL);
    for (int64_t i = 0; i < t->microbatches; i++) {
        profile_phase(t->profile, PHASE_FORWARD);
        Batch part = batch_rows(&t->batch, i * t->micro_batch, t->micro_batch);
        Pass pass = {.training = true, .first_sample = first + i * t->micro_batch};
        tape_begin_microbatch(t->tape, i, t->microbatches);
        Tensor *x = model_embed(model, t->tape, &part.ids, &pass);
        x = model_blocks(model, t->tape, x, 0, model->config.L, &pass);
        Tensor *loss = model_loss(model, t->tape, x, &part.targets);
        step_add_loss(&t->numbers, loss);

        profile_phase(t->profile, PHASE_BACKWARD);
        tape_backward(t->tape, loss, &t->numbers.seed);
        tape_reset(t->tape);
    }
    profile_phase(t->profile, PHASE_CLIP);
    step_clip(&t->numbers, optimizer, &(NormGroups){0}, c->grad_clip);
    profile_phase(t->profile, PHASE_OPTIMIZER);
    optimizer_step(optimizer, schedule_lr(c, t->steps), &t->numbers.clip);
    step_start_read(&t->numbers, t->steps + 1, first);
    StepResult was = step_read(&t->numbers);
    t->loss = was.loss;
    t->norm = was.grad_norm;

    profile_step_end(t->profile);
    t->steps++;
    return now_seconds() - began;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double timed_median(Timed *t, double seconds) {
    enum { MOST = 100 };
    double taken[MOST], sum = 0;
    int count = 0;
    while (count == 0 || (count < MOST && sum < seconds && !interrupt_requested()))
        sum += taken[count++] = timed_step(t);
    qsort(taken, (size_t)count, sizeof *taken, ascending);
    return taken[count / 2];
}
