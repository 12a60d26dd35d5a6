/* TEST variants: float double asan
 * Small models with every option, trained for ten steps, against another implementation in float64
 * (tests/fixtures/models.json, made with JAX by tests/reference/make_fixtures.py). */
#include "tests/reference.h"
#include "tests/tap.h"

/* Relative errors. In double, what is left is rounding: 1e-16 in each operation. In float it is 6e-8, and
 * Adam divides a gradient by its own size, so that the weights where it is almost nothing move by chance. */
static const bool in_double = sizeof(real) == sizeof(double);
#define INITIAL  (in_double ? 1e-14 : 1e-7)
#define GRADIENT (in_double ? 1e-12 : 1e-5)
#define LOSS     (in_double ? 1e-12 : 2e-6)
#define WEIGHTS  (in_double ? 1e-11 : 1e-4)

static void compare_all(const Training *t, const json_t *json, ReferenceColumn column, double tolerance,
                        double absolute, const char *what) {
    Furthest worst = reference_furthest(t, json, column, tolerance, absolute);
    ok(worst.distance <= 1, "  %s: furthest off is %s, at %.2g of the tolerance %.0e", what, worst.name,
       worst.distance, tolerance);
}

static void compare_names(const Training *t, const json_t *json) {
    const json_t *lines = json_object_get(json, "parameters");
    const Params *params = &t->model->params;
    bool same = params->count == (int)json_array_size(lines);
    for (int i = 0; same && i < params->count; i++) {
        const json_t *line = json_array_get(lines, (size_t)i);
        same = !strcmp(params->items[i]->name, json_string_value(json_array_get(line, 0))) &&
               tensor_count(&params->items[i]->data) == (int64_t)reference_at(line, 1);
    }
    ok(same, "  %d parameters with the same names and sizes", params->count);
}

/* Every element of every gradient, relative to the largest element in the model. */
static void compare_gradients_in_full(const Training *t, const json_t *gradients) {
    double worst = 0, largest = 0;
    for (int i = 0; i < t->model->params.count; i++) {
        const Param *p = t->model->params.items[i];
        const json_t *want = json_object_get(gradients, p->name);
        for (size_t j = 0; j < json_array_size(want); j++) {
            worst = worse(worst, fabs((double)real_at(&p->grad[0], (int64_t)j) - reference_at(want, j)));
            largest = worse(largest, fabs(reference_at(want, j)));
        }
    }
    ok(worst <= GRADIENT * largest, "  every gradient: off by %.1e of the largest", worst / largest);
}

static void compare_case(json_t *json) {
    Training t = reference_training(json);
    const json_t *losses = json_object_get(json, "losses"), *rates = json_object_get(json, "rates");
    const json_t *gradients = json_object_get(json, "gradients");
    printf("# %s\n", json_string_value(json_object_get(json, "name")));
    compare_names(&t, json);
    compare_all(&t, json, REFERENCE_START, INITIAL, 0, "initial weights");

    double loss_error = 0, rate_error = 0;
    for (size_t step = 0; step < json_array_size(losses); step++) {
        double loss = training_gradient(&t, (int64_t)step);
        if (step == 0) {
            double norm = reference_number(json, "gradient_norm"), got = optimizer_grad_norm(t.optimizer);
            ok(fabs(got - norm) <= GRADIENT * norm, "  gradient norm: %.10g, expected %.10g", got, norm);
            compare_all(&t, json, REFERENCE_GRADIENT, GRADIENT, GRADIENT * 1e-2 * norm, "gradients");
            if (gradients) compare_gradients_in_full(&t, gradients);
        }
        double rate = training_update(&t, (int64_t)step);
        loss_error = worse(loss_error, fabs(loss - reference_at(losses, step)) / reference_at(losses, step));
        rate_error = worse(rate_error, fabs(rate - reference_at(rates, step)) / reference_at(rates, step));
    }
    ok(loss_error <= LOSS, "  losses of 10 steps: off by %.1e", loss_error);
    ok(rate_error <= 1e-14, "  learning rates: off by %.1e", rate_error);
    compare_all(&t, json, REFERENCE_END, WEIGHTS, 0, "weights after 10 steps");
    training_delete(&t);
}

int main(void) {
    json_t *cases = reference_load("tests/fixtures/models.json"), *json;
    size_t i;
    json_array_foreach(cases, i, json) compare_case(json);
    ok(i >= 10, "%zu models", i);
    json_decref(cases);
    return tap_done();
}
