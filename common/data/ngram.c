#include "common/data/ngram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKEN_BITS = 21 }; /* three tokens fit a 64-bit key: a, b, c from high to low */
static const uint64_t TOKEN_MASK = ((uint64_t)1 << TOKEN_BITS) - 1;

/* All n-grams of one order, sorted by key, so that those with the same context are neighbours. */
typedef struct {
    uint64_t *keys;
    int64_t *counts;
    int64_t count;
    double discount[4]; /* for a count of 0, 1, 2, and 3 or more */
    int64_t *first;     /* context i: n-grams first[i] .. first[i+1] - 1 */
    double *total;      /* ... the sum of their counts */
    double *saved;      /* ... the sum of their discounts */
    int64_t contexts;
} Order;

struct Ngram {
    Order order[3]; /* unigrams, bigrams, trigrams */
    int64_t vocab_size;
};

/* ---- counting ---- */

/* Sorts keys below 2^bits, least significant digits first. */
static void sort_keys(uint64_t *keys, int64_t count, int bits) {
    enum { DIGIT = 11 };
    uint64_t *from = keys, *to = xmalloc((size_t)count * sizeof *to), *other = to;
    for (int shift = 0; shift < bits; shift += DIGIT) {
        int64_t start[(1 << DIGIT) + 1] = {0};
        for (int64_t i = 0; i < count; i++) start[(from[i] >> shift & ((1 << DIGIT) - 1)) + 1]++;
        for (int d = 0; d < 1 << DIGIT; d++) start[d + 1] += start[d];
        for (int64_t i = 0; i < count; i++) to[start[from[i] >> shift & ((1 << DIGIT) - 1)]++] = from[i];
        uint64_t *swap = from;
        from = to, to = swap;
    }
    if (from != keys) memcpy(keys, from, (size_t)count * sizeof *keys);
    free(other);
}

/* Discounts from the counts of counts (Chen and Goodman, equation 17). A small text may lack
 * some: then half. */
static void set_discounts(Order *order) {
    double having[5] = {0};
    for (int64_t i = 0; i < order->count; i++)
        if (order->counts[i] <= 4) having[order->counts[i]]++;
    double y = having[1] / (having[1] + 2 * having[2]);
    for (int r = 1; r <= 3; r++) {
        double discount = r - (r + 1) * y * having[r + 1] / having[r];
        order->discount[r] = discount > 0 && discount < r ? discount : 0.5; /* false for NaN too */
    }
}

static double discount_of(const Order *order, int64_t i) {
    return order->discount[min64(order->counts[i], 3)];
}

/* Takes over `keys` (sorted, with repeats): each different key is an n-gram. */
static void make_order(Order *order, uint64_t *keys, int64_t count) {
    order->keys = keys;
    order->counts = xmalloc((size_t)count * sizeof *order->counts);
    for (int64_t i = 0; i < count; i++) {
        if (i == 0 || keys[i] != keys[order->count - 1]) {
            keys[order->count] = keys[i];
            order->counts[order->count++] = 0;
        }
        order->counts[order->count - 1]++;
    }
    set_discounts(order);
    order->first = xmalloc((size_t)(order->count + 1) * sizeof *order->first);
    order->total = xmalloc((size_t)order->count * sizeof *order->total);
    order->saved = xmalloc((size_t)order->count * sizeof *order->saved);
    for (int64_t i = 0; i < order->count; i++) {
        if (i == 0 || keys[i] >> TOKEN_BITS != keys[i - 1] >> TOKEN_BITS) {
            order->first[order->contexts] = i;
            order->total[order->contexts] = order->saved[order->contexts] = 0;
            order->contexts++;
        }
        order->total[order->contexts - 1] += (double)order->counts[i];
        order->saved[order->contexts - 1] += discount_of(order, i);
    }
    order->first[order->contexts] = order->count;
}

Ngram *ngram_train(const int32_t *tokens, int64_t count, int64_t vocab_size) {
    ASSERT(vocab_size > 0 && vocab_size <= (int64_t)TOKEN_MASK + 1);
    Ngram *ngram = xcalloc(1, sizeof *ngram);
    ngram->vocab_size = vocab_size;
    int64_t n = max64(count - 2, 0);
    uint64_t *keys = xmalloc((size_t)n * sizeof *keys);
    for (int64_t i = 0; i < n; i++) {
        ASSERT(tokens[i] >= 0 && tokens[i] < vocab_size && tokens[i + 2] < vocab_size);
        keys[i] = (uint64_t)tokens[i] << 2 * TOKEN_BITS | (uint64_t)tokens[i + 1] << TOKEN_BITS |
                  (uint64_t)tokens[i + 2];
    }
    sort_keys(keys, n, 3 * TOKEN_BITS);
    make_order(&ngram->order[2], keys, n);
    /* a lower order counts the different n-grams of the order above that end in it */
    for (int k = 1; k >= 0; k--) {
        const Order *above = &ngram->order[k + 1];
        keys = xmalloc((size_t)above->count * sizeof *keys);
        for (int64_t i = 0; i < above->count; i++)
            keys[i] = above->keys[i] & (((uint64_t)1 << (k + 1) * TOKEN_BITS) - 1);
        sort_keys(keys, above->count, (k + 1) * TOKEN_BITS);
        make_order(&ngram->order[k], keys, above->count);
    }
    return ngram;
}

void ngram_free(Ngram *ngram) {
    for (int k = 0; k < 3; k++) {
        free(ngram->order[k].keys);
        free(ngram->order[k].counts);
        free(ngram->order[k].first);
        free(ngram->order[k].total);
        free(ngram->order[k].saved);
    }
    free(ngram);
}

/* ---- asking ---- */

/* One step up: the discounted share of c in this context plus what was saved times the
 * lower order's answer. */
static double interpolate(const Order *order, uint64_t context, uint64_t c, double lower) {
    int64_t low = 0, high = order->contexts; /* the first context that is not below `context` */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (order->keys[order->first[middle]] >> TOKEN_BITS < context)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == order->contexts || order->keys[order->first[low]] >> TOKEN_BITS != context) return lower;
    uint64_t key = context << TOKEN_BITS | c;
    int64_t i = order->first[low], end = order->first[low + 1];
    while (i < end) {
        int64_t middle = (i + end) / 2;
        if (order->keys[middle] < key)
            i = middle + 1;
        else
            end = middle;
    }
    bool seen = i < order->first[low + 1] && order->keys[i] == key;
    double own = seen ? (double)order->counts[i] - discount_of(order, i) : 0;
    return (own + order->saved[low] * lower) / order->total[low];
}

double ngram_probability(const Ngram *ngram, int32_t a, int32_t b, int32_t c) {
    double p = interpolate(&ngram->order[0], 0, (uint64_t)c, 1.0 / (double)ngram->vocab_size);
    if (b == NGRAM_NONE) return p;
    p = interpolate(&ngram->order[1], (uint64_t)b, (uint64_t)c, p);
    if (a == NGRAM_NONE) return p;
    return interpolate(&ngram->order[2], (uint64_t)a << TOKEN_BITS | (uint64_t)b, (uint64_t)c, p);
}

double ngram_loss(const Ngram *ngram, const int32_t *tokens, const int32_t *targets, int64_t T,
                  int64_t *counted) {
    double sum = 0;
    *counted = 0;
    for (int64_t t = 0; t < T; t++) {
        if (targets[t] < 0) continue;
        sum -= log(ngram_probability(ngram, t > 0 ? tokens[t - 1] : NGRAM_NONE, tokens[t], targets[t]));
        ++*counted;
    }
    return *counted ? sum / (double)*counted : NAN;
}
