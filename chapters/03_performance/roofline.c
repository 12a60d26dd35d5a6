#include "chapters/03_performance/roofline.h"

#include "common/draw/plots.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- sums ---- */

Cost profile_cost(const Profile *profile) {
    int count;
    const ProfileRow *rows = profile_rows(profile, &count);
    Cost sum = {0};
    for (int i = 0; i < count; i++) sum = cost_sum(sum, rows[i].cost);
    return sum;
}

double profile_step_seconds(const Profile *profile) {
    double sum = 0;
    for (Phase phase = 0; phase < PHASES; phase++) sum += profile_seconds(profile, phase);
    return sum;
}

double profile_roof_seconds(const Profile *profile) {
    int count;
    const ProfileRow *rows = profile_rows(profile, &count);
    double sum = 0;
    for (int i = 0; i < count; i++) sum += rows[i].bound;
    return sum;
}

static double kernel_seconds(const Profile *profile, Phase from, Phase to) {
    int count;
    const ProfileRow *rows = profile_rows(profile, &count);
    double sum = 0;
    for (int i = 0; i < count; i++)
        if (rows[i].phase >= from && rows[i].phase <= to) sum += rows[i].seconds;
    return sum;
}

double profile_outside(const Profile *profile) {
    return profile_step_seconds(profile) - kernel_seconds(profile, 0, PHASES - 1);
}

static char *op_text(const ProfileRow *r) { return xprintf("%s%s%s", r->op, *r->layer ? " " : "", r->layer); }

/* ---- tables ---- */

void print_phases(const Profile *profile) {
    double steps = (double)profile_steps(profile), all = profile_step_seconds(profile);
    printf("%-24s %9s %7s %12s\n", "phase of a step", "ms", "%", "in kernels");
    for (Phase phase = 0; phase < PHASES; phase++) {
        double seconds = profile_seconds(profile, phase);
        if (phase == PHASE_NONE || seconds == 0) continue;
        printf("%-24s %9.3f %7.1f %11.1f%%\n", phase_names[phase], 1e3 * seconds / steps, 100 * seconds / all,
               100 * kernel_seconds(profile, phase, phase) / seconds);
    }
    printf("%-24s %9.3f %7.1f %11.1f%%\n", "all", 1e3 * all / steps, 100.0,
           100 * kernel_seconds(profile, 0, PHASES - 1) / all);
}

/* Row i and those behind it that are the same op in another phase; false when one before it was. */
static bool over_phases(const ProfileRow *rows, int count, int i, ProfileRow *sum) {
    *sum = (ProfileRow){.phase = rows[i].phase};
    memcpy(sum->op, rows[i].op, sizeof sum->op);
    memcpy(sum->layer, rows[i].layer, sizeof sum->layer);
    for (int j = 0; j < count; j++) {
        if (strcmp(rows[i].op, rows[j].op) || strcmp(rows[i].layer, rows[j].layer)) continue;
        if (j < i) return false;
        sum->calls += rows[j].calls;
        sum->seconds += rows[j].seconds;
        sum->bound += rows[j].bound;
        sum->cost = cost_sum(sum->cost, rows[j].cost);
    }
    return true;
}

/* A GPU's clock may see no time pass. */
static double per(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

void print_ops(const Profile *profile) {
    int count;
    const ProfileRow *rows = profile_rows(profile, &count);
    double steps = (double)profile_steps(profile), all = profile_step_seconds(profile);
    printf("%-24s %7s %9s %7s %9s %8s %9s\n", "op", "kernels", "ms", "%", "GFLOP/s", "GB/s", "of roof");
    for (int i = 0; i < count; i++) {
        ProfileRow r;
        if (!over_phases(rows, count, i, &r)) continue;
        char *text = op_text(&r);
        printf("%-24s %7.0f %9.3f %7.1f %9.1f %8.1f %8.0f%%\n", text, (double)r.calls / steps,
               1e3 * r.seconds / steps, 100 * r.seconds / all,
               per(1e-9 * (double)cost_flops(r.cost), r.seconds), per(1e-9 * (double)r.cost.bytes, r.seconds),
               per(100 * r.bound, r.seconds));
        free(text);
    }
    double outside = profile_outside(profile);
    printf("%-24s %7s %9.3f %7.1f\n", "between kernels", "", 1e3 * outside / steps, 100 * outside / all);
    Cost cost = profile_cost(profile);
    printf("%-24s %7s %9.3f %7.1f %9.1f %8.1f %8.0f%%\n", "all", "", 1e3 * all / steps, 100.0,
           1e-9 * (double)cost_flops(cost) / all, 1e-9 * (double)cost.bytes / all,
           100 * profile_roof_seconds(profile) / all);
}

json_t *ops_json(const Profile *profile) {
    int count;
    const ProfileRow *rows = profile_rows(profile, &count);
    double steps = (double)profile_steps(profile);
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        const ProfileRow *r = &rows[i];
        char *text = op_text(r);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f}", "op", text, "phase", phase_names[r->phase],
                            "calls", (double)r->calls / steps, "seconds", r->seconds / steps, "flops",
                            (double)cost_flops(r->cost) / steps, "bytes", (double)r->cost.bytes / steps,
                            "of_roof", per(r->bound, r->seconds)));
        free(text);
    }
    return list;
}

