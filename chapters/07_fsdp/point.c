#include "chapters/07_fsdp/point.h"

#include "common/run/machine.h"
#include "common/draw/plots.h"

#include <stdlib.h>

Point point_open(const Config *config, Comm *comm, const Dataset *data) {
    Config c = *config;
    c.data_parallel = comm->size;
    c.num_microbatches = 1;
    c.global_batch = c.micro_batch * comm->size;
    if (c.shard_group && comm->size % c.shard_group) c.shard_group = 0;
    Point p = {.clock = xmalloc(sizeof(Clock))};
    p.device = machine_clock_device(&c, c.device_memory, p.clock, device_model(c.device_model));
    p.sharded = sharded_new(&c, comm, p.device, data);
    return p;
}

void point_step(Point *p) {
    MetricsRow row;
    sharded_step(p->sharded, p->step++, &row);
}

void point_close(Point *p) {
    sharded_delete(p->sharded);
    clock_detach(p->clock);
    free(p->clock);
    device_delete(p->device);
}

void point_draw(const Run *run, const Plot *plot, const char *name) {
    if (!run_speaks(run)) return;
    char *path = xprintf("%s/%s", run->config.output_dir, name);
    plot_draw(plot, path);
    free(path);
}
