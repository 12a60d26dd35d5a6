/* Softmax and cross-entropy on CPUs where each device has some columns of the logits. A row's largest logit, and then the
 * sum of its exponentials, are those of all devices: between the pieces stand all-reduces. The same steps on one device
 * are softmax_row's (kernels_cpu.h). */
#include "common/cpu/kernels_cpu.h"

#include <math.h>

void cpu_row_max(Queue *q, const Tensor *logits, int64_t columns, Tensor *top) {
    int64_t R = tensor_rows(logits), V = tensor_columns(logits);
    const real *Z = cpu_reals(logits);
    real *TOP = cpu_reals(top);
    PARALLEL(q, R * V > WORTH)
    for (int64_t r = 0; r < R; r++) TOP[r] = row_top(Z + r * V, columns);
}

/* The column of the target, or -1: another device has it, or it is masked. */
static int64_t own_column(int64_t target, int64_t first_id, int64_t columns) {
    return target >= first_id && target < first_id + columns ? target - first_id : -1;
}

void cpu_exp_sums(Queue *q, Tensor *logits, int64_t columns, const Tensor *top, const Tensor *targets,
                  int64_t first_row, int64_t first_id, Tensor *sums) {
    int64_t R = tensor_rows(logits), V = tensor_columns(logits);
    const int32_t *target = cpu_ints(targets) + first_row;
    const real *TOP = cpu_reals(top);
    real *SUMS = cpu_reals(sums);
    PARALLEL(q, R * V > WORTH)
    for (int64_t r = 0; r < R; r++) {
        real *z = cpu_reals(logits) + r * V;
        int64_t column = own_column(target[r], first_id, columns);
        SUMS[2 * r + 1] = column < 0 ? 0 : z[column];
        SUMS[2 * r] = row_exp(z, TOP[r], columns);
    }
}

void cpu_split_cross_entropy(Queue *q, Tensor *logits, int64_t columns, const Tensor *top, const Tensor *sums,
                             const Tensor *targets, int64_t first_row, int64_t first_id, Tensor *loss) {
    int64_t R = tensor_rows(logits), V = tensor_columns(logits);
    const int32_t *target = cpu_ints(targets) + first_row;
    const real *TOP = cpu_reals(top), *SUMS = cpu_reals(sums);
    PARALLEL(q, R * V > WORTH)
    for (int64_t r = 0; r < R; r++) {
        real *z = cpu_reals(logits) + r * V;
        int64_t column = own_column(target[r], first_id, columns);
        int64_t kept = target[r] < 0 ? 0 : columns;
        row_scale(z, 1 / SUMS[2 * r], kept);
        memset(z + kept, 0, (size_t)(V - kept) * sizeof(real));
        if (column >= 0) z[column] -= 1;
    }
    for (int64_t r = 0; r < R; r++) {
        if (target[r] < 0) continue;
        real row_loss = (real)log((double)SUMS[2 * r]) - (SUMS[2 * r + 1] - TOP[r]);
        *(double *)cpu_data(loss) += row_loss;
    }
}
