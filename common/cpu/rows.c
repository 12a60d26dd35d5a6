/* Embedding and norms on CPUs: a row is one token's vector. Sums over rows (the parameters' gradients) are
 * cut by columns, so that each runs in row order whatever the threads. */
#include "common/cpu/wide.h"

#include <math.h>

/* here, where no exponential is taken: see exp_real */
#ifdef REAL_DOUBLE
const real exp_lowest = -708, exp_highest = 709;
#else
const real exp_lowest = -87, exp_highest = 88;
#endif

/* ---- embedding ---- */

void cpu_embedding(Queue *q, const Tensor *ids, const Tensor *token, int64_t first_id, const Tensor *position,
                   int64_t first, Tensor *y) {
    int64_t R = tensor_count(ids), T = tensor_columns(ids), C = tensor_columns(token), V = tensor_rows(token);
    const int32_t *id = cpu_ints(ids);
    const real *tok = cpu_reals(token), *pos = position ? cpu_reals(position) : NULL;
    real *Y = cpu_reals(y);
    PARALLEL(q, R * C > WORTH)
    for (int64_t r = 0; r < R; r++) {
        int64_t row = id[r] - first_id;
        const real *t = row >= 0 && row < V ? tok + row * C : NULL;
        const real *p = pos ? pos + (first + r % T) * C : NULL;
        real *to = Y + r * C;
        if (!t && !p) {
            memset(to, 0, (size_t)C * sizeof(real));
        } else if (!t || !p) {
            memcpy(to, t ? t : p, (size_t)C * sizeof(real));
        } else {
#pragma omp simd
            for (int64_t c = 0; c < C; c++) to[c] = t[c] + p[c];
        }
    }
}

void cpu_embedding_backward(Queue *q, const Tensor *ids, const Tensor *dy, int64_t first_id, Tensor *dtoken) {
    int64_t R = tensor_count(ids), C = tensor_columns(dtoken), V = tensor_rows(dtoken);
    const int32_t *id = cpu_ints(ids);
    real *D = cpu_reals(dtoken);
    PARALLEL(q, R * C > WORTH)
    for (int64_t block = 0; block < ceil_div(C, COLUMN_BLOCK); block++) {
        int64_t begin = block * COLUMN_BLOCK, end = min64(C, begin + COLUMN_BLOCK);
        for (int64_t r = 0; r < R; r++) {
            int64_t row = id[r] - first_id;
            if (row >= 0 && row < V) add_run(dy, r * C + begin, end - begin, D + row * C + begin);
        }
    }
}

void cpu_position_backward(Queue *q, const Tensor *dy, int64_t first, Tensor *dposition) {
    int64_t B = dy->shape.size[0], T = dy->shape.size[1], C = tensor_columns(dy);
    int64_t positions = tensor_rows(dposition);
    real *D = cpu_reals(dposition);
    PARALLEL(q, B * T * C > WORTH)
    for (int64_t position = 0; position < positions; position++) {
        int64_t t = position - first;
        memset(D + position * C, 0, (size_t)C * sizeof(real));
        for (int64_t b = 0; b < B && t >= 0 && t < T; b++) add_run(dy, (b * T + t) * C, C, D + position * C);
    }
}

/* ---- layer norm ---- */

/* Sums over a row, four at once, each of a quarter: one alone would wait for itself at every addition. */

static inline real row_sum(const real *x, int64_t C) {
    int64_t part = C / 4;
    real a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
    for (int64_t i = 0; i < part; i++) {
        a += x[i];
        b += x[i + part];
        c += x[i + 2 * part];
        d += x[i + 3 * part];
    }
    for (int64_t i = 4 * part; i < C; i++) a += x[i];
    return (a + b) + (c + d);
}

static inline real row_squares(const real *x, real mean, int64_t C) {
    int64_t part = C / 4;
    real a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
    for (int64_t i = 0; i < part; i++) {
        real xa = x[i] - mean, xb = x[i + part] - mean, xc = x[i + 2 * part] - mean,
             xd = x[i + 3 * part] - mean;
        a += xa * xa;
        b += xb * xb;
        c += xc * xc;
        d += xd * xd;
    }
    for (int64_t i = 4 * part; i < C; i++) a += (x[i] - mean) * (x[i] - mean);
    return (a + b) + (c + d);
}

void cpu_layernorm(Queue *q, const Tensor *x, const Tensor *gain, const Tensor *bias, double eps, Tensor *y,
                   Tensor *stats) {
    int64_t R = tensor_rows(x), C = tensor_columns(x);
    const real *G = cpu_reals(gain), *Bias = bias ? cpu_reals(bias) : NULL;
    PARALLEL(q, R * C > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *X = cpu_reals(x) + r * C;
        real *Y = cpu_reals(y) + r * C, mean = row_sum(X, C) / (real)C;
        real inverse = (real)(1 / sqrt((double)row_squares(X, mean, C) / (double)C + eps));
        if (Bias) {
#pragma omp simd
            for (int64_t c = 0; c < C; c++) Y[c] = (X[c] - mean) * inverse * G[c] + Bias[c];
        } else {
#pragma omp simd
            for (int64_t c = 0; c < C; c++) Y[c] = (X[c] - mean) * inverse * G[c];
        }
        cpu_reals(stats)[2 * r] = mean;
        cpu_reals(stats)[2 * r + 1] = inverse;
    }
}

