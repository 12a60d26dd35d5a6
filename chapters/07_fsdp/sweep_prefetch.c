/* When does computing hide an all-gather? */
#include "chapters/05_data_parallel/scaling.h"
#include "chapters/07_fsdp/point.h"
#include "chapters/07_fsdp/sweeps.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_POINTS = 32, PREFETCHES = 3, MOST_CALLS = 4096 };

/* ---- one step, and what the recurrence says of it ---- */

/* The calls of the group of shards in a step, in the order in which they used its link. */
typedef struct {
    CommEvent events[MOST_CALLS];
    int count;
} Calls;

static void call_done(void *context, const CommEvent *event) {
    Calls *calls = context;
    ASSERT(calls->count < MOST_CALLS);
    calls->events[calls->count++] = *event;
}

typedef struct {
    double step;               /* seconds */
    double exposed, predicted; /* that the device waited for all-gathers; by the recurrence below */
    int gathers, hidden;       /* so many; of them, those that nobody waited for */
    int agreed;                /* ... of which the recurrence says rightly whether */
    /* of a block: its forward and its backward, waiting included, and what travels beside them */
    double forward, backward, gather, scatter;
    double block_weights, block_matmul; /* elements; of them, those in matrix products */
} Look;

/* A ring: (n-1) (latency + S / (n W)), S being the bytes of the whole array. */
static double ring_seconds(const Comm *comm, const LinkModel *link, const CommCall *call) {
    double part = (double)(call->count * element_bytes(call->type)); /* S / n: count is a share */
    return (comm->size - 1) * (link->latency + part / link->bandwidth);
}

/* end_k = max(start_k, end_(k-1)) + what a ring takes, over all-gathers and reduce-scatters as they come. */
static void predict(const Fsdp *f, const Comm *comm, const LinkModel *link, const Calls *calls, Look *look) {
    double end = 0;
    for (int i = 0, k = 0; i < calls->count && k < fsdp_gathers(f); i++) {
        const CommEvent *event = &calls->events[i];
        bool gathers = event->call.kind == COMM_ALL_GATHER;
        end = fmax(gathers ? fsdp_gather(f, k).started : event->begin, end) +
              ring_seconds(comm, link, &event->call);
        if (!gathers) continue;
        FsdpGather g = fsdp_gather(f, k++);
        look->gathers++;
        look->exposed += g.ready - g.wanted;
        look->predicted += fmax(end - g.wanted, 0);
        look->hidden += g.ready <= g.wanted;
        look->agreed += (g.ready <= g.wanted) == (end <= g.wanted);
    }
}

static int find_unit(const Fsdp *f, const char *name) {
    int u = 0;
    while (strcmp(fsdp_unit(f, u).name, name) != 0) u++;
    return u;
}

/* The occurrence-th all-gather of a unit; -1: there is none. */
static int find_gather(const Fsdp *f, int unit, int occurrence) {
    for (int i = 0; i < fsdp_gathers(f); i++)
        if (fsdp_gather(f, i).unit == unit && occurrence-- == 0) return i;
    return -1;
}

/* Block 0 computes from when its weights are there until those of block 1 are wanted; in backward block 1 does, until those
 * of block 0 are. */
static void look_at_blocks(const Sharded *s, const LinkModel *link, Look *look) {
    const Fsdp *f = s->fsdp;
    int first = find_unit(f, "blocks.0"), second = find_unit(f, "blocks.1");
    int from = find_gather(f, first, 0), to = find_gather(f, second, 0);
    int back_from = find_gather(f, second, 1), back_to = find_gather(f, first, 1);
    look->forward = fsdp_gather(f, to).wanted - fsdp_gather(f, from).ready;
    if (back_from >= 0 && back_to >= 0)
        look->backward = fsdp_gather(f, back_to).wanted - fsdp_gather(f, back_from).ready;
    FsdpUnit unit = fsdp_unit(f, first);
    CommCall call = {.type = model_type(&s->config.model), .count = unit.shard};
    look->gather = ring_seconds(s->shards, link, &call);
    call.type = TYPE_REAL; /* gradients in any case */
    look->scatter = ring_seconds(s->shards, link, &call);
    look->block_weights = (double)unit.elements;
    for (int i = 0; i < s->model->params.count; i++) {
        const Param *p = s->model->params.items[i];
        if (p->in_matmul && strncmp(p->name, "blocks.0.", 9) == 0)
            look->block_matmul += (double)tensor_count(&p->data);
    }
}

