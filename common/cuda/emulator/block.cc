/* The threads of a block, one after another: each runs until it waits for others, or ends. */
#include "common/cuda/emulator/inside.h"

#include <string.h>

thread_local Block *emulator_block, *emulator_watched;

uint64_t random_below(Block *b, uint64_t n) {
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return (b->random >> 11) % n;
}

static void now(Block *b) {
    if (b->checks) b->now = stamp_new(b->serial, (unsigned)b->current, warp_of(b, b->current)->time);
}

/* ---- beginning and end of a thread ---- */

static void begin(Block *b, Fiber *fiber, int thread) {
    b->current = thread;
    dim3 size = b->launch->block;
    unsigned i = (unsigned)thread;
    b->head.linear = thread;
    b->head.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    memcpy(fiber->stack + EMULATOR_STACK - sizeof b->head, &b->head, sizeof b->head);
    b->threads[i].fiber = fiber;
    b->threads[i].state = RUNNING;
    now(b);
}

static void finish(Block *b) {
    b->threads[(size_t)b->current].state = ENDED;
    b->ended++;
    Warp *w = warp_of(b, b->current);
    w->ended |= 1u << b->current % 32;
    if (b->checks && w->ended == w->there) log_flush(&w->log, b->counts);
}

/* A fiber's life: threads that have not begun, as long as none that did can go on. */
static void fiber_body(void) {
    for (;;) {
        Block *b = emulator_block;
        Fiber *self = b->threads[(size_t)b->current].fiber;
        b->launch->thread(b->launch->arguments);
        finish(b);
        if (b->started < b->thread_count && b->ready.empty()) {
            begin(b, self, b->order[(size_t)b->started++]);
            continue;
        }
        b->stacks.idle.push_back(self);
        fiber_switch(self, &b->scheduler);
    }
}

/* ---- waiting ---- */

void thread_ready(Block *b, int thread) {
    b->threads[(size_t)thread].state = RUNNING;
    b->ready.push_back(thread);
}

void thread_wait(ThreadState state, const char *where, int line, const void *return_address) {
    Block *b = emulator_block;
    Thread *t = &b->threads[(size_t)b->current];
    t->state = state;
    t->where = where;
    t->line = line;
    t->return_address = return_address;
    fiber_switch(t->fiber, &b->scheduler);
}

void emulator_barrier(const char *file, int line) {
    Block *b = emulator_block;
    if (b->at_barrier == 0)
        b->first_at_barrier = b->current;
    else if (const Thread *t = &b->threads[(size_t)b->first_at_barrier];
             t->line != line || (t->where != file && strcmp(t->where, file) != 0)) {
        Thread waiting = {AT_BARRIER, NULL, file, line, __builtin_return_address(0)};
        finding("all threads of a block come to the same __syncthreads()", "thread %s waits%s, thread %s%s",
                thread_text(b, b->first_at_barrier).c_str(), waiting_text(t).c_str(),
                thread_text(b, b->current).c_str(), waiting_text(&waiting).c_str());
    }
    if (++b->at_barrier < b->thread_count) {
        thread_wait(AT_BARRIER, file, line, __builtin_return_address(0));
        return;
    }
    if (!b->pending.empty()) finding(b->pending_hint, "%s", b->pending.c_str());
    b->at_barrier = 0;
    for (int i = 0; i < b->thread_count; i++)
        if (b->order[(size_t)i] != b->current) thread_ready(b, b->order[(size_t)i]);
    if (!b->checks) return;
    b->serial++;
    b->counts->barriers++;
    for (auto &w : b->warps) log_flush(&w.log, b->counts);
    now(b);
}

/* ---- a whole block ---- */

static void run(Block *b) {
    for (size_t next = 0; b->finding.empty();) {
        if (next < b->ready.size()) {
            if (b->random)
                std::swap(b->ready[next], b->ready[next + random_below(b, b->ready.size() - next)]);
            b->current = b->ready[next++];
            if (next == b->ready.size()) b->ready.clear(), next = 0;
            now(b);
            fiber_switch(&b->scheduler, b->threads[(size_t)b->current].fiber);
        } else if (b->started < b->thread_count) {
            Fiber *fiber = fiber_take(&b->stacks, fiber_body);
            begin(b, fiber, b->order[(size_t)b->started++]);
            fiber_switch(&b->scheduler, fiber);
        } else
            return;
    }
}

/* All that are left wait: names one, and what it waits for. */
static void stuck(Block *b) {
    int waits = -1, ended = -1;
    for (int i = 0; i < b->thread_count; i++) {
        ThreadState state = b->threads[(size_t)i].state;
        if (state == AT_WARP_OPERATION) { /* explains those at a barrier as well */
            b->finding = warp_waits_for(b, i);
            b->hint = "each lane of the mask comes to the operation, once for each other";
            return;
        }
        if (state == AT_BARRIER && waits < 0) waits = i;
        if (state == ENDED && ended < 0) ended = i;
    }
    const Thread *t = &b->threads[(size_t)waits];
    b->finding = "thread " + thread_text(b, waits) + " waits" + waiting_text(t) + " for thread " +
                 thread_text(b, ended) + ", which has ended";
    b->hint = "all threads of a block come to each __syncthreads(): no return before one";
}

void block_run(Block *b) {
    b->started = b->ended = b->at_barrier = 0;
    b->ready.clear();
    b->finding.clear();
    b->pending.clear();
    b->serial++;
    b->block_serial = b->serial;
    for (int i = 0; i < b->thread_count; i++) b->order[(size_t)i] = i;
    for (int i = b->thread_count - 1; b->random && i > 0; i--)
        std::swap(b->order[(size_t)i], b->order[random_below(b, (uint64_t)i + 1)]);
    for (size_t i = 0; i < b->warps.size(); i++) warp_reset(&b->warps[i], b->thread_count - 32 * (int)i);
    shared_begin(b);
    emulator_block = b;
    emulator_watched = b->checks ? b : NULL;
    run(b);
    if (b->finding.empty() && !finding_pending(b) && b->ended < b->thread_count) stuck(b);
    emulator_block = emulator_watched = NULL;
    finding_end(b);
}
