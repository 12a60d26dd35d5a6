#include "common/model/not_finite.h"

#include "common/base/bf16.h"

#include <math.h>
#include <stdlib.h>

static double number_at(ElementType type, const void *elements, int64_t i) {
    if (type == TYPE_F64) return ((const double *)elements)[i];
    return (double)(type == TYPE_BF16 ? bf16_to_float(((const Bf16 *)elements)[i])
                                      : ((const float *)elements)[i]);
}

static bool is_finite(const Tensor *t) {
    if (!t || !t->data || t->arriving || t->type == TYPE_I32) return true;
    int64_t count = tensor_count(t);
    void *elements = xmalloc((size_t)tensor_bytes(t));
    bool finite = true;
    tensor_read(t, 0, count, elements);
    for (int64_t i = 0; finite && i < count; i++) finite = isfinite(number_at(t->type, elements, i));
    free(elements);
    return finite;
}

static void look(void *context, const Node *n, TapePhase phase) {
    static const char *const phases[] = {"forward", "backward towards the input",
                                         "backward towards the weights"};
    NotFinite *found = context;
    bool fine = phase == TAPE_FORWARD ? is_finite(n->out) : true;
    for (int i = 0; i < NODE_INPUTS && phase == TAPE_BACKWARD_INPUT; i++)
        fine &= !n->in[i] || is_finite(n->in[i]->grad);
    for (int i = 0; i < NODE_PARAMS && phase == TAPE_BACKWARD_PARAM; i++)
        fine &= !n->param[i] || is_finite(&n->param[i]->grad[n->use[i]]);
    if (fine || (found->op && found->at <= found->now)) return;
    const char *name = n->param[0] ? n->param[0]->name : n->out->name;
    free(found->op);
    found->at = found->now;
    found->op = xprintf("%s of %s '%s'", phases[phase], n->op->name, name);
}

TapeObserver not_finite_observer(NotFinite *found) { return (TapeObserver){.done = look, .context = found}; }

void not_finite_prepare(Model *model) {
    model->recompute = false;  /* every op in sight ... */
    model->device->budget = 0; /* ... which takes more memory than the step did */
    Params *params = &model->params;
    params->on_grad_ready = NULL;
    params->keeper.grad_begin = NULL;
    params->keeper.grad_end = NULL;
}

/* All but one end here, with status 0: mpiexec kills those who are left when one ends with another, and returns the status
 * of the one that speaks. */
static void leave_to_first(Comm *comm, const NotFinite *found) {
    double mine = found->op ? (double)found->at : INFINITY, *all = xmalloc((size_t)comm->size * sizeof *all);
    comm_all_gather(comm, NULL, &mine, all, 1, TYPE_F64);
    int first = 0;
    for (int r = 1; r < comm->size; r++)
        if (all[r] < all[first]) first = r;
    bool speaks = comm->rank == first;
    free(all);
    while (comm->parent) comm = comm->parent;
    comm_close(comm);
    if (!speaks) exit(0);
}

bool step_is_finite(const StepResult *was) { return isfinite(was->loss) && isfinite(was->grad_norm); }

void not_finite_fail(const NotFinite *found, const StepResult *was, Comm *comm) {
    if (comm) leave_to_first(comm, found);
    fail(1, "try a smaller --learning-rate, or --grad-clip 1",
         "step %lld: the loss is %g and the norm of its gradient %g; first in the %s", (long long)was->step,
         fabs(was->loss), fabs(was->grad_norm), found->op ? found->op : "sum over micro-batches");
}
