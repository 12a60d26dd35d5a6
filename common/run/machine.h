/* machine: what this computer can do, measured, and how the program was started on it. */
#ifndef MACHINE_H
#define MACHINE_H

#include "common/comm/clock.h"
#include "common/config/config.h"
#include "common/tensor/tensor.h"

/* The device that the flags ask for: --device, --device-memory, --gemm, --clock. Of the GPUs of a machine its processes take
 * one each, or several take one: --share-gpu. */
Device *machine_device(const Config *config);
/* Another one, with a budget of its own (0: none), whose time is that of `model` on `clock`, which must outlive it. model
 * NULL: the machine's time. */
Device *machine_clock_device(const Config *config, int64_t budget, Clock *clock, const DeviceModel *model);

/* GFLOP/s of one large matrix product of this type, best of 5: the peak that an MFU is held against. On a CPU, which computes in
 * TYPE_REAL whatever the type, 2048 x 2048 x 2048 with OpenBLAS's own threads (0 without OpenBLAS); on a GPU up to 8192, by its
 * library. About half a second. It counts in no memory account. */
double machine_peak_gflops(Device *device, ElementType type);
/* What the device is, for people: "2 CPU threads, products our own", "GPU 0, NVIDIA H100, 79 GiB". The caller frees it. */
char *machine_device_text(const Config *config, const Device *device);
/* The matrix kernels that OpenBLAS picked for this CPU: "SkylakeX". */
const char *machine_blas_kernels(void);
/* What to try where others may be faster; NULL: nothing. The caller frees it. */
char *machine_blas_hint(void);
/* A program for one device ends here when mpiexec or srun started several of it. */
void machine_refuse_many_processes(void);

#endif
