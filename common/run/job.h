/* job: a program on several devices, a process for each, which do the same and stay together. Rank 0 speaks: what the
 * others print goes nowhere. */
#ifndef JOB_H
#define JOB_H

#include "common/comm/mesh.h"
#include "common/config/config.h"

/* The world, and this rank's device in it, which counts what the world's calls take. */
typedef struct {
    Comm *world;
    Device *device;
} Job;

/* Once, after args_parse. devices: how many were announced (platform_ranks), by which the flags were checked; another
 * number ends the program with status 2. */
Job job_open(const Config *config, int devices);
void job_close(Job *job);
/* What makes the calls on the memory of such devices (comm_on_device): NCCL, or NULL, where it is not there, where GPUs are
 * shared, and by the model clock. */
const CommBackend *job_device_calls(const Config *config);

/* Every rank of the world calls these; all have the same answer. */

/* Has the first Ctrl-C come to one of them? So they leave together, after the same step. */
bool job_interrupted(Comm *world);
/* Of all devices together, at work at the same time: the sum of machine_peak_gflops, or what the clock's model says. Where they
 * are more than the cores, those without a core of their own add nothing to what the others can do. */
double job_peak_gflops(Comm *world, Device *device, ElementType type);

/* "4 devices, which share memory", and the picture of the mesh. */
void job_print_mesh(const Mesh *mesh);

#endif
