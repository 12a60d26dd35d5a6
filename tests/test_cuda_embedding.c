/* Embedding of a GPU and its gradients, against the CPU's, at awkward sizes.
 * TEST variants: double-emulated, all: emulated */
#include "tests/both.h"

/* Where the ids of a batch (B,T) come from. */
typedef enum { ALL_IDS, FEW_IDS, ONE_ID } Ids;
static const char *const ids_names[] = {"all ids", "few ids", "one id"};

/* For a table of the rows first_id .. first_id + V - 1: some ids lie in front of it, some behind it, but where first_id is 0
 * and the table whole. */
static Both ids_new(Ids kind, int64_t B, int64_t T, int64_t first_id, int64_t V) {
    Both ids = both_new("ids", TYPE_I32, SHAPE(B, T));
    int32_t *id = xcalloc((size_t)max64(1, B * T), sizeof *id);
    Rng rng = {7, rng_stream("ids"), 0};
    const int64_t range = first_id + V + (first_id ? V / 2 : 0);
    for (int64_t r = 0; r < B * T; r++) {
        uint32_t word = rng_below(&rng, (uint32_t)range);
        id[r] = (int32_t)(kind == ALL_IDS   ? word
                          : kind == FEW_IDS ? first_id + word % 3 * V / 3
                                            : first_id + V - 1);
    }
    both_write(&ids, id);
    free(id);
    return ids;
}

static void test_embedding(ElementType type, Ids kind, int64_t B, int64_t T, int64_t V, int64_t C,
                           int64_t first_id, int64_t first) {
    const int64_t positions = first + T + 2;
    Both ids = ids_new(kind, B, T, first_id, V), token = both_new("token", type, SHAPE(V, C));
    Both position = both_new("position", type, SHAPE(positions, C));
    Both y = both_new("y", type, SHAPE(B, T, C)), dtoken = both_new("dtoken", TYPE_REAL, SHAPE(V, C));
    Both dposition = both_new("dposition", TYPE_REAL, SHAPE(positions, C));
    printf("# %s, batch (%d,%d), table (%d,%d) from %d\n", ids_names[kind], (int)B, (int)T, (int)V, (int)C,
           (int)first_id);

    /* y is random still: a gradient. Sums run in the CPU's order: the same bits. */
    ON_BOTH(k->embedding_backward(q, &ids.on[d], &y.on[d], first_id, &dtoken.on[d]));
    both_close(&dtoken, 0, "embedding_backward");
    ON_BOTH(k->position_backward(q, &y.on[d], first, &dposition.on[d]));
    both_close(&dposition, 0, "position_backward");

    ON_BOTH(k->embedding(q, &ids.on[d], &token.on[d], first_id, NULL, 0, &y.on[d]));
    both_close(&y, 0, "embedding without positions");
    ON_BOTH(k->embedding(q, &ids.on[d], &token.on[d], first_id, &position.on[d], first, &y.on[d]));
    both_close(&y, 0, "embedding");

    both_free(&ids);
    both_free(&token);
    both_free(&position);
    both_free(&y);
    both_free(&dtoken);
    both_free(&dposition);
}

int main(void) {
    both_start();
    for (int t = 0; t < COUNT_OF(both_types); t++) {
        const ElementType type = both_types[t];
        test_embedding(type, ALL_IDS, 1, 1, 1, 1, 0, 0);
        test_embedding(type, ALL_IDS, 0, 4, 9, 5, 0, 0);
        test_embedding(type, ALL_IDS, 3, 33, 11, 5, 0, 1);
        test_embedding(type, ALL_IDS, 2, 50, 64, 129, 40, 3); /* of a vocabulary that is cut */
        test_embedding(type, FEW_IDS, 2, 40, 300, 33, 0, 0);
        test_embedding(type, FEW_IDS, 1, 70, 30, 1100, 0, 0);
        test_embedding(type, ONE_ID, 1, 97, 2, 128, 0, 0);
        test_embedding(type, ALL_IDS, 2, 128, 50257, 3, 0, 0);
    }
    return tap_done();
}
