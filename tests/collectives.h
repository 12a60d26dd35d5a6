/* collectives.h: all kinds of collective, with types, reductions and counts, for tests of those who carry them out. */
#ifndef TEST_COLLECTIVES_H
#define TEST_COLLECTIVES_H

#include "tests/ranks.h"

static const CommKind collectives[] = {COMM_ALL_REDUCE, COMM_ALL_GATHER, COMM_REDUCE_SCATTER, COMM_BROADCAST,
                                       COMM_ALL_TO_ALL};

/* counts: of the larger side of a call. trial: is the result of this call, whose pointers are NULL, right? */
static inline void every_collective(Comm *comm, const ElementType *types, int type_count,
                                    const int64_t *counts, int count_count, bool (*trial)(Comm *, CommCall)) {
    for (int k = 0; k < COUNT_OF(collectives); k++)
        for (int t = 0; t < type_count; t++)
            for (int reduction = REDUCE_SUM; reduction <= REDUCE_MAX; reduction++) {
                CommKind kind = collectives[k];
                bool reduces = kind == COMM_ALL_REDUCE || kind == COMM_REDUCE_SCATTER, good = true;
                if (!reduces && reduction != REDUCE_SUM) continue;
                for (int c = 0; c < count_count; c++) {
                    bool each = kind != COMM_ALL_REDUCE && kind != COMM_BROADCAST;
                    int64_t count = each ? ceil_div(counts[c], comm->size) : counts[c];
                    int root = kind == COMM_BROADCAST ? c % comm->size : 0;
                    good &= trial(comm,
                                  (CommCall){kind, types[t], (Reduction)reduction, root, count, NULL, NULL});
                }
                ok_on_all(comm, good, "%s, %s%s", comm_kind_names[kind], element_type_names[types[t]],
                          !reduces    ? ""
                          : reduction ? ", max"
                                      : ", sum");
            }
}

#endif
