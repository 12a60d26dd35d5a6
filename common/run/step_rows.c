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

void step_rows_take(StepRows *rows, MetricsRow *row, bool look) {
    if (rows->waits) rows->write(rows->context, &rows->before);
    rows->waits = !rows->read_this && !look;
    if (rows->waits) {
        rows->before = *row;
        return;
    }
    if (!rows->read_this) rows->read(rows->trainer, row);
    rows->read_this = true;
    rows->write(rows->context, row);
}
