/* The model cut into stages: all blocks are there once, in order; the slowest chunk is as quick as any cut could make it, and
 * then the slowest stage, for many sizes of model, head and schedule, also for more chunks than blocks. Where there is no
 * block for each, those without are spread.
 *
 * TEST variants: float asan */
#include "chapters/09_pipeline_parallel/stages.h"
#include "tests/tap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CHUNKS = 12 };

/* C 64, F 256, H 4: a block has 12 C^2 + C T weights and as much again in attention; V sets what the head weighs. */
static ModelConfig model_with(int64_t L, int64_t V) {
    return (ModelConfig){.V = V, .C = 64, .F = 256, .L = L, .H = 4, .K = 4, .T = 32};
}

static double cost_of(const ModelPart *part, double head) {
    return (double)(part->to - part->from) + (part->head ? head : 0);
}

/* The least that the slowest chunk can cost, by trying each number of blocks in one chunk after the other. */
static double least_slowest(int64_t L, int chunks, double head) {
    double best[64] = {0}; /* of 0 to L blocks in the chunks so far */
    for (int64_t n = 1; n <= L; n++) best[n] = INFINITY;
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int64_t n = L; n >= 0; n--) {
            double least = INFINITY;
            for (int64_t own = 0; own <= n; own++)
                least = fmin(least, fmax(best[n - own], (double)own + (chunk == chunks - 1 ? head : 0)));
            best[n] = least;
        }
    return best[L];
}

/* The least that the slowest stage can cost while no chunk costs more than `slowest`: by trying all. */
static double least_slowest_stage(const Schedule *s, int chunk, int64_t left, double head, double slowest,
                                  double *of_stage) {
    if (chunk == s->chunks) {
        double most = 0;
        for (int stage = 0; stage < s->stages; stage++) most = worse(most, of_stage[stage]);
        return left ? INFINITY : most;
    }
    double least = INFINITY, before = of_stage[s->stage_of[chunk]];
    for (int64_t own = 0; own <= left; own++) {
        double cost = (double)own + (chunk == s->chunks - 1 ? head : 0);
        if (cost > slowest + 1e-9) break;
        of_stage[s->stage_of[chunk]] = before + cost;
        least = fmin(least, least_slowest_stage(s, chunk + 1, left - own, head, slowest, of_stage));
    }
    of_stage[s->stage_of[chunk]] = before;
    return least;
}

static bool in_order(const ModelPart *parts, int chunks, int64_t L) {
    for (int i = 0; i < chunks; i++)
        if (parts[i].from != (i ? parts[i - 1].to : 0) || parts[i].to < parts[i].from ||
            parts[i].embedding != (i == 0) || parts[i].head != (i == chunks - 1))
            return false;
    return parts[chunks - 1].to == L;
}

static bool right_of_stages(const Schedule *s, const ModelPart *parts) {
    int all = 0;
    for (int stage = 0; stage < s->stages; stage++) {
        ModelPart own[MOST_CHUNKS];
        int count = stages_parts_of(s, parts, stage, own), k = 0;
        all += count;
        for (int chunk = 0; chunk < s->chunks; chunk++)
            if (s->stage_of[chunk] == stage && (k == count || own[k++].from != parts[chunk].from))
                return false;
    }
    return all == s->chunks;
}

static void test_kind(ScheduleKind kind, int most_p, int most_v, int64_t most_L) {
    const char *wrong = NULL;
    int cases = 0;
    for (int p = 1; p <= most_p; p++)
        for (int v = 1; v <= most_v; v++)
            for (int64_t L = 1; L <= most_L; L++)
                for (int64_t V = 64; V <= 4096; V = V * 3 + 7) {
                    ModelConfig model = model_with(L, V);
                    Schedule *s = schedule_new(kind, p, v, p);
                    ModelPart parts[MOST_CHUNKS];
                    stages_cut(&model, s, parts);
                    double head = stages_head_cost(&model), slowest = 0, slowest_stage = 0;
                    double of_stage[MOST_CHUNKS] = {0}, none[MOST_CHUNKS] = {0};
                    for (int chunk = 0; chunk < s->chunks; chunk++) {
                        slowest = worse(slowest, cost_of(&parts[chunk], head));
                        of_stage[s->stage_of[chunk]] += cost_of(&parts[chunk], head);
                    }
                    for (int stage = 0; stage < p; stage++)
                        slowest_stage = worse(slowest_stage, of_stage[stage]);
                    double least = least_slowest(L, s->chunks, head);
                    if (!in_order(parts, s->chunks, L))
                        wrong = "blocks are lost, or not in order";
                    else if (!right_of_stages(s, parts))
                        wrong = "what a stage has";
                    else if (slowest > least + 1e-9)
                        wrong = "the slowest chunk";
                    else if (slowest_stage > least_slowest_stage(s, 0, L, head, slowest, none) + 1e-9)
                        wrong = "the slowest stage";
                    cases++;
                    schedule_delete(s);
                }
    ok(!wrong, "%s: %d cuts%s%s", schedule_names[kind], cases, wrong ? ": " : "", wrong ? wrong : "");
}

/* Blocks of each chunk, "2 1 1 0". */
static void test_blocks(ScheduleKind kind, int p, int v, int64_t L, int64_t V, const char *want) {
    ModelConfig model = model_with(L, V);
    Schedule *s = schedule_new(kind, p, v, p);
    ModelPart parts[MOST_CHUNKS];
    stages_cut(&model, s, parts);
    Str got = {0};
    for (int i = 0; i < s->chunks; i++)
        str_printf(&got, "%s%" PRId64, i ? " " : "", parts[i].to - parts[i].from);
    ok(got.data && strcmp(got.data, want) == 0,
       "%s, %d stages, %" PRId64 " blocks, head %.2g: %s, expected %s", schedule_names[kind], p, L,
       stages_head_cost(&model), got.data, want);
    str_free(&got);
    schedule_delete(s);
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    ModelConfig model = model_with(1, 1000); /* forward, two FLOPs a weight: the head's beside a block's */
    double block = 4 * 64 * 64 + 2 * 64 * 256 + 64 * 32;
    close_to(stages_head_cost(&model), 64.0 * 1000 / block, 1e-15, "the head beside a block");
    model.K = 2;
    model.activation = ACTIVATION_SWIGLU;
    close_to(stages_head_cost(&model), 64.0 * 1000 / (3 * 64 * 64 + 3 * 64 * 256 + 64 * 32), 1e-15,
             "... with shared keys and a gate");
    test_kind(SCHEDULE_1F1B, 7, 1, 15);
    test_kind(SCHEDULE_INTERLEAVED, 3, 2, 9);
    test_kind(SCHEDULE_ZB_V, 3, 1, 9);
    test_blocks(SCHEDULE_1F1B, 4, 1, 4, 200, "1 1 1 1");
    test_blocks(SCHEDULE_1F1B, 4, 1, 8, 2000, "3 2 3 0");
    test_blocks(SCHEDULE_1F1B, 6, 1, 2, 1000, "0 1 0 1 0 0");
    test_blocks(SCHEDULE_1F1B, 1, 1, 5, 4000, "5");
    test_blocks(SCHEDULE_INTERLEAVED, 2, 2, 2, 100, "0 1 1 0");
    test_blocks(SCHEDULE_ZB_V, 2, 1, 2, 4000, "0 1 1 0");
    return tap_done();
}
