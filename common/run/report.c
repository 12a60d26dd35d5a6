#include "common/run/report.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#ifdef __APPLE__
#    include <sys/sysctl.h>
#endif

#ifndef COMMIT
#    define COMMIT ""
#endif

static const char *const KEYS[] = {
    "chapter",
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
    "seconds",
};

/* ---- the machine ---- */

/* What follows "model name :" in /proc/cpuinfo; arm64 kernels do not have it. */
static bool linux_cpu(char *name, size_t capacity) {
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, capacity, "%s", colon[1] ? colon + 2 : "");
        found = true;
    }
    if (f) fclose(f);
    return found;
}

static json_t *cpu_name(void) {
    char name[512] = "";
    struct utsname system;
#ifdef __APPLE__
    size_t capacity = sizeof name;
    if (sysctlbyname("machdep.cpu.brand_string", name, &capacity, NULL, 0) == 0) return json_string(name);
#endif
    if (linux_cpu(name, sizeof name)) return json_string(name);
    return uname(&system) == 0 ? json_string(system.machine) : json_null();
}

json_t *report_machine(void) {
#ifdef __clang__
    const char *compiler = "clang " __clang_version__;
#else
    const char *compiler = "gcc " __VERSION__;
#endif
    char *blas = xprintf("%s, kernels for %s", openblas_get_config(), openblas_get_corename());
    json_t *machine =
        json_pack("{s:o, s:i, s:s, s:s, s:o}", "cpu", cpu_name(), "cores", omp_get_num_procs(), "blas", blas,
                  "compiler", compiler, "commit", *COMMIT ? json_string(COMMIT) : json_null());
    ASSERT(machine);
    free(blas);
    return machine;
}

/* ---- the report ---- */

json_t *report_new(const char *chapter, int argc, char **argv) {
    json_t *report = json_object(), *arguments = json_array();
    for (int i = 1; i < argc; i++) {
        json_t *argument = json_string(argv[i]); /* NULL when it is not UTF-8 */
        json_array_append_new(arguments, argument ? argument : json_null());
    }
    for (int i = 0; i < COUNT_OF(KEYS); i++) json_object_set_new(report, KEYS[i], json_null());
    report_set(report, "chapter", json_string(chapter));
    report_set(report, "arguments", arguments);
    report_set(report, "machine", report_machine());
    return report;
}

void report_set(json_t *report, const char *key, json_t *value) {
    ASSERT(json_object_get(report, key));
    json_object_set_new(report, key, value ? value : json_null());
}

void report_set_real(json_t *report, const char *key, double value) {
    report_set(report, key, json_real(value)); /* json_real gives NULL where JSON has no such number */
}

void report_set_integer(json_t *report, const char *key, int64_t value) {
    report_set(report, key, json_integer(value));
}

json_t *report_memory(const MemoryUse *devices, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_t *device = json_object();
        for (int c = 0; c < MEMORY_CLASSES; c++)
            json_object_set_new(device, memory_class_names[c],
                                json_pack("{s:I, s:I}", "now", (json_int_t)devices[i].now[c], "peak",
                                          (json_int_t)devices[i].peak[c]));
        json_object_set_new(device, "joint_peak", json_integer(devices[i].joint_peak));
        json_array_append_new(list, device);
    }
    return list;
}

/* Row r (bytes) is what rank r gave; the caller frees it. */
static void *gather(Comm *comm, const void *mine, size_t bytes) {
    char *rows = xmalloc((size_t)comm->size * bytes);
    comm_all_gather(comm, NULL, mine, rows, (int64_t)(bytes / sizeof(int32_t)), TYPE_I32);
    return rows;
}

json_t *report_memory_of_all(Comm *comm, const MemoryUse *mine) {
    MemoryUse *devices = gather(comm, mine, sizeof *mine);
    json_t *list = report_memory(devices, comm->size);
    free(devices);
    return list;
}

json_t *report_queue(const QueueCounts *devices, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        const QueueCounts *d = &devices[i];
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:I}", "launches", (json_int_t)d->launches,
                                              "synchronisations", (json_int_t)d->synchronisations,
                                              "bytes_to_device", (json_int_t)d->bytes_to_device,
                                              "bytes_to_host", (json_int_t)d->bytes_to_host));
    }
    return list;
}

json_t *report_queue_of_all(Comm *comm, const QueueCounts *mine) {
    QueueCounts *devices = gather(comm, mine, sizeof *mine);
    json_t *list = report_queue(devices, comm->size);
    free(devices);
    return list;
}

json_t *report_comm(Comm *comm, const CommCount counts[COMM_KINDS]) {
    CommCount mine[COMM_KINDS]; /* the call counts itself, maybe in `counts` */
    memcpy(mine, counts, sizeof mine);
    CommCount(*devices)[COMM_KINDS] = gather(comm, mine, sizeof mine);
    json_t *list = json_array();
    for (int r = 0; r < comm->size; r++) {
        json_t *device = json_object();
        for (int k = 0; k < COMM_KINDS; k++)
            json_object_set_new(device, comm_kind_names[k],
                                json_pack("{s:I, s:I}", "calls", (json_int_t)devices[r][k].calls, "bytes",
                                          (json_int_t)devices[r][k].bytes));
        json_array_append_new(list, device);
    }
    free(devices);
    return list;
}

void report_write(const json_t *report, const char *output_dir) {
    char *text = json_dumps(report, JSON_INDENT(2)), *path = xprintf("%s/report.json", output_dir);
    ASSERT(text);
    file_write(path, text, strlen(text));
    free(text);
    free(path);
}

void report_add(const char *output_dir, const char *key, json_t *value) {
    char *path = xprintf("%s/report.json", output_dir);
    json_t *report = json_load_file(path, 0, NULL);
    ASSERT(report);
    json_object_set_new(report, key, value);
    report_write(report, output_dir);
    json_decref(report);
    free(path);
}
