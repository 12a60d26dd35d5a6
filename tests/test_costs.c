/* The fit of chapter 04: gives back the latency and the bandwidth of times that follow the model exactly, is not drawn away
 * by large messages where there is noise, and never finds a negative one. */
#include "chapters/04_collectives/costs.h"
#include "tests/tap.h"

enum { SIZES = 7 };
static int64_t bytes[SIZES];
static double seconds[SIZES];

static void close(double got, double want, double tolerance, const char *what) {
    ok(fabs(got - want) <= tolerance * want, "%s: %.9g, expected %.9g", what, got, want);
}

static void make(double steps, double share, double alpha, double W, double noise) {
    for (int i = 0; i < SIZES; i++)
        seconds[i] = (steps * alpha + share * (double)bytes[i] / W) * (1 + (i % 2 ? noise : -noise));
}

int main(void) {
    for (int i = 0; i < SIZES; i++) bytes[i] = 1024 << 2 * i;
    for (int n = 2; n <= 8; n++) {
        double steps = 2.0 * (n - 1), share = steps / n;
        make(steps, share, 5e-6, 450e9, 0);
        Fit fit = costs_fit(steps, share, SIZES, bytes, seconds);
        close(fit.alpha, 5e-6, 1e-9, "latency of an exact ring");
        close(fit.W, 450e9, 1e-6, "its bandwidth");
        make(steps, share, 5e-6, 2e9, 0.1);
        fit = costs_fit(steps, share, SIZES, bytes, seconds);
        close(fit.alpha, 5e-6, 0.11, "latency with noise of a tenth");
        close(fit.W, 2e9, 0.12, "bandwidth with noise of a tenth");
    }
    make(1, 1, 0, 2e9, 0);
    seconds[0] *= 0.5; /* as if a small message were faster than the line through 0 */
    Fit fit = costs_fit(1, 1, SIZES, bytes, seconds);
    ok(fit.alpha == 0, "no negative latency: %g", fit.alpha);
    close(fit.W, 2e9, 0.3, "the line through 0");
    make(1, 1, 1e-5, INFINITY, 0);
    seconds[SIZES - 1] *= 0.5;
    fit = costs_fit(1, 1, SIZES, bytes, seconds);
    ok(isinf(fit.W) && fit.alpha > 0.5e-5 && fit.alpha <= 1e-5, "no negative bandwidth: %g, %g", fit.W,
       fit.alpha);
    make(2, 1, 0, INFINITY, 0);
    fit = costs_fit(2, 1, SIZES, bytes, seconds);
    ok(fit.alpha == 0 && isinf(fit.W), "free messages: %g, %g", fit.alpha, fit.W);
    return tap_done();
}
