/* The head with its loss on a GPU: products by matmul, softmax between them. Only the logits of HEAD_ROWS rows are held, in
 * scratch, never those of a whole batch. They are real; their gradient has the type of x and w, with which it goes into two
 * more products: where that is real, it takes the logits' place. */
#include "common/cuda/kernels_cuda.h"

enum { HEAD_ROWS = 1024 };

typedef struct {
    int64_t rows, used;                 /* rows at once; elements of scratch */
    int64_t logits, gradient, row_loss; /* where each begins */
} Layout;

/* Whoever asks for scratch does not say the type of x: it is enough for each, that is, for half as many elements again
 * where some are narrower than real. */
static Layout layout(int64_t R, int64_t V, bool backward) {
    enum { ALIGNED = 64 }; /* elements: products are faster */
    int64_t rows = min64(R, HEAD_ROWS), logits = ceil_div(rows * V, ALIGNED) * ALIGNED;
    int64_t narrow =
        backward && sizeof(real) == sizeof(float) ? ceil_div(rows * V, 2 * ALIGNED) * ALIGNED : 0;
    return (Layout){
        .rows = rows, .gradient = logits, .row_loss = logits + narrow, .used = logits + narrow + rows};
}

int64_t cuda_head_loss_scratch(const Queue *q, int64_t R, int64_t C, int64_t V, bool backward) {
    (void)q, (void)C;
    return layout(R, V, backward).used;
}

static Tensor part_of(const Tensor *scratch, int64_t first, ElementType type, int64_t rows, int64_t columns) {
    Tensor part = tensor_view(scratch, first, SHAPE(0));
    part.type = type;
    part.shape = SHAPE(rows, columns);
    return part;
}

void cuda_head_loss(Queue *q, const Tensor *x, const Tensor *w, const Tensor *bias, const Tensor *targets,
                    int64_t first_row, Tensor *dx, Tensor *dw, Tensor *dbias, bool add, Tensor *loss,
                    Tensor *scratch) {
    int64_t R = tensor_rows(x), V = tensor_rows(w);
    if (R == 0 && dx && !add) { /* sums of nothing */
        cuda_zero(q, dw);
        if (dbias) cuda_zero(q, dbias);
    }
    Layout at = layout(R, V, dx != NULL);
    for (int64_t row = 0; row < R; row += at.rows) {
        int64_t rows = min64(at.rows, R - row);
        bool add_to = add || row > 0;
        Tensor x_rows = tensor_rows_view(x, row, rows);
        Tensor logits = part_of(scratch, at.logits, TYPE_REAL, rows, V);
        Tensor row_loss = part_of(scratch, at.row_loss, TYPE_REAL, rows, 1);
        Tensor gradient = x->type == TYPE_REAL ? logits : part_of(scratch, at.gradient, x->type, rows, V);
        cuda_matmul(q, &x_rows, false, w, true, bias, &logits, false);
        cuda_softmax_loss(q, &logits, targets, first_row + row, dx ? &gradient : NULL, &row_loss, loss);
        if (!dx) continue;
        Tensor dx_rows = tensor_rows_view(dx, row, rows);
        cuda_matmul(q, &gradient, true, &x_rows, false, NULL, dw, add_to);
        cuda_matmul(q, &gradient, false, w, false, NULL, &dx_rows, false);
        if (dbias) cuda_sum_rows(q, &gradient, dbias, add_to);
    }
}
