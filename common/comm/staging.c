#include "common/comm/staging.h"

#include <stdlib.h>

/* A block is used again, for as many bytes or fewer, when the queue has passed its mark: so a step takes nothing new. */
typedef struct Pinned Pinned;
struct Pinned {
    Pinned *next;
    void *memory;
    int64_t room, bytes;
    void *mark; /* behind its copy to the device, by a queue that may be gone; NULL: none is under way */
};
static Pinned *unused;

static Pinned *pinned_take(Queue *q, int64_t bytes) {
    Pinned **at = &unused;
    while (*at && (*at)->room < bytes) at = &(*at)->next;
    Pinned *p = *at;
    if (p) {
        *at = p->next;
        device_wait(q->device, q, p->mark);
    } else {
        p = xmalloc(sizeof *p);
        p->memory = device_pin(q->device, bytes);
        p->room = bytes;
    }
    p->bytes = bytes;
    p->mark = NULL;
    return p;
}

/* Smaller ones are tried first. */
static void pinned_give_back(Pinned *p) {
    Pinned **at = &unused;
    while (*at && (*at)->room < p->room) at = &(*at)->next;
    p->next = *at;
    *at = p;
}

void staging_begin(Staging *s, Queue *q, int ranks, CommCall *call) {
    *s = (Staging){0};
    int64_t in = comm_elements_in(call, ranks) * element_bytes(call->type);
    int64_t out = comm_elements_out(call, ranks) * element_bytes(call->type);
    const void *from = call->in;
    if (in > 0) {
        s->in = pinned_take(q, in);
        q->device->backend->start_read(q, s->in->memory, from, in);
        q->counts.bytes_to_host += in;
        device_wait(q->device, q, device_mark(q->device, q));
        call->in = s->in->memory;
    }
    if (out > 0) {
        s->result = call->out;
        s->out = from == call->out && s->in && s->in->room >= out ? s->in : pinned_take(q, out);
        s->out->bytes = out;
        call->out = s->out->memory;
    }
}

void staging_end(Staging *s, Queue *q) {
    if (s->out) {
        q->device->backend->start_write(q, s->result, s->out->memory, s->out->bytes);
        q->counts.bytes_to_device += s->out->bytes;
        s->out->mark = device_mark(q->device, q);
        pinned_give_back(s->out);
    }
    if (s->in && s->in != s->out) pinned_give_back(s->in);
}
