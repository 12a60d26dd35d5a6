#include "tests/emulator/cases.h"

__global__ void nothing_kernel(int) {}
CASE(threads) { LAUNCH(nothing_kernel, 1, broken ? 2000 : 1000, 0, q, 1); }
CASE(blocks_in_y) { LAUNCH(nothing_kernel, dim3(1, broken ? 65536 : 65535), 1, 0, q, 1); }
CASE(no_blocks) { LAUNCH(nothing_kernel, broken ? 0 : 1, 32, 0, q, 1); }
CASE(dynamic) { LAUNCH(nothing_kernel, 1, 1, (broken ? 49 : 48) << 10, q, 1); }

template <bool broken> __global__ void static_kernel(float *y) {
    SHARED(float, tile, [broken ? 12289 : 12288]);
    tile[0] = 1;
    y[0] = tile[0];
}
CASE(static) { LAUNCH_CASE(static_kernel, 1, 1, unwritten<float>(1)); }

template <bool broken> __global__ void together_kernel(float *y) {
    SHARED(float, tile, [1024]);
    tile[0] = 1;
    y[0] = tile[0];
}
CASE(together) {
    float *y = unwritten<float>(1);
    size_t dynamic = (broken ? 45 : 44) << 10;
    if (broken)
        LAUNCH(together_kernel<true>, 1, 1, dynamic, q, y);
    else
        LAUNCH(together_kernel<false>, 1, 1, dynamic, q, y);
}

template <bool broken> __global__ void no_dynamic_kernel(float *y) {
    DYNAMIC_SHARED(float, tile);
    tile[0] = 1;
    y[0] = tile[0];
}
CASE(no_dynamic) {
    float *y = unwritten<float>(1);
    if (broken)
        LAUNCH(no_dynamic_kernel<true>, 1, 1, 0, q, y);
    else
        LAUNCH(no_dynamic_kernel<false>, 1, 1, 4, q, y);
}
