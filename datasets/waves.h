/* waves: noisy waves and what a small network can learn about them. A sample is two rows of 128 points:
 *
 *   x[t] = sin(s + a) + cos(2 s + b) + sin(3 s + c) + N(0, 0.1)
 *
 *   y[t] = 0.8 x[t - 5] + 0.1 x[t]^2 + N(0, 0.05)
 *
 * with s = 2 pi t / 128 and phases a, b, c uniform in [0, 2 pi); t - 5 goes around the circle: x[-1] is
 * x[127].
 *
 * Every number is a function of (seed, split, index of the sample): any slice of a batch can be made alone,
 * samples never repeat, and validation samples come from streams of their own.
 *
 * The floor. Given x, the best prediction in the mean square is the mean of y, the part before the noise;
 * what is left is the noise's variance. So no model has an expected squared error below 0.05^2 = 0.0025. */
#ifndef WAVES_H
#define WAVES_H

#include "common/data/data.h"
#include "common/tensor/tensor.h"

enum { WAVE_POINTS = 128 };
#define WAVE_NOISE_FLOOR (0.05 * 0.05) /* of the mean squared error */

/* Samples first .. first + count of a split: x and y (count,128), overwritten; best (count,128), the mean of
 * y given x, or NULL. */
void waves_make(uint64_t seed, Split split, int64_t first, int64_t count, real *x, real *y, real *best);

/* A batch of them as tensors, (count,128) each. Nothing asks for the gradient of x: it is constant. */
typedef struct {
    Tensor x, y, best;
} Waves;
Waves waves_new(Device *device, int64_t count);
void waves_load(Waves *waves, uint64_t seed, Split split, int64_t first);
void waves_free(Waves *waves);

/* The mean of (prediction - y)^2. */
double waves_error(const Waves *waves, const Tensor *prediction);

/* Pictures of the first wave: <folder>/sample.png shows x and y, <folder>/prediction.png the
 * prediction as well. */
void waves_draw(const Waves *waves, const Tensor *prediction, const char *folder);

#endif
