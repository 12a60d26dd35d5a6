/* The waves: made by index, apart from each other, of the stated shape, with the stated noise.
 * TEST variants: float double asan */
#include "datasets/waves.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

enum { N = 2000, P = WAVE_POINTS };

static double mean_square(const real *a, const real *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum / (double)count;
}

/* The share of x's energy outside the harmonics 1, 2, 3, times 128: what noise of that variance
 * has left there. */
static double noise_variance(const real *x) {
    double energy = 0;
    for (int t = 0; t < P; t++) energy += (double)x[t] * (double)x[t];
    for (int f = 1; f <= 3; f++) {
        double c = 0, s = 0;
        for (int t = 0; t < P; t++) {
            c += (double)x[t] * cos(2 * acos(-1) * f * t / P);
            s += (double)x[t] * sin(2 * acos(-1) * f * t / P);
        }
        energy -= 2 * (c * c + s * s) / P;
    }
    return energy / (P - 6);
}

int main(void) {
    size_t bytes = (size_t)N * P * sizeof(real);
    real *x = xmalloc(bytes), *y = xmalloc(bytes), *best = xmalloc(bytes);
    real *x2 = xmalloc(bytes), *y2 = xmalloc(bytes), *zero = xcalloc(1, bytes);
    waves_make(1, SPLIT_TRAIN, 0, N, x, y, best);
    waves_make(1, SPLIT_TRAIN, 777, 100, x2, y2, NULL);
    ok(!memcmp(x2, x + 777 * P, 100 * P * sizeof(real)) && !memcmp(y2, y + 777 * P, 100 * P * sizeof(real)),
       "a slice of a batch is a slice of the whole");

    waves_make(1, SPLIT_VALIDATION, 0, N, x2, y2, NULL);
    double apart = INFINITY;
    for (int i = 0; i < N; i++) apart = fmin(apart, mean_square(x + i * P, x2 + i * P, P));
    ok(apart > 0.01, "validation waves are others: nearest at the same index %g", apart);
    waves_make(2, SPLIT_TRAIN, 0, N, x2, y2, NULL);
    ok(mean_square(x, x2, (int64_t)N * P) > 1, "another seed: other waves");
    apart = INFINITY;
    for (int i = 1; i < N; i++) apart = fmin(apart, mean_square(x, x + i * P, P));
    ok(apart > 0.01, "no wave comes twice: nearest to the first %g", apart);

    /* three sines of random phases have the variance 3/2; on top the noise of 0.1^2 */
    close_to(mean_square(x, zero, (int64_t)N * P), 1.51, 0.02, "mean square of x");
    double noise = 0;
    for (int i = 0; i < N; i++) noise += noise_variance(x + i * P) / N;
    close_to(100 * noise, 1, 0.02, "100 x variance of the input noise");
    close_to(mean_square(y, best, (int64_t)N * P) / WAVE_NOISE_FLOOR, 1, 0.02,
             "best prediction's error over the floor");

    double largest = 0;
    for (int i = 0; i < N; i++)
        for (int t = 0; t < P; t++) {
            double want =
                0.8 * (double)x[i * P + (t + P - 5) % P] + 0.1 * (double)x[i * P + t] * (double)x[i * P + t];
            largest = worse(largest, fabs(want - (double)best[i * P + t]));
        }
    ok(largest < 1e-5, "best = 0.8 x[t - 5] + 0.1 x[t]^2, off by %g", largest);
    free(x), free(y), free(best), free(x2), free(y2), free(zero);
    return tap_done();
}
