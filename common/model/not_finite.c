#include "common/model/not_finite.h"

#include <math.h>
#include <stdlib.h>

static bool is_finite(const Tensor *t) {
    if (!t || !t->data || t->type == TYPE_I32) return true;
    int64_t count = tensor_count(t);
    void *elements = xmalloc((size_t)tensor_bytes(t));
    bool finite = true;
    tensor_read(t, 0, count, elements);
    for (int64_t i = 0; finite && i < count; i++)
        finite = isfinite(t->type == TYPE_F64 ? ((double *)elements)[i] : (double)((float *)elements)[i]);
    free(elements);
    return finite;
}

static void look(void *context, const Node *n, TapePhase phase) {
    static const char *const phases[] = {"forward", "backward towards the input",
                                         "backward towards the weights"};
    char **found = context;
    bool fine = phase == TAPE_FORWARD ? is_finite(n->out) : true;
    for (int i = 0; i < NODE_INPUTS && phase == TAPE_BACKWARD_INPUT; i++)
        fine &= !n->in[i] || is_finite(n->in[i]->grad);
    for (int i = 0; i < NODE_PARAMS && phase == TAPE_BACKWARD_PARAM; i++)
        fine &= !n->param[i] || is_finite(&n->param[i]->grad[n->use[i]]);
    if (*found || fine) return;
    const char *name = n->param[0] ? n->param[0]->name : n->out->name;
    *found = xprintf("%s of %s '%s'", phases[phase], n->op->name, name);
}

TapeObserver not_finite_observer(char **found) { return (TapeObserver){look, found}; }
