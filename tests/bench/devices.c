/* The training step of chapter 05 as a worker: the devices stay in memory with their replicas, and each line on the
 * standard input of rank 0 asks all of them for some work; meanwhile the others sleep in a broadcast. Answers are JSON,
 * one line each.
 *
 *   echo "step 20" | build/mpiexec -n 8 build/bench/devices --preset tiny --global-batch-size 32
 *   echo "step 20" | build/bench/devices --preset tiny --global-batch-size 32              one device
 *
 *   step N       N training steps: {"seconds" of all N, "loss" before the last update, "core_seconds" of all devices
 *                together: of each phase}
 *   memory       {"accounted", "rss"}: the most that was held by all devices, in bytes */
#include "chapters/05_data_parallel/replica.h"
#include "common/config/args.h"
#include "common/run/machine.h"
#include "tests/bench/answer.h"
#include "tests/bench/training.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* What rank 0 has been asked for: so many steps, or one of these. */
enum { LEAVE = 0, MEMORY = -1 };

static int64_t read_request(void) {
    char line[64];
    int64_t count;
    if (!fgets(line, sizeof line, stdin)) return LEAVE;
    if (strcmp(line, "memory\n") == 0) return MEMORY;
    CHECK_USAGE(sscanf(line, "step %" SCNd64, &count) == 1 && count > 0, "step N, or memory",
                "not a request: %s", line);
    return count;
}

static int64_t next_request(Comm *world) {
    int64_t request = world->rank == 0 ? read_request() : LEAVE;
    comm_broadcast(world, NULL, &request, sizeof request / sizeof(int32_t), TYPE_I32, 0);
    return request;
}

static json_t *run_steps(Replica *r, int64_t count) {
    MetricsRow row = {.loss = NAN};
    double spent[PHASES], all[PHASES], began = now_seconds();
    profile_clear(r->profile);
    for (int64_t i = 0; i < count; i++) {
        int64_t step = r->optimizer->step;
        profile_step_begin(r->profile, step);
        replica_step(r, step, &row);
        profile_step_end(r->profile);
    }
    comm_barrier(r->comm, NULL);
    double seconds = now_seconds() - began;

    json_t *phases = json_object();
    for (Phase phase = 0; phase < PHASES; phase++) spent[phase] = profile_core_seconds(r->profile, phase);
    comm_all_reduce(r->comm, NULL, spent, all, PHASES, TYPE_F64, REDUCE_SUM);
    for (Phase phase = 0; phase < PHASES; phase++)
        if (all[phase] > 0) json_object_set_new(phases, phase_names[phase], json_real(all[phase]));
    return json_pack("{s:f, s:f, s:o}", "seconds", seconds, "loss", row.loss, "core_seconds", phases);
}

static json_t *memory(const Replica *r) {
    double held[] = {(double)r->device->memory.joint_peak, (double)peak_resident()};
    comm_all_reduce(r->comm, NULL, held, held, COUNT_OF(held), TYPE_F64, REDUCE_SUM);
    return json_pack("{s:I, s:I}", "accounted", (json_int_t)held[0], "rss", (json_int_t)held[1]);
}

/* All devices make it, rank 0 gives it. */
static void tell(const Replica *r, json_t *json) {
    if (r->comm->rank == 0)
        answer(json);
    else
        json_decref(json);
}

int main(int argc, char **argv) {
    Comm *world = comm_world();
    Program program = {
        .about = "takes training steps on several devices when the standard input of rank 0 asks for them",
        .example = "--preset tiny --global-batch-size 32",
        .groups = ARGS_MODEL | ARGS_BATCH | ARGS_TRAIN | ARGS_RUN | ARGS_OVERLAP,
        .devices = world->size,
    };
    Config config = args_parse(argc, argv, &program);
    bench_fit_vocabulary(&config);
    RandomTokens tokens = random_tokens(&config, BENCH_SKEW, 0);
    Device *device = machine_device(&config);
    Replica *r = replica_new(&config, world, device, &tokens.dataset);
    r->profile = profile_new(device, NULL, NULL, NULL, NULL);

    tell(r, json_pack("{s:i, s:i, s:I}", "devices", world->size, "threads", device->queue.threads,
                      "tokens_per_step", (json_int_t)(config.global_batch * config.model.T)));
    for (int64_t request; (request = next_request(world)) != LEAVE;)
        tell(r, request == MEMORY ? memory(r) : run_steps(r, request));
    profile_delete(r->profile);
    replica_delete(r);
    device_delete(device);
    comm_close(world);
    return 0;
}
