#include "common/run/step_rows.h"

bool step_rows_due(const Config *c, int64_t step) {
    int64_t intervals[] = {c->eval_interval, c->sample_interval, c->save_interval, c->log_interval};
    for (int i = 0; i < COUNT_OF(intervals); i++)
        if (intervals[i] > 0 && step % intervals[i] == 0) return true;
    return false;
}

void step_rows_issued(StepRows *rows, MetricsRow *row, bool look) {
    Device *device = rows->device;
    rows->read_this = look || !device->backend->apart;
    /* both: one wait does for them */
    if (rows->waits && rows->read_this) device_sync(device, &device->queue);
    if (rows->waits) rows->read(rows->trainer, &rows->before);
    if (rows->read_this) rows->read(rows->trainer, row);
}

static void set_time(MetricsRow *row, double ms) {
    row->tokens_per_s *= row->step_ms / ms;
    row->step_ms = ms;
}

/* Of rows that are complete. The last one's step_ms is in rows->ms already. */
static void share_time(StepRows *rows, MetricsRow *row) {
    int completed = rows->waits + rows->read_this;
    if (completed == 0) return;
    if (rows->waits) set_time(&rows->before, rows->ms / completed);
    if (rows->read_this) set_time(row, rows->ms / completed);
    rows->ms = 0;
}

void step_rows_take(StepRows *rows, MetricsRow *row, bool look) {
    rows->ms += row->step_ms;
    if (rows->device->backend->apart) share_time(rows, row);
    if (rows->waits) rows->write(rows->context, &rows->before);
    rows->waits = !rows->read_this && !look;
    if (rows->waits) {
        rows->before = *row;
        return;
    }
    if (!rows->read_this) {
        double began = now_seconds();
        rows->read(rows->trainer, row);
        set_time(row, rows->ms + 1e3 * (now_seconds() - began));
    }
    rows->ms = 0;
    rows->read_this = true;
    rows->write(rows->context, row);
}
