/* fsdp_plan: what a step of fully sharded training (chapters/07_fsdp) holds and sends, counted from the sizes of a model
 * and the order in which a pass uses its units; without the chapter's code. */
#ifndef FSDP_PLAN_H
#define FSDP_PLAN_H

#include "chapters/07_fsdp/fsdp.h"
#include "common/model/model.h"

#include <string.h>

enum { MOST_UNITS = 16, BLOCK = 1024, ELEMENT = sizeof(real) };

typedef struct {
    char name[16];
    int params, uses;
    int64_t counts[16], first[16]; /* of each parameter: elements, and where it begins in the flat array */
    int64_t shard;                 /* elements of a device's share */
    bool kept;
} PlannedUnit;

typedef struct {
    int devices, units;
    PlannedUnit unit[MOST_UNITS];
    int order[3 * MOST_UNITS], positions; /* units of a pass: forward, then backward */
    int head_at;                          /* the position at which the loss is */
    int grads[MOST_UNITS], grad_at[MOST_UNITS],
        grad_count; /* units as backward forms them, and at which position */
} Plan;

static inline int unit_named(const Plan *plan, const char *name) {
    for (int u = 0; u < plan->units; u++)
        if (!strcmp(plan->unit[u].name, name)) return u;
    return -1;
}

/* "blocks.2" of blocks 0 to 9, or what is before the dot. */
static inline void plan_param(Plan *plan, const Param *p) {
    char name[16];
    size_t length = !strncmp(p->name, "blocks.", 7) ? 8 : strcspn(p->name, ".");
    snprintf(name, sizeof name, "%.*s", (int)length, p->name);
    if (unit_named(plan, name) < 0) {
        PlannedUnit *new = &plan->unit[plan->units++];
        *new = (PlannedUnit){.uses = p->uses};
        memcpy(new->name, name, sizeof name);
    }
    PlannedUnit *u = &plan->unit[unit_named(plan, name)];
    u->counts[u->params] = tensor_count(&p->data);
    u->first[u->params++] = u->shard;
    u->shard += (tensor_count(&p->data) + BLOCK - 1) / BLOCK * BLOCK;
}

static inline void visit(Plan *plan, const char *name) {
    int unit = unit_named(plan, name);
    if (unit >= 0) plan->order[plan->positions++] = unit;
}

static inline void visit_block(Plan *plan, int64_t l) {
    char name[16];
    snprintf(name, sizeof name, "blocks.%d", (int)l);
    visit(plan, name);
}

static inline void forms(Plan *plan, const char *name, int at) {
    if (unit_named(plan, name) < 0) return;
    plan->grad_at[plan->grad_count] = at;
    plan->grads[plan->grad_count++] = unit_named(plan, name);
}

static inline Plan plan_of(const Config *config, int devices, const char *keep) {
    const ModelConfig *m = &config->model;
    Plan plan = {.devices = devices};
    Model *model = model_new(NULL, m, config->seed, &layers_serial);
    for (int i = 0; i < model->params.count; i++) plan_param(&plan, model->params.items[i]);
    model_delete(model);
    for (int u = 0; u < plan.units; u++) {
        PlannedUnit *unit = &plan.unit[u];
        unit->shard = (unit->shard / BLOCK + devices - 1) / devices * BLOCK;
        unit->kept = keep && strstr(keep, unit->name);
    }
    const char *head = m->tied ? "token" : "head";
    visit(&plan, "token");
    visit(&plan, "position");
    for (int64_t l = 0; l < m->L; l++) visit_block(&plan, l);
    visit(&plan, "norm_final");
    plan.head_at = plan.positions;
    visit(&plan, head);
    forms(&plan, head, plan.head_at);
    visit(&plan, "norm_final");
    forms(&plan, "norm_final", plan.positions - 1);
    for (int64_t l = m->L; l-- > 0;) {
        visit_block(&plan, l);
        forms(&plan, plan.unit[plan.order[plan.positions - 1]].name, plan.positions - 1);
    }
    forms(&plan, "token", plan.positions - 1); /* of the look-up: nobody asks for the table again */
    forms(&plan, "position", plan.positions - 1);
    return plan;
}

static inline int64_t whole(const Plan *plan, int unit) { return plan->unit[unit].shard * plan->devices; }

/* ---- what is held ---- */

/* Weights that are gathered at a position of a pass which knows the order: those of the next units, and those that stay
 * (again: since another pass before the update). */
static inline int64_t gathered_at(const Plan *plan, int at, int prefetch, bool again) {
    bool here[MOST_UNITS] = {false};
    for (int i = 0; i < plan->positions; i++) {
        bool kept = plan->unit[plan->order[i]].kept;
        here[plan->order[i]] |= i <= at + prefetch ? i >= at || kept : kept && again;
    }
    /* the look-up adds rows of both tables in one go */
    if (at == 1 && unit_named(plan, "position") >= 0) here[unit_named(plan, "token")] = true;
    int64_t sum = 0;
    for (int u = 0; u < plan->units; u++) sum += here[u] ? whole(plan, u) : 0;
    return sum;
}

