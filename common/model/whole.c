#include "common/model/whole.h"

#include <stdlib.h>
#include <string.h>

/* In words of 32 bits, whose sum with zeros is exact: a real has sizeof(real) / 4. */
enum { WORDS = sizeof(real) / sizeof(int32_t), PIECE = 1 << 18 };

static bool part_of(const Param *p, const char *name, Shape whole) {
    if (strcmp(p->name, name) != 0) return false;
    ASSERT(shape_equal(p->slice.whole, whole));
    return true;
}

void whole_gather(const Holding *h, const char *name, Shape whole, real *to) {
    int64_t count = shape_count(whole);
    memset(to, 0, (size_t)count * sizeof *to);
    for (int i = 0; i < h->held->count; i++) {
        const Param *p = h->held->items[i];
        if (h->copy || p->replica > 0 || !part_of(p, name, whole)) continue;
        for (int64_t at = 0, run; at < tensor_count(&p->data); at += run) {
            int64_t index = param_whole_index(p, at, &run);
            if (index >= 0) tensor_read(h->tensors[i], at, run, to + index);
        }
    }
    int32_t *words = (int32_t *)to;
    for (int64_t first = 0; first < count * WORDS; first += PIECE)
        comm_all_reduce(h->comm, NULL, words + first, words + first, min64(PIECE, count * WORDS - first),
                        TYPE_I32, REDUCE_SUM);
}
