#include "common/comm/reduce.h"

#include "common/base/bf16.h"

/* Elements that stay in the nearest cache while row after row is added to them. */
enum { BLOCK = 2048 };

#define ADD(a, b) ((a) + (b))
#define MAX(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))

/* Integers are added as unsigned ones: they wrap around where signed ones must not. */
#define DEFINE_REDUCE(name, T, COMBINE)                                                                      \
    static void name(const void *const *rows, int n, void *out, int64_t count) {                             \
        for (int64_t first = 0; first < count; first += BLOCK) {                                             \
            T *restrict y = (T *)out + first;                                                                \
            int64_t block = min64(BLOCK, count - first);                                                     \
            memcpy(y, (const T *)rows[0] + first, (size_t)block * sizeof *y);                                \
            for (int r = 1; r < n; r++) {                                                                    \
                const T *restrict x = (const T *)rows[r] + first;                                            \
                for (int64_t i = 0; i < block; i++) y[i] = COMBINE(y[i], x[i]);                              \
            }                                                                                                \
        }                                                                                                    \
    }
/* The same by way of floats. */
#define DEFINE_REDUCE_BF16(name, COMBINE)                                                                    \
    static void name(const void *const *rows, int n, void *out, int64_t count) {                             \
        float y[BLOCK];                                                                                      \
        for (int64_t first = 0; first < count; first += BLOCK) {                                             \
            int64_t block = min64(BLOCK, count - first);                                                     \
            for (int64_t i = 0; i < block; i++) y[i] = bf16_to_float(((const Bf16 *)rows[0])[first + i]);    \
            for (int r = 1; r < n; r++) {                                                                    \
                const Bf16 *x = (const Bf16 *)rows[r] + first;                                               \
                for (int64_t i = 0; i < block; i++) y[i] = COMBINE(y[i], bf16_to_float(x[i]));               \
            }                                                                                                \
            for (int64_t i = 0; i < block; i++) ((Bf16 *)out)[first + i] = bf16_from_float(y[i]);            \
        }                                                                                                    \
    }
DEFINE_REDUCE(sum_f32, float, ADD)
DEFINE_REDUCE(sum_f64, double, ADD)
DEFINE_REDUCE(sum_i32, uint32_t, ADD)
DEFINE_REDUCE(max_f32, float, MAX)
DEFINE_REDUCE(max_f64, double, MAX)
DEFINE_REDUCE(max_i32, int32_t, MAX)
DEFINE_REDUCE_BF16(sum_bf16, ADD)
DEFINE_REDUCE_BF16(max_bf16, MAX)

void comm_reduce(Reduction reduction, ElementType type, const void *const *rows, int n, void *out,
                 int64_t count) {
    static void (*const reduce[2][4])(const void *const *, int, void *, int64_t) = {
        [REDUCE_SUM] =
            {[TYPE_F32] = sum_f32, [TYPE_F64] = sum_f64, [TYPE_I32] = sum_i32, [TYPE_BF16] = sum_bf16},
        [REDUCE_MAX] = {
            [TYPE_F32] = max_f32, [TYPE_F64] = max_f64, [TYPE_I32] = max_i32, [TYPE_BF16] = max_bf16}};
    reduce[reduction][type](rows, n, out, count);
}
