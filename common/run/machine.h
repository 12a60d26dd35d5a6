/* machine: what this computer can do, measured, and how the program was started on it. */
#ifndef MACHINE_H
#define MACHINE_H

#include "common/config/config.h"
#include "common/tensor/device.h"

/* The device that the flags ask for: --device-memory, --gemm, --clock. */
Device *machine_device(const Config *config);

/* GFLOP/s of one large matrix product (2048 x 2048 x 2048, best of 5) with the library's own threads: the
 * peak that an MFU is held against. About half a second. */
double machine_peak_gflops(const Device *device);
/* The matrix kernels that OpenBLAS picked for this CPU: "SkylakeX". */
const char *machine_blas_kernels(void);
/* What to try where others may be faster; NULL: nothing. The caller frees it. */
char *machine_blas_hint(void);
/* A program for one device ends here when mpiexec or srun started several of it. */
void machine_refuse_many_processes(void);

#endif
