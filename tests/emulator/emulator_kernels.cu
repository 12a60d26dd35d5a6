#include "tests/emulator/cases.h"

extern "C" {
#include "common/cuda/device_cuda.h"
}

Case *Case::first;

int main(int count, char **words) {
    base_set_program(words[0]);
    Device *device = device_new_cuda(0, 0);
    Queue *q = &device->queue;
    for (Case *c = Case::first; c; c = c->next) {
        if (count < 2 || strcmp(c->name, words[1]) != 0) continue;
        c->run(q, count > 2);
        CUDA((int)cudaStreamSynchronize((cudaStream_t)q->stream));
        emulator_counts_print(stdout);
        return 0;
    }
    fail(2, "cases are in tests/emulator", "no case of that name");
}