/* A second step: the first one learns in which order units are needed. */
static Look look(const Config *config, Comm *comm, const Dataset *data, int prefetch) {
    const LinkModel *link = &device_model(config->device_model)->inside;
    Config c = *config;
    c.prefetch = prefetch;
    Point p = point_open(&c, comm, data);
    Calls *calls = xcalloc(1, sizeof *calls);
    point_step(&p);
    p.sharded->shards->observer = (CommObserver){.done = call_done, .context = calls};
    double began = p.clock->now;
    point_step(&p);
    p.sharded->shards->observer = (CommObserver){0};
    Look l = {.step = p.clock->now - began};
    predict(p.sharded->fsdp, p.sharded->shards, link, calls, &l);
    look_at_blocks(p.sharded, link, &l);
    free(calls);
    point_close(&p);
    return l;
}

/* ---- the sweep ---- */

/* Where computing begins to take longer than what travels. */
static double find_crossing(const double *x, const double *time, const double *need, int count) {
    for (int i = 1; i < count; i++)
        if (time[i - 1] < need[i - 1] && time[i] >= need[i]) return scaling_crossing(x, time, need, i);
    return NAN;
}

static void print_border(const char *what, double found, double peak, double measured) {
    printf("%-44s ", what);
    if (isnan(found))
        printf("%10s", "none here");
    else
        printf("%10.1f", found);
    printf("  %20.1f  %20.1f\n", peak, measured);
}

/* Tokens at which computing takes as long as what travels, if it took, for each token, what it takes with the last batch. */
static double border(double need, double time, double tokens) { return need / time * tokens; }

static json_t *print_borders(const Config *config, const Comm *comm, const Look *last, const Look *alone,
                             double tokens, double forward_found, double backward_found) {
    const DeviceModel *model = device_model(config->device_model);
    double n = comm->size, e = (double)element_bytes(model_type(&config->model));
    double plain = (n - 1) / n * e / 2 * model->flops / model->inside.bandwidth * last->block_weights /
                   last->block_matmul;
    double forward = border(last->gather, alone->forward, tokens),
           backward = border(last->gather + last->scatter, alone->backward, tokens);
    printf("\n%-44s %10s  %20s  %20s\n", "hidden from so many tokens on:", "found", "at the peak",
           "latency, and time as");
    printf("%-44s %10s  %20s  %13s %6.0f\n", "", "", "of FLOP/s", "measured at", tokens);
    print_border("forward: the next block's all-gather", forward_found, plain, forward);
    /* backward computes 2 times what forward does, 3 times when it recomputes, and twice as much travels */
    print_border("backward: that and a reduce-scatter", backward_found,
                 plain * (config->recompute ? 2.0 / 3 : 1), backward);
    printf("at the peak: (n-1)/n e/2 C/W N/N_matmul%s\n",
           config->recompute ? ", in backward, which computes three times as long, 2/3 of it"
                             : " for both: backward computes twice as long, and twice as much travels");
    return json_pack("{s:o*, s:o*, s:f, s:f, s:f}", "forward_tokens_found", json_real(forward_found),
                     "backward_tokens_found", json_real(backward_found), "tokens_predicted", plain,
                     "forward_tokens_predicted_with_latency", forward,
                     "backward_tokens_predicted_with_latency", backward);
}

