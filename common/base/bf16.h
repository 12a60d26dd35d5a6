/* bf16: a float without its lower 16 bits: 8 bits of exponent, 7 behind the point. The host's and the CPU's conversions;
 * CUDA has its own type, which rounds alike. */
#ifndef BF16_H
#define BF16_H

#include "common/base/base.h"

#include <string.h>

/* A struct, so that nobody computes with the bits. */
typedef struct {
    uint16_t bits;
} Bf16;

/* Exact. */
static inline float bf16_to_float(Bf16 x) {
    uint32_t bits = (uint32_t)x.bits << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* The nearest one; of two equally near the one whose last bit is 0. From half a step beyond the largest on: infinity. A NaN stays
 * one, a quiet one. */
static inline Bf16 bf16_from_float(float wide) {
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
    return (Bf16){(uint16_t)((wide != wide ? quiet : nearest) >> 16)};
}

#endif
