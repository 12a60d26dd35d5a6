#include "datasets/waves.h"

#include "common/draw/plots.h"
#include "common/base/rng.h"

#include <math.h>
#include <stdlib.h>

enum { WAVES = 3, SHIFT = 5 };
static const double INPUT_NOISE = 0.1, TARGET_NOISE = 0.05, PI = 3.141592653589793;

/* sin(f s + p) = sin(f s) cos(p) + cos(f s) sin(p): the table holds the parts that all samples share. */
typedef struct {
    double sine[WAVES][WAVE_POINTS], cosine[WAVES][WAVE_POINTS];
} Table;

static Table table_new(void) {
    Table table;
    for (int f = 0; f < WAVES; f++)
        for (int t = 0; t < WAVE_POINTS; t++) {
            double angle = (f + 1) * 2 * PI * t / WAVE_POINTS;
            table.sine[f][t] = sin(angle);
            table.cosine[f][t] = cos(angle);
        }
    return table;
}

/* x (128) += the three waves of one sample. Of the four numbers that a sample draws, three are phases. */
static void add_waves(const Table *table, uint64_t seed, uint64_t stream, int64_t sample, real *x) {
    for (int f = 0; f < WAVES; f++) {
        double phase = 2 * PI * rng_uniform(seed, stream, (uint64_t)(4 * sample + f));
        if (f == 1) phase += PI / 2; /* cos(s) = sin(s + pi/2) */
        double c = cos(phase), s = sin(phase);
        for (int t = 0; t < WAVE_POINTS; t++) x[t] += (real)(table->sine[f][t] * c + table->cosine[f][t] * s);
    }
}

void waves_make(uint64_t seed, Split split, int64_t first, int64_t count, real *x, real *y, real *best) {
    static const char *const names[2][3] = {
        [SPLIT_TRAIN] = {"waves.train.phases", "waves.train.input", "waves.train.target"},
        [SPLIT_VALIDATION] = {"waves.validation.phases", "waves.validation.input", "waves.validation.target"},
    };
    uint64_t phases = rng_stream(names[split][0]), point = (uint64_t)(first * WAVE_POINTS);
    rng_fill_normal(seed, rng_stream(names[split][1]), point, count * WAVE_POINTS, INPUT_NOISE, x);
    rng_fill_normal(seed, rng_stream(names[split][2]), point, count * WAVE_POINTS, TARGET_NOISE, y);
    Table table = table_new();
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) {
        real *row_x = x + i * WAVE_POINTS, *row_y = y + i * WAVE_POINTS;
        add_waves(&table, seed, phases, first + i, row_x);
        for (int t = 0; t < WAVE_POINTS; t++) {
            real mean =
                (real)0.8 * row_x[(t + WAVE_POINTS - SHIFT) % WAVE_POINTS] + (real)0.1 * row_x[t] * row_x[t];
            row_y[t] += mean;
            if (best) best[i * WAVE_POINTS + t] = mean;
        }
    }
}

/* ---- as tensors ---- */

Waves waves_new(Device *device, int64_t count) {
    Shape shape = SHAPE(count, WAVE_POINTS);
    Waves waves = {tensor_new(device, MEMORY_ACTIVATIONS, "waves.x", TYPE_REAL, shape),
                   tensor_new(device, MEMORY_ACTIVATIONS, "waves.y", TYPE_REAL, shape),
                   tensor_new(device, MEMORY_ACTIVATIONS, "waves.best", TYPE_REAL, shape)};
    waves.x.constant = true;
    return waves;
}

void waves_load(Waves *w, uint64_t seed, Split split, int64_t first) {
    Tensor *const tensors[] = {&w->x, &w->y, &w->best};
    int64_t rows = tensor_rows(&w->x), count = tensor_count(&w->x);
    real *values = xmalloc((size_t)(COUNT_OF(tensors) * count) * sizeof *values);
    waves_make(seed, split, first, rows, values, values + count, values + 2 * count);
    for (int i = 0; i < COUNT_OF(tensors); i++) tensor_write(tensors[i], 0, count, values + i * count);
    free(values);
}

void waves_free(Waves *w) {
    tensor_free(&w->x);
    tensor_free(&w->y);
    tensor_free(&w->best);
}

double waves_error(const Waves *w, const Tensor *prediction) {
    double sum = 0;
    int64_t count = tensor_count(&w->y);
    real *said = tensor_to_host(prediction), *right = tensor_to_host(&w->y);
    for (int64_t i = 0; i < count; i++) {
        double difference = (double)said[i] - (double)right[i];
        sum += difference * difference;
    }
    free(said);
    free(right);
    return sum / (double)count;
}

/* ---- pictures ---- */

static PlotSeries first_wave(const char *label, const Tensor *t, PlotStyle style, int color, double *points) {
    real wave[WAVE_POINTS];
    tensor_read(t, 0, WAVE_POINTS, wave);
    for (int i = 0; i < WAVE_POINTS; i++) points[i] = (double)wave[i];
    return (PlotSeries){.label = label, .y = points, .count = WAVE_POINTS, .style = style, .color = color};
}

static void draw(const char *folder, const char *name, const char *title, const PlotSeries *series,
                 int count) {
    Plot plot = {.title = title,
                 .x_label = "point t of the wave",
                 .y_label = "height",
                 .series = series,
                 .series_count = count};
    char *path = xprintf("%s/%s", folder, name);
    plot_draw(&plot, path);
    free(path);
}

void waves_draw(const Waves *w, const Tensor *prediction, const char *folder) {
    double points[3][WAVE_POINTS];
    PlotSeries series[] = {
        first_wave("input x", &w->x, PLOT_THIN_LINE, 7, points[0]),
        first_wave("target y", &w->y, PLOT_POINTS, 1, points[1]),
        first_wave("prediction", prediction, PLOT_LINE, 2, points[2]),
    };
    draw(folder, "sample.png", "A noisy wave and its target", series, 2);
    draw(folder, "prediction.png", "A wave that the network has not seen", series, 3);
}
