/* TEST variants: float double
 * The vectorised exponential of the CPU kernels against the C library's in the next wider type. */
#include "common/cpu/device_cpu.h"
#include "common/cpu/kernels_cpu.h"
#include "tests/tap.h"
#include "tests/tensors.h"

#include <float.h>

#ifdef REAL_DOUBLE
static const double lowest = -708, highest = 709, ulp = DBL_EPSILON, smallest = DBL_MIN;
#else
static const double lowest = -87, highest = 88, ulp = FLT_EPSILON, smallest = FLT_MIN;
#endif

/* The largest error of `count` points from..to, in units in the last place of the result's binade. */
static double worst_error(double from, double to, int count, double *where) {
    double worst = 0;
    for (int i = 0; i <= count; i++) {
        real x = (real)(from + (to - from) * i / count);
        long double want = expl((long double)x);
        int exponent;
        frexpl(want, &exponent);
        double error =
            (double)fabsl(((long double)exp_real(x) - want) / ldexpl((long double)ulp, exponent - 1));
        if (error > worst || isnan(error)) worst = isnan(error) ? INFINITY : error, *where = (double)x;
    }
    return worst;
}

/* GELU and its slope, which stand on it, against tanh in the next wider type: the largest errors over x = -12 .. 12,
 * in rounding units of the larger of |x| and 1. */
static void test_gelu(void) {
    enum { COUNT = 100003 };
    Device *d = device_new_cpu(0);
    Tensor x = tensor_new(d, MEMORY_ACTIVATIONS, "x", TYPE_REAL, SHAPE(COUNT)),
           y = tensor_new(d, MEMORY_ACTIVATIONS, "y", TYPE_REAL, SHAPE(COUNT)),
           dy = tensor_new(d, MEMORY_ACTIVATIONS, "dy", TYPE_REAL, SHAPE(COUNT)),
           dx = tensor_new(d, MEMORY_ACTIVATIONS, "dx", TYPE_REAL, SHAPE(COUNT));
    for (int i = 0; i < COUNT; i++) {
        set_real_at(&x, i, (real)(24.0 * i / (COUNT - 1) - 12));
        set_real_at(&dy, i, 1);
    }
    d->kernels->gelu(&d->queue, &x, &y);
    d->kernels->gelu_backward(&d->queue, &dy, &x, &dx, false);
    double worst = 0, worst_slope = 0;
    for (int i = 0; i < COUNT; i++) {
        long double X = real_at(&x, i), a = sqrtl(2 / acosl(-1.0L)), u = a * (X + 0.044715L * X * X * X);
        long double slope =
            0.5L * (1 + tanhl(u)) + 0.5L * X * (1 - tanhl(u) * tanhl(u)) * a * (1 + 3 * 0.044715L * X * X);
        double unit = ulp / 2 * fmax(1, fabs((double)X));
        worst = worse(worst, (double)fabsl(real_at(&y, i) - 0.5L * X * (1 + tanhl(u))) / unit);
        worst_slope = worse(worst_slope, (double)fabsl(real_at(&dx, i) - slope) / unit);
    }
    ok(worst <= 4, "GELU: off by at most %.2f rounding units", worst);
    ok(worst_slope <= 16, "its slope: off by at most %.2f rounding units", worst_slope);
    Tensor *all[] = {&x, &y, &dy, &dx};
    for (int i = 0; i < COUNT_OF(all); i++) tensor_free(all[i]);
    device_delete(d);
}

int main(void) {
    double where = 0, worst = worst_error(lowest, highest, 1000000, &where);
    ok(worst <= 2, "from %g to %g: off by at most %.2f units in the last place, at %g", lowest, highest,
       worst, where);
    worst = worst_error(-1, 1, 1000000, &where);
    ok(worst <= 2, "from -1 to 1: off by at most %.2f units in the last place, at %g", worst, where);
    ok(exp_real(0) == 1, "e^0 is 1");

    bool tiny = true;
    const double far_below[] = {lowest - 1, 10 * lowest, -1e30, -INFINITY};
    for (int i = 0; i < COUNT_OF(far_below); i++) {
        real y = exp_real((real)far_below[i]);
        tiny &= y > 0 && (double)y < 4 * smallest;
    }
    ok(tiny, "far below it is next to nothing, but no subnormal number: softmax of a masked score");
    ok(isnan(exp_real((real)NAN)), "of NaN it is NaN: a loss that is not finite shows");
    ok(isfinite(exp_real((real)highest)) && exp_real((real)(2 * highest)) == exp_real((real)highest),
       "above %g it stays at %g", highest, (double)exp_real((real)highest));
    test_gelu();
    return tap_done();
}