/* With g = dy * gain and x_hat = (x - mean) / deviation:
 * dx = (g - mean(g) - x_hat mean(g x_hat)) / deviation. */
void cpu_layernorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                            const Tensor *stats, Tensor *dx, bool add) {
    int64_t R = tensor_rows(x), C = tensor_columns(x);
    const real *G = cpu_reals(gain);
    PARALLEL(q, R * C > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *X = cpu_reals(x) + r * C, *DY = cpu_reals(dy) + r * C;
        real *DX = cpu_reals(dx) + r * C, sum = 0, dot = 0;
        real mean = cpu_reals(stats)[2 * r], inverse = cpu_reals(stats)[2 * r + 1];
#pragma omp simd reduction(+ : sum, dot)
        for (int64_t c = 0; c < C; c++) {
            real g = DY[c] * G[c];
            sum += g;
            dot += g * (X[c] - mean);
        }
        real mean_g = sum / (real)C, slope = dot * inverse * inverse / (real)C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++)
            DX[c] = (add ? DX[c] : 0) + (DY[c] * G[c] - mean_g - (X[c] - mean) * slope) * inverse;
    }
}

void cpu_norm_backward_param(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *stats, Tensor *dgain,
                             Tensor *dbias) {
    int64_t R = tensor_rows(x), C = tensor_columns(x);
    const real *S = cpu_reals(stats);
    PARALLEL(q, R * C > WORTH)
    for (int64_t block = 0; block < ceil_div(C, COLUMN_BLOCK); block++) {
        int64_t begin = block * COLUMN_BLOCK, count = min64(COLUMN_BLOCK, C - begin);
        real gain_sum[COLUMN_BLOCK] = {0}, bias_sum[COLUMN_BLOCK] = {0};
        real dy_wide[COLUMN_BLOCK], x_wide[COLUMN_BLOCK];
        for (int64_t r = 0; r < R; r++) {
            const real *dy_row = wide_run(dy, r * C + begin, count, dy_wide),
                       *x_row = wide_run(x, r * C + begin, count, x_wide);
            real mean = S[2 * r], inverse = S[2 * r + 1];
#pragma omp simd
            for (int64_t i = 0; i < count; i++) {
                gain_sum[i] += dy_row[i] * (x_row[i] - mean) * inverse;
                bias_sum[i] += dy_row[i];
            }
        }
        memcpy(cpu_reals(dgain) + begin, gain_sum, (size_t)count * sizeof(real));
        if (dbias) memcpy(cpu_reals(dbias) + begin, bias_sum, (size_t)count * sizeof(real));
    }
}

/* ---- rms norm ---- */

void cpu_rmsnorm(Queue *q, const Tensor *x, const Tensor *gain, double eps, Tensor *y, Tensor *stats) {
    int64_t R = tensor_rows(x), C = tensor_columns(x);
    const real *G = cpu_reals(gain);
    PARALLEL(q, R * C > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *X = cpu_reals(x) + r * C;
        real *Y = cpu_reals(y) + r * C;
        real inverse = (real)(1 / sqrt((double)row_squares(X, 0, C) / (double)C + eps));
#pragma omp simd
        for (int64_t c = 0; c < C; c++) Y[c] = X[c] * inverse * G[c];
        cpu_reals(stats)[2 * r] = 0;
        cpu_reals(stats)[2 * r + 1] = inverse;
    }
}

/* As layer norm's, without the mean: dx = (g - x_hat mean(g x_hat)) / rms. */
void cpu_rmsnorm_backward(Queue *q, const Tensor *dy, const Tensor *x, const Tensor *gain,
                          const Tensor *stats, Tensor *dx, bool add) {
    int64_t R = tensor_rows(x), C = tensor_columns(x);
    const real *G = cpu_reals(gain);
    PARALLEL(q, R * C > WORTH)
    for (int64_t r = 0; r < R; r++) {
        const real *X = cpu_reals(x) + r * C, *DY = cpu_reals(dy) + r * C;
        real *DX = cpu_reals(dx) + r * C, dot = 0, inverse = cpu_reals(stats)[2 * r + 1];
#pragma omp simd reduction(+ : dot)
        for (int64_t c = 0; c < C; c++) dot += DY[c] * G[c] * X[c];
        real slope = dot * inverse * inverse / (real)C;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) DX[c] = (add ? DX[c] : 0) + (DY[c] * G[c] - X[c] * slope) * inverse;
    }
}
