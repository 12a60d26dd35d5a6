/* tap: test results in the Test Anything Protocol, which `prove` reads. A test program calls ok() and
 * close_to() as often as it likes and ends with `return tap_done();`. */
#ifndef TAP_H
#define TAP_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int tap_count, tap_failures;

__attribute__((format(printf, 2, 3))) static bool ok(bool passed, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("%sok %d - ", passed ? "" : "not ", ++tap_count);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    tap_failures += !passed;
    return passed;
}

/* |got - want| <= tolerance * max(1, |want|); a NaN is never close. */
static inline bool close_to(double got, double want, double tolerance, const char *what) {
    double error = fabs(got - want), scale = fabs(want) > 1 ? fabs(want) : 1;
    return ok(error <= tolerance * scale, "%s: %.10g, expected %.10g, tolerance %.1g", what, got, want,
              tolerance);
}

/* The larger of two errors, where a NaN is larger than any number: fmax would lose it. */
static inline double worse(double a, double b) { return isnan(b) || b > a ? b : a; }
/* b is worse than the worst so far, which once it is a NaN stays one. */
static inline bool is_worse(double a, double b) { return !isnan(a) && !(b <= a); }

static inline int tap_done(void) {
    printf("1..%d\n", tap_count);
    return tap_failures != 0 || tap_count == 0; /* a test that looked at nothing has shown nothing */
}

#endif
