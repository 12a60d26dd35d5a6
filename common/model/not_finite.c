#include "common/model/not_finite.h"

#include <math.h>

static bool finite(const Tensor *t) {
    if (!t || !t->data || t->type == TYPE_I32) return true;
    for (int64_t i = 0; i < tensor_count(t); i++)
        if (!isfinite(t->type == TYPE_F64 ? ((double *)t->data)[i] : (double)((float *)t->data)[i]))
            return false;
    return true;
}

static void look(void *context, const Node *n, TapePhase phase) {
    static const char *const phases[] = {"forward", "backward towards the input",
                                         "backward towards the weights"};
    char **found = context;
    bool fine = phase == TAPE_FORWARD ? finite(n->out) : true;
    for (int i = 0; i < NODE_INPUTS && phase == TAPE_BACKWARD_INPUT; i++)
        fine &= !n->in[i] || finite(n->in[i]->grad);
    for (int i = 0; i < NODE_PARAMS && phase == TAPE_BACKWARD_PARAM; i++)
        fine &= !n->param[i] || finite(&n->param[i]->grad[n->use[i]]);
    if (*found || fine) return;
    const char *name = n->param[0] ? n->param[0]->name : n->out->name;
    *found = xprintf("%s of %s '%s'", phases[phase], n->op->name, name);
}

TapeObserver not_finite_observer(char **found) { return (TapeObserver){look, found}; }
