/* TEST variants: float double
 * The vectorised exponential of the CPU kernels against the C library's in the next wider type. */
#include "common/kernels_cpu.h"
#include "tests/tap.h"

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
    return tap_done();
}
