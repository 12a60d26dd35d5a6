/* Operations in which lanes of a warp meet. */
#include "common/cuda/emulator/inside.h"

#include <algorithm>
#include <string.h>

void warp_reset(Warp *w, int lanes) {
    w->there = lanes < 32 ? (1u << lanes) - 1 : ~0u;
    w->arrived = w->ended = w->time = 0;
    memset(w->clock, 0, sizeof w->clock);
}

/* Each lane of `need` knows now what any of them knew, and all that they did. */
static void join_clocks(Warp *w, unsigned need) {
    unsigned joined[32] = {0};
    w->time++;
    for (int i = 0; i < 32; i++)
        for (int k = 0; k < 32 && (need >> i & 1); k++) joined[k] = std::max(joined[k], w->clock[i][k]);
    for (int i = 0; i < 32; i++)
        if (need >> i & 1) joined[i] = w->time;
    for (int i = 0; i < 32; i++)
        if (need >> i & 1) memcpy(w->clock[i], joined, sizeof joined);
}

/* All lanes of `need` have come to the same: what each gets. */
static void resolve(Block *b, Warp *w, unsigned need, const char *name) {
    uint64_t votes = 0;
    for (int i = 0; i < 32; i++)
        if ((need >> i & 1) && w->lane[i].value) votes |= 1u << i;
    for (int i = 0; i < 32; i++) {
        Lane *lane = &w->lane[i];
        if (!(need >> i & 1) || lane->operation == SYNC_WARP) continue;
        lane->result = votes;
        if (lane->operation == BALLOT) continue;
        if (!(need >> (lane->from & 31) & 1) || lane->from != (lane->from & 31))
            finding("take values from lanes of the mask alone",
                    "lane %d of warp %d takes the value of lane %d in %s, which is not there (mask %#x)", i,
                    b->current / 32, lane->from, name, lane->mask);
        lane->result = w->lane[lane->from].value;
    }
}

/* All have come, and all to this, not to what they share with others. */
static bool complete(const Warp *w, unsigned need, const Lane *with) {
    if ((w->arrived & need) != need) return false;
    for (int i = 0; i < 32; i++)
        if ((need >> i & 1) && (w->lane[i].mask != with->mask || w->lane[i].operation != with->operation))
            return false;
    return true;
}

static uint64_t meet(WarpOperation operation, unsigned mask, uint64_t value, int from, const char *name) {
    Block *b = emulator_block;
    Warp *w = warp_of(b, b->current);
    int me = b->current % 32, first = b->current - me;
    if (!(mask >> me & 1))
        finding("a lane that calls is in the mask", "thread %s calls %s with a mask that it is not in (%#x)",
                thread_text(b, b->current).c_str(), name, mask);
    Lane *lane = &w->lane[me];
    *lane = {operation, mask, from, value, 0};
    w->arrived |= 1u << me;
    unsigned need = mask & w->there;
    if (!complete(w, need, lane)) {
        thread_wait(AT_WARP_OPERATION, name, 0, NULL);
        return lane->result;
    }
    resolve(b, w, need, name);
    w->arrived &= ~need;
    for (int i = 0; i < 32; i++)
        if ((need >> i & 1) && i != me) thread_ready(b, first + i);
    if (!b->checks) return lane->result;
    if (operation == SYNC_WARP) join_clocks(w, need);
    if (w->time == MOST_TIME)
        finding("SHARD_EMULATOR_CHECKS=0 runs it", "more than %u __syncwarp between two __syncthreads",
                MOST_TIME);
    b->now = stamp_new(b->serial, (unsigned)b->current, w->time);
    if (need == w->there) log_flush(&w->log, b->counts);
    return lane->result;
}

void emulator_sync_warp(unsigned mask) { meet(SYNC_WARP, mask, 0, 0, "__syncwarp"); }

unsigned emulator_ballot(unsigned mask, bool vote) {
    return (unsigned)meet(BALLOT, mask, vote, 0, "__ballot_sync");
}

uint64_t emulator_shuffle(unsigned mask, uint64_t value, int from, const char *what) {
    return meet(SHUFFLE, mask, value, from, what);
}

static std::string with_mask(unsigned mask) {
    char text[40];
    snprintf(text, sizeof text, " with mask %#x", mask);
    return text;
}

std::string warp_waits_for(Block *b, int thread) {
    Warp *w = warp_of(b, thread);
    const Lane *lane = &w->lane[thread % 32];
    unsigned missing = lane->mask & w->there; /* not empty: else they would have met */
    for (int i = 0; i < 32; i++)
        if ((w->arrived >> i & 1) && w->lane[i].mask == lane->mask && w->lane[i].operation == lane->operation)
            missing &= ~(1u << i);
    int other = thread / 32 * 32 + __builtin_ctz(missing);
    const Thread *t = &b->threads[(size_t)other];
    std::string text = "thread " + thread_text(b, thread) + " waits" +
                       waiting_text(&b->threads[(size_t)thread]) + with_mask(lane->mask) + " for thread " +
                       thread_text(b, other) + ", which ";
    if (t->state == ENDED) return text + "has ended";
    return text + "waits" + waiting_text(t) +
           (t->state == AT_BARRIER ? "" : with_mask(w->lane[other % 32].mask));
}
