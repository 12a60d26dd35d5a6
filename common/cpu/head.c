/* The head with its loss on CPUs: logits, softmax, cross-entropy and all gradients of a few rows, in two passes
 * over the vocabulary. With 50,257 tokens the logits are too many for any cache, so each number of them is
 * written once and read once: a tile of logits is formed, its exponentials are taken while it is in the cache,
 * relative to the largest of the tile; the second pass brings them to the common scale on the way into the two
 * products that need them. tests/test_fast_paths.c holds it against the same in separate kernels.
 *
 * Logits stand transposed, (V,R): then W and x are read as they lie, and softmax works on whole vectors of
 * rows. */
#include "common/cpu/wide.h"

#include <math.h>
#include <omp.h>

/* Tiles of the vocabulary, in fixed groups: each group sums its own share of dx, and shares are added in order. */
enum { TILE = 192, GROUPS = 16 };

typedef struct {
    int64_t R, C, V, tiles, tile; /* tiles: a multiple of GROUPS; the last may be short or empty */
    real *x_t;                    /* (C,R) */
    real *logits;                 /* (V,R): exp(logit - top of its tile and row); forward only: of one tile */
    real *top, *sum;              /* (tiles,R): of each tile; then sum holds the factor to the common scale */
    real *at_target, *row_top;    /* (R) */
    real *dx;                     /* (GROUPS,R,C) */
    real *p;                      /* (threads,tile,R): probabilities of one tile */
} Head;

/* Lays the parts out in scratch; returns how many elements that takes. */
static int64_t head_layout(Head *h, const Queue *q, int64_t R, int64_t C, int64_t V, bool backward,
                           real *scratch) {
    *h = (Head){.R = R, .C = C, .V = V, .tiles = ceil_div(ceil_div(V, TILE), GROUPS) * GROUPS};
    h->tile = ceil_div(V, h->tiles);
    int64_t used = 0;
    struct {
        real **part;
        int64_t count;
    } parts[] = {{&h->x_t, C * R},
                 {&h->logits, backward ? V * R : q->threads * h->tile * R},
                 {&h->top, h->tiles * R},
                 {&h->sum, h->tiles * R},
                 {&h->at_target, R},
                 {&h->row_top, R},
                 {&h->dx, backward ? GROUPS * R * C : 0},
                 {&h->p, backward ? q->threads * h->tile * R : 0}};
    for (int i = 0; i < COUNT_OF(parts); i++) {
        if (scratch && parts[i].count) *parts[i].part = scratch + used;
        used += ceil_div(parts[i].count, 16) * 16; /* cache lines */
    }
    return used;
}

int64_t cpu_head_loss_scratch(const Queue *q, int64_t R, int64_t C, int64_t V, bool backward) {
    Head h;
    return head_layout(&h, q, R, C, V, backward, NULL);
}

/* Pass 1, one tile: E = exp(W x^T + bias - top), with top and sum of each row. */
static void logits_of_tile(const Queue *q, const Head *h, int64_t tile, const Matrix *W, const real *bias,
                           const int32_t *target, real *E) {
    int64_t R = h->R, first = tile * h->tile, count = min64(h->tile, h->V - first);
    real *top = h->top + tile * R, *sum = h->sum + tile * R;
    for (int64_t r = 0; r < R; r++) top[r] = -INFINITY, sum[r] = 0;
    if (count <= 0) return;
    wide_gemm(q, false, false, count, R, h->C, 1, part_of(W, first, 0), matrix_at(h->x_t, R), false, E, R);
    for (int64_t v = 0; v < count; v++) {
        real *e = E + v * R, b = bias ? bias[first + v] : 0;
#pragma omp simd
        for (int64_t r = 0; r < R; r++) {
            e[r] += b;
            top[r] = e[r] > top[r] ? e[r] : top[r];
        }
    }
    for (int64_t r = 0; r < R; r++)
        if (target[r] >= first && target[r] < first + count) h->at_target[r] = E[(target[r] - first) * R + r];
    for (int64_t v = 0; v < count; v++) {
        real *e = E + v * R;
#pragma omp simd
        for (int64_t r = 0; r < R; r++) {
            e[r] = exp_real(e[r] - top[r]);
            sum[r] += e[r];
        }
    }
}

