/* bf16 as CUDA's header has it: the upper half of a float; to nearest, ties to even, a NaN stays one. */
#ifndef EMULATOR_CUDA_BF16_H
#define EMULATOR_CUDA_BF16_H

#include <stdint.h>
#include <string.h>

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t wide = (uint32_t)x.bits << 16;
    float y;
    memcpy(&y, &wide, sizeof y);
    return y;
}

static inline __nv_bfloat16 __float2bfloat16(float x) {
    uint32_t wide;
    memcpy(&wide, &x, sizeof wide);
    if (x != x) return {(uint16_t)(wide >> 16 | 0x40)};
    return {(uint16_t)((wide + 0x7fff + (wide >> 16 & 1)) >> 16)};
}

#endif
