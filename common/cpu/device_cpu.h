/* device_cpu: the CPU as a device. */
#ifndef DEVICE_CPU_H
#define DEVICE_CPU_H

#include "common/tensor/kernels.h"

extern const Kernels kernels_cpu;

/* A CPU device with the threads that affinity and cgroups leave to this process (OMP_NUM_THREADS caps them).
 * budget: bytes that all classes together may hold, 0 for no limit. */
Device *device_new_cpu(int64_t budget);

#endif
