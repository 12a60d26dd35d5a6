/* TEST variants: float, all: double asan
 * bf16: rounding against a search for the nearest, and against another implementation's numbers
 * (tests/reference/make_bf16_fixture.py); casts; sums and maxima over ranks. */
#include "common/base/bf16.h"
#include "common/comm/reduce.h"
#include "common/cpu/device_cpu.h"
#include "tests/tap.h"
#include "tests/tensors.h"

#include <inttypes.h>

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- conversions ---- */

static void test_all_values(void) {
    int wrong = 0, nans = 0, quiet = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        Bf16 x = {(uint16_t)i};
        float wide = bf16_to_float(x);
        uint16_t back = bf16_from_float(wide).bits;
        if (wide != wide) {
            nans++;
            quiet += back == (i | 0x40);
        } else {
            wrong += back != i;
        }
    }
    ok(wrong == 0, "each of the 65536 that is a number comes back, but %d", wrong);
    ok(nans == 254 && quiet == nans, "%d NaNs stay NaNs, and become quiet", nans);
}

/* Of the bf16 at or next to the cut bits, in exact arithmetic: the nearest, and of two the even one. Beyond the largest the
 * next would be 2^128. */
static uint16_t nearest(uint32_t bits) {
    uint16_t low = (uint16_t)(bits >> 16), high = (uint16_t)(low + 1);
    double x = fabs((double)float_of(bits)), below = fabs((double)bf16_to_float((Bf16){low}));
    double above = (high & 0x7fff) == 0x7f80 ? 0x1p128 : fabs((double)bf16_to_float((Bf16){high}));
    if (x - below != above - x) return x - below < above - x ? low : high;
    return low & 1 ? high : low;
}

static void test_rounding(void) {
    int wrong = 0, count = 0;
    uint32_t first = 0;
    /* around each, and between it and the next: the ends, the middle and its neighbours */
    static const uint32_t rest[] = {0, 1, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff};
    for (uint32_t i = 0; i < 65536; i++) {
        for (int k = 0; k < COUNT_OF(rest); k++) {
            uint32_t bits = i << 16 | rest[k];
            float x = float_of(bits);
            if (!isfinite(x)) continue;
            count++;
            if (bf16_from_float(x).bits == nearest(bits)) continue;
            if (!wrong++) first = bits;
        }
    }
    ok(wrong == 0,
       "%d floats at, next to and between two bf16 are rounded to the nearest, but %d (0x%08" PRIx32 ")",
       count, wrong, first);
    ok(bf16_from_float(float_of(0x7f7f8000)).bits == 0x7f80, "half a step beyond the largest is infinity");
    ok(bf16_from_float(float_of(0x7f7f7fff)).bits == 0x7f7f, "less than that is the largest");
    ok(bf16_from_float(float_of(0x7f800001)).bits == 0x7fc0, "a NaN whose lower bits alone say so stays one");
    ok(bf16_from_float(-0.0F).bits == 0x8000, "-0 keeps its sign");
}

static void test_fixture(void) {
    FILE *file = fopen("tests/fixtures/bf16.csv", "r");
    uint32_t bits, want;
    int wrong = 0, count = 0;
    CHECK(file, "run the test from the root of the repository", "tests/fixtures/bf16.csv: cannot be read");
    for (; fscanf(file, "%" SCNx32 ",%" SCNx32 "\n", &bits, &want) == 2; count++)
        wrong += bf16_from_float(float_of(bits)).bits != want;
    fclose(file);
    ok(wrong == 0 && count >= 200, "%d floats are rounded as by ml_dtypes, but %d", count, wrong);
}

/* ---- casts ---- */

static void test_cast(Device *d) {
    static const int64_t counts[] = {0, 1, 31, 70001};
    for (int k = 0; k < COUNT_OF(counts); k++) {
        int64_t n = counts[k];
        Tensor x = tensor_new(d, MEMORY_ACTIVATIONS, "x", TYPE_REAL, SHAPE(n)),
               y = tensor_new(d, MEMORY_ACTIVATIONS, "y", TYPE_BF16, SHAPE(n)),
               z = tensor_new(d, MEMORY_ACTIVATIONS, "z", TYPE_REAL, SHAPE(n));
        fill_normal(&x, 1, 2, 3);
        d->kernels->cast(&d->queue, &x, &y);
        d->kernels->cast(&d->queue, &y, &z);
        real *before = tensor_to_host(&x), *after = tensor_to_host(&z);
        Bf16 *between = tensor_to_host(&y);
        int64_t wrong = 0;
        for (int64_t i = 0; i < n; i++) {
            Bf16 want = bf16_from_float((float)before[i]);
            wrong += between[i].bits != want.bits || after[i] != (real)bf16_to_float(want);
        }
        ok(wrong == 0 && tensor_bytes(&y) == 2 * n, "%lld elements become bf16 and come back, but %lld",
           (long long)n, (long long)wrong);
        free(before), free(between), free(after);
        tensor_free(&x), tensor_free(&y), tensor_free(&z);
    }
}

/* ---- over ranks ---- */

static void test_reduce(void) {
    enum { RANKS = 5, COUNT = 5000 };
    Bf16 *rows = xmalloc(RANKS * COUNT * sizeof *rows), *sum = xmalloc(COUNT * sizeof *sum),
         *most = xmalloc(COUNT * sizeof *most);
    const void *at[RANKS];
    uint32_t state = 1;
    for (int i = 0; i < RANKS * COUNT; i++) {
        state = state * 1664525 + 1013904223;
        rows[i] = bf16_from_float((float)(int32_t)state * 0x1p-31F);
    }
    for (int r = 0; r < RANKS; r++) at[r] = rows + r * COUNT;
    rows[2 * COUNT + 7] = (Bf16){0x7fc0};
    comm_reduce(REDUCE_SUM, TYPE_BF16, at, RANKS, sum, COUNT);
    comm_reduce(REDUCE_MAX, TYPE_BF16, at, RANKS, most, COUNT);
    int wrong = 0;
    for (int i = 0; i < COUNT; i++) {
        float s = bf16_to_float(rows[i]), m = s;
        for (int r = 1; r < RANKS; r++) {
            float x = bf16_to_float(rows[r * COUNT + i]);
            s += x;
            m = x > m || x != x ? x : m;
        }
        wrong += sum[i].bits != bf16_from_float(s).bits || most[i].bits != bf16_from_float(m).bits;
    }
    ok(wrong == 0, "sums over %d ranks are rounded once, maxima not at all, a NaN stays: but %d", RANKS,
       wrong);
    free(rows), free(sum), free(most);
}

int main(void) {
    Device *device = device_new_cpu(0);
    test_all_values();
    test_rounding();
    test_fixture();
    test_cast(device);
    test_reduce();
    device_delete(device);
    return tap_done();
}
