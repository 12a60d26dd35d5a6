#include "common/comm/reduce.h"

#include <string.h>

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
DEFINE_REDUCE(sum_f32, float, ADD)
DEFINE_REDUCE(sum_f64, double, ADD)
DEFINE_REDUCE(sum_i32, uint32_t, ADD)
DEFINE_REDUCE(max_f32, float, MAX)
DEFINE_REDUCE(max_f64, double, MAX)
DEFINE_REDUCE(max_i32, int32_t, MAX)

void comm_reduce(Reduction reduction, ElementType type, const void *const *rows, int n, void *out,
                 int64_t count) {
    static void (*const reduce[2][3])(const void *const *, int, void *, int64_t) = {
        [REDUCE_SUM] = {[TYPE_F32] = sum_f32, [TYPE_F64] = sum_f64, [TYPE_I32] = sum_i32},
        [REDUCE_MAX] = {[TYPE_F32] = max_f32, [TYPE_F64] = max_f64, [TYPE_I32] = max_i32}};
    reduce[reduction][type](rows, n, out, count);
}
