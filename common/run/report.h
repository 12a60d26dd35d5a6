/* report: report.json, what a run was and what came out of it. Every key of the format is there from the
 * start, null until it is set. */
#ifndef REPORT_H
#define REPORT_H

#include "common/comm/comm.h"

#include <jansson.h>

/* {chapter, arguments, machine {...}, devices ... seconds}: chapter, arguments and machine are filled in. */
json_t *report_new(const char *chapter, int argc, char **argv);
/* Sets one key (it must be one of the format's); takes over `value`. NULL sets null. */
void report_set(json_t *report, const char *key, json_t *value);
/* A number; null where it is not finite. */
void report_set_real(json_t *report, const char *key, double value);
void report_set_integer(json_t *report, const char *key, int64_t value);
/* The `memory` key: for each device, each class {now, peak}, and joint_peak, in bytes. A new reference. */
json_t *report_memory(const MemoryUse *devices, int count);
/* ... of all devices of a group, from what each gives; every rank calls it, and has the list. */
json_t *report_memory_of_all(Comm *comm, const MemoryUse *mine);
/* The `queue` key: for each device what its queue was given in one step, {launches, synchronisations, bytes_to_device,
 * bytes_to_host}: the host waited so often, and on a CPU nothing is launched. A new reference. */
json_t *report_queue(const QueueCounts *devices, int count);
/* ... of all devices of a group, as report_memory_of_all. */
json_t *report_queue_of_all(Comm *comm, const QueueCounts *mine);
/* The `comm` key: for each device of a group, each collective {calls, bytes}. Every rank calls it with what it has counted
 * (comm->counts, or a part of them), and has the list: a new reference. What this call itself sends is not in it. */
json_t *report_comm(Comm *comm, const CommCount counts[COMM_KINDS]);
/* <output-dir>/report.json, in one step. */
void report_write(const json_t *report, const char *output_dir);
/* One more key in the report of a folder, beside those of the format; takes over `value`. */
void report_add(const char *output_dir, const char *key, json_t *value);

/* {cpu, cores, blas, compiler, commit} of this machine and this program; the caller drops the reference. */
json_t *report_machine(void);

#endif