static void draw(const Run *run, const double *tokens, double series_ms[][MOST_POINTS],
                 double exposed[][MOST_POINTS], int count) {
    static const char *const names[] = {"a block's forward", "a block's backward", "its all-gather",
                                        "... and its reduce-scatter"};
    static const char *const prefetches[PREFETCHES] = {"--prefetch 0", "--prefetch 1", "--prefetch 2"};
    PlotSeries above[COUNT_OF(names)], below[PREFETCHES];
    for (int k = 0; k < COUNT_OF(names); k++)
        above[k] = (PlotSeries){
            names[k], tokens, series_ms[k], count, k < 2 ? PLOT_LINE_POINTS : PLOT_DASHED, k % 2 + 1, NULL};
    for (int k = 0; k < PREFETCHES; k++)
        below[k] = (PlotSeries){prefetches[k], tokens, exposed[k], count, PLOT_LINE_POINTS, k + 3, NULL};
    Plot waits = {.x_label = "tokens on each device",
                  .y_label = "waiting, ms a step",
                  .log_x = true,
                  .y_from_zero = true,
                  .series = below,
                  .series_count = PREFETCHES};
    Plot plot = {.title = "When does computing hide an all-gather?",
                 .y_label = "milliseconds",
                 .log_x = true,
                 .log_y = true,
                 .series = above,
                 .series_count = COUNT_OF(above),
                 .below = &waits};
    point_draw(run, &plot, "prefetch.png");
}

json_t *sweep_prefetch(const Run *run, const Config *config) {
    Config c = *config;
    c.zero_stage = 3;
    c.keep_gathered = NULL;
    c.shard_group = 0;
    Comm *comm = comm_split(run->job.world, 0, run->job.world->rank, "data");
    double tokens[MOST_POINTS], blocks[4][MOST_POINTS] = {{0}}, exposed[PREFETCHES][MOST_POINTS] = {{0}};
    double forward_found = NAN, backward_found = NAN;
    double window_flops = run->flops_per_token * (double)c.model.T;
    int64_t window = c.model.T, most = max64(4, scaling_windows(16, comm->size, window_flops) * window);
    int count = 0, all = 0, agreed = 0;
    Look l = {0}, alone = {0};
    printf("\n---- tokens, and units gathered ahead ----\n%8s %8s %12s %12s %12s %9s %12s\n", "tokens",
           "prefetch", "step ms", "waited ms", "predicted", "ratio", "hidden");
    for (int64_t t = 4; t <= most && count < MOST_POINTS; t *= 2, count++) {
        c.micro_batch = max64(t / window, 1);
        c.model.T = min64(t, window); /* below one window: a shorter one */
        tokens[count] = (double)(c.micro_batch * c.model.T);
        for (int prefetch = 0; prefetch < PREFETCHES; prefetch++) {
            l = look(&c, comm, run->data, prefetch);
            exposed[prefetch][count] = 1e3 * l.exposed;
            all += l.gathers;
            agreed += l.agreed;
            printf("%8.0f %8d %12.4f %12.4f %12.4f %9.6f %5d of %3d\n", tokens[count], prefetch, 1e3 * l.step,
                   1e3 * l.exposed, 1e3 * l.predicted, l.exposed / l.predicted, l.hidden, l.gathers);
        }
        Comm *self = comm_self(); /* for one device nothing travels: it computes, and does not wait */
        alone = look(&c, self, run->data, 0);
        comm_close(self);
        blocks[0][count] = 1e3 * alone.forward;
        blocks[1][count] = 1e3 * alone.backward;
        blocks[2][count] = 1e3 * l.gather;
        blocks[3][count] = 1e3 * (l.gather + l.scatter);
        forward_found = find_crossing(tokens, blocks[0], blocks[2], count + 1);
        backward_found = find_crossing(tokens, blocks[1], blocks[3], count + 1);
        if (!isnan(forward_found) && !isnan(backward_found) && t >= 4 * window) {
            count++;
            break;
        }
    }
    ASSERT(count > 0);
    printf("predicted: end_k = max(start_k, end_(k-1)) + (n-1) (latency + S / (n W)); it tells rightly of %d "
           "of %d all-gathers whether they are hidden\n",
           agreed, all);
    json_t *result = print_borders(&c, comm, &l, &alone, tokens[count - 1], forward_found, backward_found);
    draw(run, tokens, blocks, exposed, count);
    comm_close(comm);
    return result;
}
