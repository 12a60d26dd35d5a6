/* staged: what the tests of pipelines share: one device of a mesh of data and pipe, trained for some steps, and what its parts
 * are as a whole. */
#ifndef STAGED_TESTS_H
#define STAGED_TESTS_H

#include "chapters/09_pipeline_parallel/staged.h"
#include "common/model/whole.h"
#include "tests/records.h"

/* A schedule of this kind, proven. */
static inline Plan *plan_of_kind(ScheduleKind kind, int stages, int virtual_stages, int64_t microbatches) {
    char *hint, *problem = schedule_problem(kind, stages, virtual_stages, microbatches, &hint);
    CHECK(!problem, hint, "%s", problem);
    Plan *plan = plan_new(schedule_new(kind, stages, virtual_stages, microbatches), &problem, &hint);
    CHECK(plan, hint, "%s", problem);
    return plan;
}

static inline void plan_and_schedule_delete(Plan *plan) {
    Schedule *schedule = (Schedule *)(uintptr_t)plan->schedule;
    plan_delete(plan);
    schedule_delete(schedule);
}

/* Gradients or parameters of the whole model, from all devices, in the order of one that holds all. */
static inline void keep_whole(const Staged *s, bool gradients, real *to) {
    Parts parts = staged_parts(s);
    const Params *held = parts.optimizer->params;
    Tensor **tensors = xcalloc((size_t)max64(held->count, 1), sizeof *tensors);
    for (int i = 0; i < held->count; i++)
        tensors[i] = gradients ? &held->items[i]->grad[0] : &held->items[i]->data;
    Holding holding = {parts.comm, held, tensors, parts.copy};
    for (int i = 0; i < s->whole->params.count; i++) {
        const Param *p = s->whole->params.items[i];
        whole_gather(&holding, p->name, p->data.shape, to);
        to += tensor_count(&p->data);
    }
    free(tensors);
}

static inline Record train_staged(Staged *s, int steps) {
    Record record = record_new(&s->whole->params, steps);
    for (int step = 0; step < steps; step++) {
        MetricsRow row;
        staged_step(s, step, &row);
        record.losses[step] = row.loss;
        record.norms[step] = row.grad_norm;
        if (step == 0) keep_whole(s, true, record.gradients);
    }
    keep_whole(s, false, record.parameters);
    return record;
}

#endif