/* Elements of communication memory at its most: whole units of gathered weights; in stages 2 and 3 the gradients of
 * the unit that is being formed, and those of the one before it, which are being reduced (behind the first micro-batch: into
 * a shard of their own). Those of the last unit are while the next micro-batch's forward runs. */
static inline int64_t most_under_way(const Plan *plan, const Config *c, const FsdpOptions *o) {
    bool weights = o->stage == 3, gradients = o->stage >= 2 && !o->reduce_once;
    bool again = c->num_microbatches > 1;
    int last = plan->grads[plan->grad_count - 1];
    int64_t most = 0, reducing = 0;
    if (gradients && o->overlap && again)
        reducing = whole(plan, last) + (c->num_microbatches > 2 ? plan->unit[last].shard : 0);
    for (int at = 0; at < plan->positions && weights; at++)
        most = max64(most, gathered_at(plan, at, o->prefetch, again) + (at <= plan->head_at ? reducing : 0));
    for (int k = 0; k < plan->grad_count && gradients; k++) {
        int unit = plan->grads[k];
        int64_t held = weights ? gathered_at(plan, plan->grad_at[k], o->prefetch, again) : 0;
        int64_t sum = again ? plan->unit[unit].shard : 0;
        most = max64(most, held + reducing + whole(plan, unit)); /* it is formed */
        most = max64(most, held + whole(plan, unit) + sum);      /* and is on its way */
        reducing = o->overlap ? whole(plan, unit) + sum : 0;
    }
    return most;
}

/* Whole gradients of a later micro-batch are formed beside the sums, those of one op at a time: of a product, of a norm,
 * of the head with its bias. */
static inline int64_t most_formed(const Plan *plan) {
    int64_t most = 0;
    for (int u = 0; u < plan->units; u++) {
        const PlannedUnit *unit = &plan->unit[u];
        int64_t all = 0;
        for (int i = 0; i < unit->params; i++) {
            all += unit->counts[i];
            most = max64(most, unit->counts[i]);
        }
        if (!strcmp(unit->name, "head")) most = max64(most, all);
    }
    return most;
}

/* The elements of this device's shard that are some parameter's. */
static inline int64_t own_elements(const Plan *plan, int rank) {
    int64_t sum = 0;
    for (int u = 0; u < plan->units; u++) {
        const PlannedUnit *unit = &plan->unit[u];
        int64_t from = rank * unit->shard, to = from + unit->shard;
        for (int i = 0; i < unit->params; i++)
            sum += max64(0, min64(to, unit->first[i] + unit->counts[i]) - max64(from, unit->first[i]));
    }
    return sum;
}

/* ---- what is sent ---- */

/* How often a unit is gathered in a pass: each time the pass comes to it, but not where it has been needed, or was going to
 * be, all along since the time before. prefetch -1: in the first pass of all, which does not know what comes. */
static inline int gathers_of(const Plan *plan, int unit, int prefetch) {
    int count = 0, last = -1;
    for (int at = 0; at < plan->positions; at++) {
        if (plan->order[at] != unit) continue;
        count += last < 0 || at - last > prefetch + 1;
        last = at;
    }
    return count;
}

/* Bytes that all devices send in a step: those of a ring. n devices cut the state, of which there are `copies`. */
typedef struct {
    double all_reduce, all_gather, reduce_scatter;
} Sent;

static inline Sent sent_of(const Plan *plan, const Config *c, const FsdpOptions *o, int copies,
                           bool first_step) {
    double n = plan->devices, k = copies, m = (double)c->num_microbatches, blocks = 0;
    bool each = o->stage >= 2 && !o->reduce_once;
    Sent sent = {0};
    for (int u = 0; u < plan->units; u++) {
        const PlannedUnit *unit = &plan->unit[u];
        double S = (double)whole(plan, u), uses = unit->uses;
        double gathers = m * gathers_of(plan, u, o->prefetch);
        if (first_step) gathers += gathers_of(plan, u, -1) - gathers_of(plan, u, o->prefetch);
        if (unit->kept) gathers = 1;
        for (int i = 0; i < unit->params; i++) blocks += (double)ceil_div(unit->counts[i], BLOCK);
        if (o->stage == 0)
            sent.all_reduce += uses * k * 2 * (n - 1) * S + uses * n * 2 * (k - 1) * S;
        else
            sent.all_reduce += uses * n * 2 * (k - 1) * S / n; /* of shards, between copies */
        if (o->stage > 0) sent.reduce_scatter += uses * (each ? m : 1) * k * (n - 1) * S;
        if (o->stage > 0) sent.all_gather += (o->stage == 3 ? gathers : 1) * k * (n - 1) * S;
    }
    sent.all_reduce *= ELEMENT;
    sent.all_gather *= ELEMENT;
    sent.reduce_scatter *= ELEMENT;
    if (o->stage > 0) sent.all_reduce += k * 2 * (n - 1) * blocks * sizeof(double); /* the norm */
    sent.all_reduce += 2 * 2 * (n * k - 1) * sizeof(double); /* tokens that count, the loss */
    return sent;
}

#endif
