/* TEST variants: double, all: float
 * The whole preset minigpt, 27,430,481 parameters, against another implementation
 * (tests/fixtures/minigpt.json, made with JAX by tests/reference/make_fixtures.py). In double: ten steps of 2
 * windows of 256 tokens. In float: a hundred steps of one window of 64, and the loss may leave JAX's float64
 * curve no further than 3 times as far as JAX's own float32 curve does. */
#include "tests/reference.h"
#include "tests/tap.h"

static const bool in_double = sizeof(real) == sizeof(double);
#define TOLERANCE (in_double ? 1e-9 : 1e-5) /* of norms and projections, relative to each tensor's norm */

static void compare_all(const Training *t, const json_t *json, ReferenceColumn column, double absolute,
                        const char *what) {
    Furthest worst = reference_furthest(t, json, column, TOLERANCE, absolute);
    ok(worst.distance <= 1, "%s: furthest off is %s, at %.1e of the tolerance %.0e", what, worst.name,
       worst.distance, TOLERANCE);
}

static void compare_ten_steps(json_t *json) {
    Training t = reference_training(json);
    const json_t *losses = json_object_get(json, "losses");
    int64_t steps = in_double ? (int64_t)json_array_size(losses) : 1; /* the float curve below is longer */
    ok(params_count(&t.model->params) == 27430481, "%lld parameters",
       (long long)params_count(&t.model->params));
    for (int64_t step = 0; step < steps; step++) {
        double loss = training_gradient(&t, step), want = reference_at(losses, (size_t)step);
        ok(fabs(loss - want) <= TOLERANCE * want, "step %lld: loss %.12g, expected %.12g", (long long)step,
           loss, want);
        if (step == 0)
            compare_all(&t, json, REFERENCE_GRADIENT,
                        1e-2 * TOLERANCE * reference_number(json, "gradient_norm"), "gradients");
        training_update(&t, step);
    }
    if (in_double) compare_all(&t, json, REFERENCE_END, 0, "weights after 10 steps");
    training_delete(&t);
}

static void compare_curve(json_t *json) {
    Training t = reference_training(json);
    const json_t *exact = json_object_get(json, "losses"), *rounded = json_object_get(json, "float_losses");
    double ours = 0, theirs = 0, ours_squared = 0, theirs_squared = 0;
    size_t steps = json_array_size(exact);
    for (size_t step = 0; step < steps; step++) {
        double here = fabs(training_gradient(&t, (int64_t)step) - reference_at(exact, step));
        double there = fabs(reference_at(rounded, step) - reference_at(exact, step));
        training_update(&t, (int64_t)step);
        ours = worse(ours, here), ours_squared += here * here;
        theirs = worse(theirs, there), theirs_squared += there * there;
    }
    ok(ours <= 3 * theirs, "%zu steps: at most %.2e from the float64 curve; JAX's float32 curve: %.2e", steps,
       ours, theirs);
    ok(ours_squared <= 9 * theirs_squared, "in the root mean square %.2e; JAX's: %.2e",
       sqrt(ours_squared / (double)steps), sqrt(theirs_squared / (double)steps));
    double first = reference_at(exact, 0), last = reference_at(exact, steps - 1);
    ok(steps == 100 && last < first - 2, "the loss fell from %.3f to %.3f", first, last);
    training_delete(&t);
}

int main(void) {
    json_t *cases = reference_load("tests/fixtures/minigpt.json");
    compare_ten_steps(json_array_get(cases, 0));
    if (!in_double) compare_curve(json_array_get(cases, 1));
    json_decref(cases);
    return tap_done();
}
