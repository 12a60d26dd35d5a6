/* The generator against the known answers of Random123 (kat_vectors, philox4x32 10), and its
 * fills against itself. */
#include "common/base/rng.h"
#include "tests/tap.h"

#include <string.h>

int main(void) {
    uint32_t out[4];
    rng_block(0, 0, 0, out);
    ok(out[0] == 0x6627e8d5 && out[1] == 0xe169c58d && out[2] == 0xbc57ac4c && out[3] == 0x9b00dbd8,
       "all zero: %08x %08x %08x %08x", out[0], out[1], out[2], out[3]);
    rng_block(UINT64_MAX, UINT64_MAX, UINT64_MAX, out);
    ok(out[0] == 0x408f276d && out[1] == 0x41c83b0e && out[2] == 0xa20bc7c6 && out[3] == 0x6d5451fd,
       "all one: %08x %08x %08x %08x", out[0], out[1], out[2], out[3]);
    rng_block(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u, out);
    ok(out[0] == 0xd16cfe09 && out[1] == 0x94fdcceb && out[2] == 0x5001e420 && out[3] == 0x24126ea1,
       "digits of pi: %08x %08x %08x %08x", out[0], out[1], out[2], out[3]);

    enum { N = 10000 };
    static real whole[N], part[N];
    uint64_t stream = rng_stream("tests.rng");
    rng_fill_normal(7, stream, 0, N, 0.5, whole);
    rng_fill_normal(7, stream, 1001, 3002, 0.5, part);
    ok(!memcmp(whole + 1001, part, 3002 * sizeof(real)), "a slice of normals is a slice of the whole");
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) sum += whole[i], squares += whole[i] * whole[i];
    ok(fabs(sum / N) < 0.02 && fabs(squares / N - 0.25) < 0.015, "normals: mean %.4f, variance %.4f", sum / N,
       squares / N);
    rng_fill_uniform(7, stream, 3, 9, -1, 1, part);
    bool same = true;
    for (int i = 0; i < 9; i++) same &= part[i] == (real)(2 * rng_uniform(7, stream, (uint64_t)(3 + i)) - 1);
    ok(same, "a fill gives the elements that rng_uniform gives");
    Rng rng = {7, stream, 0};
    int counts[3] = {0};
    for (int i = 0; i < 30000; i++) counts[rng_below(&rng, 3)]++;
    ok(counts[0] > 9700 && counts[1] > 9700 && counts[2] > 9700, "rng_below(3): %d %d %d", counts[0],
       counts[1], counts[2]);
    return tap_done();
}
