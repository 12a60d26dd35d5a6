/* device_cuda: a GPU, or the emulator in its place. */
#ifndef DEVICE_CUDA_H
#define DEVICE_CUDA_H

#include "common/tensor/device.h"

/* A GPU with its own memory, and a stream as its queue; a process uses one. number: which of those that the machine has.
 * budget: bytes, 0 for no limit but the GPU's own. Exit 1 with a hint: there is none, its driver is too old, or this program
 * is built without CUDA. */
Device *device_new_cuda(int number, int64_t budget);
/* How many the machine has; 0: none that can be used, or this program is built without CUDA. */
int device_cuda_count(void);
/* From now on, whenever the host waits for a GPU, it calls this again and again: for work that needs the host to go on. */
void device_cuda_meanwhile(bool (*go_on)(void));

#endif
