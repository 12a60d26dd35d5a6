#include "chapters/05_data_parallel/scaling.h"
#include "chapters/08_tensor_parallel/layer_picture.h"
#include "chapters/08_tensor_parallel/meshes.h"
#include "common/run/report.h"

#include <stdlib.h>

void meshes_run(const TpProgram *options, Run *run, json_t *report) {
    const Config *c = &run->config;
    const DeviceModel *model = device_model(c->device_model);
    Comm *world = run->job.world;
    scaling_check_devices(world, NULL);
    file_make_folder(c->output_dir);
    printf("%d devices, by the clock of %s: %s\n", world->size, model->name, model->about);
    printf("%.4g FLOP/s, memory %.4g bytes/s, links %.4g s and %.4g bytes/s\n", model->flops,
           model->memory_bandwidth, model->inside.latency, model->inside.bandwidth);
    json_t *results = json_object();
    report_set_integer(report, "devices", world->size);
    if (options->sweep != CUT_SWEEP_OVERLAP)
        json_object_set_new(results, "meshes", meshes_sweep(c, world, run->data));
    if (options->sweep != CUT_SWEEP_MESHES) {
        sliced_check_sizes(c, world);
        json_object_set_new(results, "overlap", overlap_sweep(c, world, run->data));
        layer_draw(c, world);
    }
    json_object_set_new(report, "sweep", results);
    if (world->rank == 0) report_write(report, c->output_dir);
}