/* ---- the picture ---- */

/* One point for each op: all of its layers in one phase. */
typedef struct {
    double *x, *y;
    const char **texts;
    int64_t count;
} Points;

static Points points_of(const Profile *profile, Phase phase) {
    int count;
    const ProfileRow *rows = profile_rows(profile, &count);
    Points p = {xmalloc((size_t)count * sizeof(double)), xmalloc((size_t)count * sizeof(double)),
                xmalloc((size_t)count * sizeof(char *)), 0};
    for (int i = 0; i < count; i++) {
        ProfileRow sum = {.phase = phase};
        bool first = true;
        for (int j = 0; j < count; j++) {
            if (rows[j].phase != phase || strcmp(rows[i].op, rows[j].op)) continue;
            first &= j >= i;
            sum.seconds += rows[j].seconds;
            sum.cost = cost_sum(sum.cost, rows[j].cost);
        }
        if (rows[i].phase != phase || !first || cost_flops(sum.cost) == 0) continue;
        p.x[p.count] = (double)cost_flops(sum.cost) / (double)sum.cost.bytes;
        p.y[p.count] = 1e-9 * (double)cost_flops(sum.cost) / sum.seconds;
        p.texts[p.count++] = rows[i].op;
    }
    return p;
}

/* Of two points of one op that lie close together only the first keeps its text. */
static void thin_out(Points *of, int count) {
    for (int a = 0; a < count; a++)
        for (int64_t i = 0; i < of[a].count; i++)
            for (int b = 0; b < a; b++)
                for (int64_t j = 0; j < of[b].count; j++)
                    if (!strcmp(of[a].texts[i], of[b].texts[j]) && fabs(log(of[a].x[i] / of[b].x[j])) < 0.7 &&
                        fabs(log(of[a].y[i] / of[b].y[j])) < 0.2)
                        of[a].texts[i] = "";
}

static void points_free(Points *p) {
    free(p->x);
    free(p->y);
    free(p->texts);
}

void draw_roofline(const Profile *profile, const Machine *m, const char *path) {
    static const Phase phases[] = {PHASE_FORWARD, PHASE_BACKWARD_INPUT, PHASE_BACKWARD_PARAM, PHASE_CLIP,
                                   PHASE_OPTIMIZER};
    enum { ROOFS = 2, ALL = ROOFS + COUNT_OF(phases) };
    Points points[COUNT_OF(phases)];
    double low = 0.1, high = 2;
    for (int i = 0; i < COUNT_OF(phases); i++) {
        points[i] = points_of(profile, phases[i]);
        for (int64_t j = 0; j < points[i].count; j++) {
            low = fmin(low, points[i].x[j] / 1.5);
            high = fmax(high, points[i].x[j] * 2);
        }
    }
    thin_out(points, COUNT_OF(phases));
    PlotSeries series[ALL];
    double bandwidths[ROOFS] = {machine_memory_bandwidth(m), machine_bandwidth(m, 0)};
    const char *labels[ROOFS] = {"roof, data from memory", "roof, from the nearest cache"};
    double x[ROOFS][3], y[ROOFS][3];
    for (int i = 0; i < ROOFS; i++) {
        x[i][0] = low, x[i][1] = m->peak / bandwidths[i], x[i][2] = fmax(high, 2 * x[i][1]);
        y[i][0] = 1e-9 * low * bandwidths[i], y[i][1] = y[i][2] = 1e-9 * m->peak;
        series[i] = (PlotSeries){.label = labels[i],
                                 .x = x[i],
                                 .y = y[i],
                                 .count = 3,
                                 .style = i ? PLOT_DASHED : PLOT_LINE,
                                 .color = 7};
    }
    int count = ROOFS;
    for (int i = 0; i < COUNT_OF(phases); i++)
        if (points[i].count)
            series[count++] = (PlotSeries){.label = phase_names[phases[i]],
                                           .x = points[i].x,
                                           .y = points[i].y,
                                           .count = points[i].count,
                                           .style = PLOT_POINTS,
                                           .color = 1 + i,
                                           .texts = points[i].texts};
    Plot plot = {.title = "Roofline: every op of a training step",
                 .x_label = "FLOPs for each byte that must move",
                 .y_label = "GFLOP/s",
                 .log_x = true,
                 .log_y = true,
                 .series = series,
                 .series_count = count,
                 .width = 1100,
                 .height = 720};
    plot_draw(&plot, path);
    for (int i = 0; i < COUNT_OF(phases); i++) points_free(&points[i]);
}
