/* What a program built for CPUs alone has in place of the rest of this folder. */
#include "common/cuda/device_cuda.h"

Device *device_new_cuda(int number, int64_t budget) {
    (void)number;
    (void)budget;
    fail(2, "build with make CUDA=1 for a GPU, or with make CUDA=emulated to run its kernels on this CPU",
         "--device cuda: this program is built for CPUs alone");
}

int device_cuda_count(void) { return 0; }
