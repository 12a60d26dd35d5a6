/* nccl_calls: a group's calls on the memory of GPUs, by NCCL. For comm_on_device.
 *
 * What comm.h says of the order of sums does not hold of NCCL, which adds up as its messages travel: the same program on
 * the same GPUs gives the same bits, but not those of a CPU's ranks, and bf16 is rounded at each step; a maximum may lose a NaN.
 * Calls that do not match, NCCL does not find, but hangs; under the emulator they end the program.
 *
 * Source: the NCCL documentation, 2.28. */
#ifndef NCCL_CALLS_H
#define NCCL_CALLS_H

#include "common/comm/comm.h"

/* NULL: the program was built without NCCL. */
const CommBackend *comm_nccl(void);

#endif
