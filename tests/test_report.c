/* report.json: all keys of the format, null where nothing was set, numbers as they were, the machine. */
#define _GNU_SOURCE
#include "common/run/report.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <math.h>

static void set_unknown(void *report) { report_set_integer(report, "looss", 1); }

/* What a group of one has counted; the call itself is not in it. */
static void test_devices(void) {
    Comm *alone = comm_self();
    MemoryUse use = {.now = {[MEMORY_PARAMETERS] = 12}, .joint_peak = 1LL << 40};
    int32_t value = 1;
    comm_all_gather(alone, NULL, &value, &value, 1, TYPE_I32);
    alone->counts[COMM_ALL_GATHER].bytes = 1LL << 40;
    json_t *comm = report_comm(alone, alone->counts), *memory = report_memory_of_all(alone, &use);
    QueueCounts given = {1, 2, 1LL << 40, 4};
    json_t *queue = report_queue_of_all(alone, &given);
    const json_t *gathers = json_object_get(json_array_get(comm, 0), "all_gather");
    ok(json_array_size(comm) == 1 && json_object_size(json_array_get(comm, 0)) == COMM_KINDS,
       "comm: a device, all kinds");
    ok(json_integer_value(json_object_get(gathers, "calls")) == 1 &&
           json_integer_value(json_object_get(gathers, "bytes")) == 1LL << 40,
       "calls and bytes as they were before");
    ok(json_integer_value(json_object_get(json_array_get(memory, 0), "joint_peak")) == 1LL << 40,
       "memory of all");
    const json_t *counts = json_array_get(queue, 0);
    ok(json_array_size(queue) == 1 && json_object_size(counts) == 4 &&
           json_integer_value(json_object_get(counts, "launches")) == 1 &&
           json_integer_value(json_object_get(counts, "synchronisations")) == 2 &&
           json_integer_value(json_object_get(counts, "bytes_to_device")) == 1LL << 40 &&
           json_integer_value(json_object_get(counts, "bytes_to_host")) == 4,
       "queue: what each device was given");
    json_decref(comm);
    json_decref(memory);
    json_decref(queue);
    comm_close(alone);
}

int main(void) {
    /* as DESIGN section 5 lists them */
    static const char *const keys[] = {"chapter",
                                       "arguments",
                                       "machine",
                                       "devices",
                                       "threads_per_device",
                                       "mesh",
                                       "parameters",
                                       "matmul_parameters",
                                       "flops_per_token",
                                       "steps",
                                       "tokens",
                                       "wall_s",
                                       "model_s",
                                       "tokens_per_s",
                                       "peak_gflops",
                                       "mfu",
                                       "loss",
                                       "val_loss",
                                       "bits_per_byte",
                                       "entropy_floor",
                                       "trigram_loss",
                                       "saves",
                                       "save_s",
                                       "memory",
                                       "comm",
                                       "queue",
                                       "seconds"};
    char *folder = file_temp_folder("shard-test"), *path = xprintf("%s/report.json", folder);
    char *arguments[] = {(char[]){"build/02"}, (char[]){"--seed"}, (char[]){"7 \"8\""}, (char[]){"\xff"}};
    json_t *report = report_new("02_minigpt", COUNT_OF(arguments), arguments);
    report_set_real(report, "loss", 0.1 + 0.2);
    report_set_real(report, "val_loss", NAN);
    report_set_real(report, "mfu", INFINITY);
    report_set_integer(report, "parameters", 27430481);
    report_set(report, "mesh", json_pack("{s:i}", "data", 4));
    report_write(report, folder);

    json_t *read = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    ok(json_object_size(read) == COUNT_OF(keys), "%d keys", (int)json_object_size(read));
    for (int i = 0; i < COUNT_OF(keys); i++) ok(json_object_get(read, keys[i]) != NULL, "key %s", keys[i]);
    ok(json_real_value(json_object_get(read, "loss")) == 0.1 + 0.2, "a number with all its bits");
    ok(json_is_null(json_object_get(read, "val_loss")) && json_is_null(json_object_get(read, "mfu")),
       "not finite: null");
    ok(json_is_null(json_object_get(read, "steps")), "not set: null");
    ok(json_integer_value(json_object_get(read, "parameters")) == 27430481, "a count");
    const json_t *list = json_object_get(read, "arguments");
    ok(json_array_size(list) == 3 && !strcmp(json_string_value(json_array_get(list, 1)), "7 \"8\"") &&
           json_is_null(json_array_get(list, 2)),
       "arguments, and null for one that is not UTF-8");
    const json_t *machine = json_object_get(read, "machine");
    ok(json_string_length(json_object_get(machine, "cpu")) > 0 &&
           json_integer_value(json_object_get(machine, "cores")) > 0,
       "cpu: %s", json_string_value(json_object_get(machine, "cpu")));
    ok(json_string_length(json_object_get(machine, "blas")) > 0 &&
           json_string_length(json_object_get(machine, "compiler")) > 0 && json_object_get(machine, "commit"),
       "blas, compiler, commit");
    json_decref(read);
    report_add(folder, "pipeline", json_pack("{s:f}", "bubble", 0.375));
    read = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    ok(json_real_value(json_object_get(json_object_get(read, "pipeline"), "bubble")) == 0.375 &&
           json_object_size(read) == COUNT_OF(keys) + 1 &&
           json_integer_value(json_object_get(read, "parameters")) == 27430481,
       "one more key, beside all that were there");
    json_decref(read);

    Exit e = expect_exit(set_unknown, report);
    ok(refused(&e, 1, "bug"), "a key that the format does not have: %s", e.text);
    json_decref(report);
    test_devices();
    file_remove(folder);
    free(path);
    free(folder);
    return tap_done();
}
