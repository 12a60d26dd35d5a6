#include "chapters/08_tensor_parallel/meshes.h"
#include "chapters/08_tensor_parallel/row_overlap.h"
#include "common/draw/plots.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { MOST_POINTS = 8 };

/* Seconds of a kernel that reads and writes so many bytes and makes a product of so many FLOPs. */
static double kernel(const DeviceModel *model, int64_t product, int64_t bytes) {
    return clock_kernel_seconds(model, (Cost){.product = product, .bytes = bytes});
}

/* What one column linear saves in backward: the sum of dx runs beside the product that gives dW; and its forward does not copy
 * x. */
static double saved_by_columns(const DeviceModel *model, const Comm *comm, int64_t rows, int64_t in,
                               int64_t out, bool bias, ElementType type) {
    CommCall sum = {.kind = COMM_ALL_REDUCE, .type = type, .count = rows * in};
    int64_t e = element_bytes(type), g = element_bytes(TYPE_REAL); /* gradients of parameters are reals */
    double beside = kernel(model, 2 * rows * in * out, (rows * in + rows * out) * e + in * out * g) +
                    (bias ? kernel(model, 0, rows * out * e + out * g) : 0);
    return fmin(clock_collective_seconds(model, comm, &sum), beside) + kernel(model, 0, 2 * rows * in * e);
}

/* What a step saves by chunks of row products and by sums of dx beside dW; end_k as row_overlap.h has it. */
static double predicted_gain(const Config *c, const Comm *comm, const DeviceModel *model, int64_t chunks) {
    if (chunks == 1) return 0;
    const ModelConfig *m = &c->model;
    int64_t t = comm->size, rows = c->global_batch / c->data_parallel * m->T, D = m->C / m->H,
            up = m->activation == ACTIVATION_SWIGLU ? 2 * m->F : m->F, qkv = (m->H + 2 * m->K) * D;
    double gain = 0;
    const int64_t ins[] = {m->H * D / t, m->F / t}; /* of the row linears */
    for (int i = 0; i < 2; i++) {
        gain += row_overlap_seconds(model, comm, model_type(m), rows, ins[i], m->C, 1) -
                row_overlap_seconds(model, comm, model_type(m), rows, ins[i], m->C, chunks);
        gain += kernel(model, 0,
                       2 * rows * m->C * element_bytes(model_type(m))); /* backward of op_reduce copies */
    }
    if (m->K >= t) gain += saved_by_columns(model, comm, rows, m->C, qkv / t, m->bias, model_type(m));
    gain += saved_by_columns(model, comm, rows, m->C, up / t, m->bias, model_type(m));
    return (double)m->L * gain;
}

json_t *overlap_sweep(const Config *config, Comm *world, const Dataset *data) {
    Config c = *config;
    const DeviceModel *model = device_model(c.device_model);
    int t = (int)c.tensor_parallel, d = c.data_parallel, count = 0, best = 0;
    if (t == 1)
        comm_refuse(world, "--tensor-parallel-size 2",
                    xstrdup("--sweep overlap needs devices that share each layer"));
    c.sequence_parallel = false;
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){d, 1, t});
    double pieces[MOST_POINTS], ms[MOST_POINTS], formula[MOST_POINTS], plain = 0;
    printf("\n---- all-reduces beside the products, on %d x %d ----\n", d, t);
    printf("%16s %10s %10s %12s %9s\n", "--overlap-tensor", "step ms", "gain ms", "predicted", "ratio");
    for (int64_t chunks = 1; chunks <= 32 && count < MOST_POINTS; chunks *= 2, count++) {
        c.overlap_tensor = chunks;
        StepTimes times = meshes_step(&c, world, data, d, t, model, NULL);
        if (chunks == 1) plain = times.step;
        double gain = plain - times.step,
               predicted = predicted_gain(&c, mesh.axis[MESH_TENSOR], model, chunks);
        printf("%16" PRId64 " %10.4f %10.4f %12.4f ", chunks, 1e3 * times.step, 1e3 * gain, 1e3 * predicted);
        if (chunks == 1)
            printf("\n");
        else
            printf("%9.6f\n", gain / predicted);
        pieces[count] = (double)chunks;
        ms[count] = 1e3 * times.step;
        formula[count] = 1e3 * (plain - predicted);
        if (ms[count] < ms[best]) best = count;
    }
    mesh_close(&mesh);
    printf("best: %.0f pieces, %.1f%% of the step saved\n", pieces[best],
           100 * (1 - 1e-3 * ms[best] / plain));
    PlotSeries series[] = {{"a step", pieces, ms, count, PLOT_LINE_POINTS, 0, NULL},
                           {"by formula", pieces, formula, count, PLOT_DASHED, 0, NULL}};
    Plot plot = {.title = "A step by the pieces of a row product's all-reduce",
                 .x_label = "--overlap-tensor",
                 .y_label = "milliseconds",
                 .log_x = true,
                 .y_from_zero = true,
                 .series = series,
                 .series_count = COUNT_OF(series)};
    char *path = xprintf("%s/overlap.png", c.output_dir);
    if (world->rank == 0) plot_draw(&plot, path);
    free(path);
    return json_pack("{s:i, s:f, s:f}", "best_pieces", (int)pieces[best], "best_step_s", 1e-3 * ms[best],
                     "plain_step_s", plain);
}
