#include "chapters/09_pipeline_parallel/pp_forecast.h"

#include "chapters/07_fsdp/forecast.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- the cut ---- */

/* "embedding, 0-1 | 4", of the chunks of a stage. */
static void chunks_text(const Staged *s, int stage, Str *text) {
    const Schedule *schedule = s->plan->schedule;
    for (int c = 0; c < schedule->chunks; c++) {
        if (schedule->stage_of[c] != stage) continue;
        const ModelPart *part = &s->parts[c];
        int64_t last = part->to - 1;
        if (text->count) str_printf(text, " | ");
        if (part->embedding) str_printf(text, "embedding%s", part->from <= last || part->head ? ", " : "");
        if (part->from <= last) str_printf(text, "%" PRId64, part->from);
        if (part->from < last) str_printf(text, "-%" PRId64, last);
        if (part->head) str_printf(text, "%shead", part->from <= last ? ", " : "");
        if (part->from > last && !part->embedding && !part->head) str_printf(text, "none");
    }
}

void pp_print_cut(const Staged *s) {
    int stages = s->plan->schedule->stages;
    int64_t own = params_count(&s->own->model->params), *all = xcalloc((size_t)stages, sizeof *all);
    comm_all_gather(s->mesh->axis[MESH_PIPE], NULL, &own, all, sizeof own / sizeof(int32_t), TYPE_I32);
    double whole = (double)params_count(&s->whole->params);
    printf("%-8s %-44s %12s %6s\n", "stage", "blocks", "parameters", "%");
    for (int stage = 0; stage < stages; stage++) {
        Str text = {0};
        chunks_text(s, stage, &text);
        printf("%-8d %-44s %12" PRId64 " %6.1f\n", stage, text.data ? text.data : "none", all[stage],
               100 * (double)all[stage] / whole);
        str_free(&text);
    }
    free(all);
}

/* ---- what is moved ---- */

/* Bytes of the tied table, or of its pieces, that this device adds up with the other end. */
static double tied_bytes(const Staged *s) {
    const Params *updated = fsdp_params(s->own->fsdp);
    double bytes = 0;
    for (int i = 0; i < updated->count && s->ties; i++)
        if (strcmp(updated->items[i]->name, "token.weight") == 0)
            bytes += (double)tensor_bytes(&updated->items[i]->data);
    return bytes;
}

PpForecast pp_forecast_of(const Staged *s) {
    const int *size = s->mesh->size;
    double d = size[MESH_DATA], p = size[MESH_PIPE];
    Forecast own = forecast_of(s->own); /* of those along `data`, of which this is one */
    double once = sizeof(double),
           squares = (double)optimizer_square_blocks(s->own->optimizer) * sizeof(double);
    /* chapter 07 counts two numbers for each device, tokens and loss; only the head's stage knows tokens */
    double numbers = (s->heads ? 0 : -2 * (d - 1) * once) / d;
    double pipe = p > 1 ? 2 * (p - 1) / p * (squares + once) : 0;
    Comm *world = s->mesh->world;
    int64_t sent = s->plan->messages[s->mesh->coordinate[MESH_PIPE]];
    PpForecast f = {
        .messages = (int64_t)comm_sum(world, (double)sent),
        .all_reduce = comm_sum(world, own.all_reduce / d + numbers + pipe + tied_bytes(s)),
        .all_gather = comm_sum(world, own.all_gather / d),
        .reduce_scatter = comm_sum(world, own.reduce_scatter / d),
    };
    f.along_data = comm_sum(world, (own.all_reduce + own.all_gather + own.reduce_scatter) / d + numbers);
    f.bytes = (double)(f.messages * tensor_bytes(&s->layers.stream));
    f.along_pipe = f.bytes + comm_sum(world, pipe + tied_bytes(s));
    return f;
}

/* ---- the tables ---- */

static void print_ratio(const char *what, double predicted, double measured) {
    printf("  %-30s %16.6g %16.6g  %.9g\n", what, predicted, measured,
           predicted == measured ? 1 : measured / predicted);
}

void pp_bubble_print(const Staged *s, const Measured *m, ScheduleKind kind, int virtual_stages) {
    const Schedule *schedule = s->plan->schedule;
    int p = schedule->stages;
    int64_t n = schedule->microbatches;
    printf("\nidle time over busy time                predicted         measured  ratio\n");
    if (kind != SCHEDULE_KINDS) {
        print_ratio("longest stage, all alike", schedule_bubble_formula(kind, p, virtual_stages, n),
                    m->times.bubble);
        print_ratio("the step, all alike", schedule_bubble_step_formula(kind, p, virtual_stages, n),
                    m->times.bubble_step);
    }
    print_ratio("longest stage, by its costs", m->by_costs.bubble, m->times.bubble);
    print_ratio("the step, by its costs", m->by_costs.bubble_step, m->times.bubble_step);
    printf("\nmicro-batches in flight                 predicted         measured  ratio\n");
    for (int stage = 0; stage < p; stage++) {
        char *what = xprintf("stage %d", stage);
        print_ratio(what, (double)s->plan->in_flight[stage], (double)m->in_flight[stage]);
        free(what);
    }
}

void pp_forecast_print(const Staged *s, const Measured *m, ScheduleKind kind, int virtual_stages,
                       const Account *account) {
    Forecast kept = forecast_of(s->own);
    PpForecast moved = pp_forecast_of(s);
    double sent = comm_sum(s->mesh->world, (double)s->along_pipe[COMM_SEND].calls);
    const double send = account_step_count(account, COMM_SEND).bytes,
                 all_reduce = account_step_count(account, COMM_ALL_REDUCE).bytes,
                 all_gather = account_step_count(account, COMM_ALL_GATHER).bytes,
                 reduce_scatter = account_step_count(account, COMM_REDUCE_SCATTER).bytes;
    const int64_t *peak = s->own->device->memory.peak;
    printf("\nbytes                                   predicted         measured  ratio\n");
    forecast_print_row("parameters, on device 0", (double)kept.parameters, (double)peak[MEMORY_PARAMETERS]);
    forecast_print_row("gradients", (double)kept.gradients, (double)peak[MEMORY_GRADIENTS]);
    forecast_print_row("optimizer", (double)kept.optimizer, (double)peak[MEMORY_OPTIMIZER]);
    if (s->mesh->world->size == 1) return;
    forecast_print_row("messages, of a step", moved.bytes, send);
    forecast_print_row("all-reduce", moved.all_reduce, all_reduce);
    forecast_print_row("all-gather", moved.all_gather, all_gather);
    forecast_print_row("reduce-scatter", moved.reduce_scatter, reduce_scatter);
    printf("  %" PRId64 " messages predicted, %.0f sent\n", moved.messages, sent);
    if (s->mesh->size[MESH_PIPE] > 1) pp_bubble_print(s, m, kind, virtual_stages);
}