/* Between the passes: the loss of each row, and what brings each tile to the common scale (0: a masked row). */
static void combine(const Head *h, const int32_t *target, Tensor *loss) {
    int64_t R = h->R;
    memcpy(h->row_top, h->top, (size_t)R * sizeof(real));
    for (int64_t tile = 1; tile < h->tiles; tile++)
        for (int64_t r = 0; r < R; r++)
            h->row_top[r] = h->top[tile * R + r] > h->row_top[r] ? h->top[tile * R + r] : h->row_top[r];
    real *total = h->dx ? h->dx : h->x_t; /* (R), not needed yet or no more */
    memset(total, 0, (size_t)R * sizeof(real));
    for (int64_t tile = 0; tile < h->tiles; tile++) {
        real *top = h->top + tile * R, *sum = h->sum + tile * R;
#pragma omp simd
        for (int64_t r = 0; r < R; r++) {
            top[r] = exp_real(top[r] - h->row_top[r]);
            total[r] += sum[r] * top[r];
        }
    }
    for (int64_t r = 0; r < R; r++) {
        if (target[r] < 0) continue;
        real row_loss = (real)log((double)total[r]) - (h->at_target[r] - h->row_top[r]);
        *(double *)cpu_data(loss) += row_loss;
    }
    for (int64_t tile = 0; tile < h->tiles; tile++)
        for (int64_t r = 0; r < R; r++)
            h->sum[tile * R + r] = target[r] < 0 ? 0 : h->top[tile * R + r] / total[r];
}

/* Pass 2, one tile: P = softmax - onehot; dW (+)= P x, dbias (+)= the sum of its rows, dx (+)= P^T W. */
static void gradients_of_tile(const Queue *q, const Head *h, int64_t tile, const Matrix *x, const Matrix *W,
                              const int32_t *target, bool add, real *dW, real *dbias, bool add_dx, real *dx,
                              real *P) {
    int64_t R = h->R, C = h->C, first = tile * h->tile, count = min64(h->tile, h->V - first);
    const real *factor = h->sum + tile * R;
    for (int64_t v = 0; v < count; v++) {
        const real *e = h->logits + (first + v) * R;
        real *p = P + v * R;
#pragma omp simd
        for (int64_t r = 0; r < R; r++) p[r] = e[r] * factor[r];
    }
    for (int64_t r = 0; r < R; r++)
        if (target[r] >= first && target[r] < first + count) P[(target[r] - first) * R + r] -= 1;
    for (int64_t v = 0; dbias && v < count; v++) {
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t r = 0; r < R; r++) sum += P[v * R + r];
        dbias[first + v] = sum + (add ? dbias[first + v] : 0);
    }
    wide_gemm(q, false, false, count, C, R, 1, matrix_at(P, R), *x, add, dW + first * C, C);
    wide_gemm(q, true, false, R, C, count, 1, matrix_at(P, R), part_of(W, first, 0), add_dx, dx, C);
}

void cpu_head_loss(Queue *q, const Tensor *x, const Tensor *w, const Tensor *bias, const Tensor *targets,
                   int64_t first_row, Tensor *dx, Tensor *dw, Tensor *dbias, bool add, Tensor *loss,
                   Tensor *scratch) {
    int64_t R = tensor_rows(x), C = tensor_columns(x), V = tensor_rows(w);
    const int32_t *target = cpu_ints(targets) + first_row;
    Matrix X = matrix_in(x, 0, C), W = matrix_in(w, 0, C);
    const real *b = bias ? cpu_reals(bias) : NULL;
    if (R == 0) { /* sums of nothing */
        if (dx && !add) cpu_zero(q, dw);
        if (dx && !add && dbias) cpu_zero(q, dbias);
        return;
    }
    Head h;
    head_layout(&h, q, R, C, V, dx != NULL, cpu_reals(scratch));
    wide_transpose(q, R, C, x, h.x_t);

    Pieces pieces = pieces_new(h.tiles);
#pragma omp parallel num_threads(q->threads)
    for (int64_t turn = 0, tile; (tile = pieces_take(&pieces, &turn)) >= 0;)
        logits_of_tile(q, &h, tile, &W, b, target,
                       h.logits + (dx ? tile * h.tile : omp_get_thread_num() * h.tile) * R);
    pieces_free(&pieces);
    combine(&h, target, loss);
    if (!dx) return;

    pieces = pieces_new(GROUPS);
#pragma omp parallel num_threads(q->threads)
    for (int64_t turn = 0, group; (group = pieces_take(&pieces, &turn)) >= 0;) {
        int64_t begin = group * h.tiles / GROUPS, end = (group + 1) * h.tiles / GROUPS;
        for (int64_t tile = begin; tile < end && tile * h.tile < V; tile++)
            gradients_of_tile(q, &h, tile, &X, &W, target, add, cpu_reals(dw),
                              dbias ? cpu_reals(dbias) : NULL, tile > begin, h.dx + group * R * C,
                              h.p + omp_get_thread_num() * h.tile * R);
    }
    pieces_free(&pieces);
    int64_t groups = ceil_div(ceil_div(V, h.tile), h.tiles / GROUPS); /* that have a tile */
    PARALLEL(q, R * C > WORTH)
    for (int64_t r = 0; r < R; r++) {
        real *row = h.dx + r * C;
        for (int64_t group = 1; group < groups; group++) {
#pragma omp simd
            for (int64_t c = 0; c < C; c++) row[c] += h.dx[(group * R + r) * C + c];
        }
        if (dx->type == TYPE_BF16)
            narrow_block(row, C, 1, C, dx, r * C, C);
        else
            memcpy(cpu_reals(dx) + r * C, row, (size_t)C * sizeof(real));
    }
}
