/* saved: for tests of what is saved. A tokenizer, which every checkpoint has; are two checkpoints the same, whole tensor by whole
 * tensor, bit by bit, however many devices have written each? */
#ifndef SAVED_H
#define SAVED_H

#include "common/data/tokenizer.h"
#include "common/run/stored.h"

#include <stdlib.h>
#include <string.h>

static inline Tokenizer *small_tokenizer(void) {
    static const char text[] = "a text that nobody reads, read by nobody";
    return tokenizer_train(text, sizeof text - 1, 260);
}

static inline bool same_tensor(Stored *a, Stored *b, int64_t i) {
    NamedArray x = stored_tensor(a, i);
    int64_t other = stored_find(b, x.name), bytes = array_bytes(&x);
    if (other < 0) return false;
    NamedArray y = stored_tensor(b, other);
    if (x.type != y.type || !array_same_shape(&x, &y)) return false;
    x.data = xmalloc((size_t)bytes);
    y.data = xmalloc((size_t)bytes);
    stored_read_whole(a, i, x.data);
    stored_read_whole(b, other, y.data);
    bool same = memcmp(x.data, y.data, (size_t)bytes) == 0;
    free(x.data);
    free(y.data);
    return same;
}

/* The sets of two runs' folders after `step` steps: verified, complete, and of the same weights and moments. */
static inline bool same_saved(const char *run_a, const char *run_b, int step) {
    char *paths[] = {xprintf("%s/checkpoint/step-%06d", run_a, step),
                     xprintf("%s/checkpoint/step-%06d", run_b, step)};
    Checkpoint *sets[] = {checkpoint_open(paths[0]), checkpoint_open(paths[1])};
    Stored *a = stored_open(sets[0]), *b = stored_open(sets[1]);
    bool same = stored_count(a) > 0 && stored_count(a) == stored_count(b);
    for (int64_t i = 0; i < stored_count(a) && same; i++) same = same_tensor(a, b, i);
    stored_close(a);
    stored_close(b);
    for (int k = 0; k < 2; k++) checkpoint_close(sets[k]), free(paths[k]);
    return same;
}

#endif
