/* When the row of a step is complete: at once on a CPU, on a GPU when the next step is issued, or at once where somebody looks;
 * each is written once, in order, with its own numbers. The GPU is a CPU that says it is apart. */
#include "common/run/step_rows.h"
#include "tests/tap.h"
#include "common/cpu/device_cpu.h"

#include <math.h>
#include <string.h>

enum { STEPS = 6, MOST = 64 };

/* What happened: 'i' a step is issued, 'r' one is read, 'w' one is written, each with its number. */
typedef struct {
    char text[4 * MOST];
    int64_t read;
    double ms[STEPS + 1]; /* of the rows that were written */
    bool tokens;          /* each had a thousand tokens */
    StepRows rows;
} Told;

static void tell(Told *told, char what, int64_t step) {
    size_t at = strlen(told->text);
    snprintf(told->text + at, sizeof told->text - at, "%s%c%d", at ? " " : "", what, (int)step);
}

static void read_row(void *context, MetricsRow *row) {
    Told *told = context;
    row->loss = 10.0 + (double)++told->read;
    tell(told, 'r', told->read);
}

static void write_row(void *context, const MetricsRow *row) {
    Told *told = context;
    tell(told, row->loss == 10.0 + (double)row->step ? 'w' : '?', row->step);
    told->ms[row->step] = row->step_ms;
    told->tokens &= fabs(row->tokens_per_s * row->step_ms - 1e6) < 1e-3;
}

/* Step s takes s milliseconds until it is issued. looked_at: of the steps 1 .. STEPS. asked: the step at whose end somebody wants
 * to stop; 0: nobody. ms: of each row. */
static void is_told(const DeviceBackend *backend, const bool *looked_at, int64_t asked, const char *want,
                    int64_t waits, const double *ms, const char *what) {
    Device *device = device_new_cpu(0);
    device->backend = backend;
    Told told = {.tokens = true, .rows = {device, .read = read_row, &told, .write = write_row, &told}};
    MetricsRow row = metrics_row(0, 0);
    for (int64_t step = 1; step <= STEPS; step++) {
        bool look = looked_at[step - 1];
        tell(&told, 'i', step);
        row.loss = NAN;
        step_rows_issued(&told.rows, &row, look);
        row.step = step;
        row.step_ms = (double)step;
        row.tokens_per_s = 1e6 / row.step_ms;
        step_rows_take(&told.rows, &row, look || step == asked);
        if (step == asked) break;
    }
    ok(strcmp(told.text, want) == 0 && device->queue.counts.synchronisations == waits, "%s: %s; wanted %s",
       what, told.text, want);
    bool right = told.tokens;
    for (int s = 1; s <= STEPS; s++) right &= fabs(told.ms[s] - ms[s - 1]) < (s == asked ? 5 : 1e-9);
    ok(right, "... and the time of each, %g, %g, %g, %g, %g, %g", told.ms[1], told.ms[2], told.ms[3],
       told.ms[4], told.ms[5], told.ms[6]);
    device_delete(device);
}

int main(void) {
    Device *device = device_new_cpu(0);
    const DeviceBackend *cpu = device->backend;
    DeviceBackend gpu = *cpu;
    gpu.apart = true;
    const bool last[STEPS] = {[STEPS - 1] = true}, third[STEPS] = {[2] = true, [STEPS - 1] = true},
               all[STEPS] = {true, true, true, true, true, true};
    is_told(cpu, last, 0, "i1 r1 w1 i2 r2 w2 i3 r3 w3 i4 r4 w4 i5 r5 w5 i6 r6 w6", 0,
            (double[STEPS]){1, 2, 3, 4, 5, 6}, "on a CPU at once");
    is_told(&gpu, last, 0, "i1 i2 r1 w1 i3 r2 w2 i4 r3 w3 i5 r4 w4 i6 r5 r6 w5 w6", 1,
            (double[STEPS]){3, 3, 4, 5, 3, 3},
            "on a GPU when the next is issued, the last two at the end, with one wait");
    is_told(&gpu, third, 0, "i1 i2 r1 w1 i3 r2 r3 w2 w3 i4 i5 r4 w4 i6 r5 r6 w5 w6", 2,
            (double[STEPS]){3, 1.5, 1.5, 9, 3, 3}, "at once where somebody looks");
    is_told(&gpu, all, 0, "i1 r1 w1 i2 r2 w2 i3 r3 w3 i4 r4 w4 i5 r5 w5 i6 r6 w6", 0,
            (double[STEPS]){1, 2, 3, 4, 5, 6}, "... at every step");
    is_told(&gpu, last, 4, "i1 i2 r1 w1 i3 r2 w2 i4 r3 w3 r4 w4", 0, (double[STEPS]){3, 3, 4},
            "an end that nobody knew of");
    is_told(cpu, last, 2, "i1 r1 w1 i2 r2 w2", 0, (double[STEPS]){1, 2}, "... on a CPU");

    Config c = {.eval_interval = 4, .sample_interval = 0, .save_interval = 6, .log_interval = 10};
    char due[21] = "";
    for (int64_t step = 1; step <= 20; step++) due[step - 1] = step_rows_due(&c, step) ? '1' : '0';
    ok(strcmp(due, "00010101010100010101") == 0, "what is due by intervals of 4, none, 6 and 10: %s", due);
    device_delete(device);
    return tap_done();
}
