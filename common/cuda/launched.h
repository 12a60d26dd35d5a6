/* launched: every call of CUDA, cuBLAS and NCCL is checked. */
#ifndef LAUNCHED_H
#define LAUNCHED_H

#include "common/tensor/device.h"

/* In front of a launch. */
void cuda_launching(Queue *q);
/* Behind it: counts it, and tells of it. error: what cudaGetLastError said behind it; any but success ends the program with the
 * kernel's name, the error's, and a hint. */
void cuda_launched(Queue *q, const char *kernel, int error);
/* CUDA(cudaMalloc(&p, n)): an error ends the program with the call, the error's name and a hint, in one line. */
#define CUDA(call) cuda_check((int)(call), #call)
void cuda_check(int error, const char *call);

#endif
