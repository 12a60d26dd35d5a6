/* A pipeline by a schedule that can be run, with messages too large to be on their way before they are asked for: a stage that
 * used a tape again as soon as another one has finished would wait for what it has sent, while the other stage waits for it.
 * It has the bits of one device.
 *
 * TEST np: 3
 * TEST variants: float */
#include "tests/staged.h"

int main(void) {
    Comm *world = ranks_world();
    enum { STAGES = 3, STEPS = 2 };
    Schedule *schedule = schedule_read("tests/fixtures/waits.csv");
    char *problem, *hint;
    Plan *plan = plan_new(schedule, &problem, &hint);
    CHECK(plan, hint, "%s", problem);
    ModelConfig model = config_preset("tiny")->model;
    model.V = 40;
    model.C = model.F = 64;
    model.L = 2;
    model.H = model.K = 2;
    model.T = 96;
    Config c = record_config(world, &model, 128, schedule->microbatches); /* a message of 3 MB */
    c.data_parallel = 1;
    c.pipeline_parallel = STAGES;
    c.global_batch = c.micro_batch * c.num_microbatches;
    Config alone_config = config_alone(&c);
    Training alone = training_new(&alone_config, model.T, 1, 0.2);
    Record one = train_on_one(world, &alone, STEPS);
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){1, STAGES, 1});
    Device *device = device_new_cpu(0);
    Staged *s = staged_new(&c, &mesh, plan, device, &alone.data.dataset);
    Record record = train_staged(s, STEPS);
    ok_on_all(world, same_bits(&record, &one), "nobody waits for ever, and the bits are those of one device");
    record_free(&record);
    record_free(&one);
    staged_delete(s);
    training_delete(&alone);
    device_delete(device);
    mesh_close(&mesh);
    plan_and_schedule_delete(plan);
    comm_close(world);
    return tap_done();
}
