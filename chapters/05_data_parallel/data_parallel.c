#include "chapters/05_data_parallel/data_parallel.h"

#include "common/comm/clock.h"

#include <stdlib.h>

/* One use of one parameter: its gradient is `count` elements of the memory from `first` on. */
typedef struct {
    Param *param;
    int use, bucket;
    int64_t first, count;
} Slot;

typedef struct {
    int64_t first, count;
    int slots, missing; /* gradients in it; those of this step that are not formed yet */
    CommRequest *request;
    double ready, done;
} Bucket;

struct DataParallel {
    Params *params;
    Comm *comm;
    Overlap overlap;
    Tensor memory; /* of all gradients */
    Slot *slots;
    Bucket *buckets;
    int slot_count, bucket_count;
    int *order, started; /* the buckets whose all-reduces have begun in this step, in that order */
};

/* ---- the plan: which gradient lies where, and in which bucket ---- */

static void add_slot(DataParallel *dp, Param *p, int use) {
    int64_t first = 0;
    if (dp->slot_count) first = dp->slots[dp->slot_count - 1].first + dp->slots[dp->slot_count - 1].count;
    dp->slots = xrealloc(dp->slots, (size_t)(dp->slot_count + 1) * sizeof *dp->slots);
    dp->slots[dp->slot_count++] = (Slot){p, use, 0, first, tensor_count(&p->data)};
}

/* Backward goes from the last layer to the first: so the parameters in reverse, behind the later uses of those that have
 * several (the head of a tied embedding). A wrong guess costs time, not bits: a bucket waits for all that is in it. */
static void plan_slots(DataParallel *dp) {
    for (int i = 0; i < dp->params->count; i++)
        for (int use = 1; use < dp->params->items[i]->uses; use++) add_slot(dp, dp->params->items[i], use);
    for (int i = dp->params->count; i-- > 0;) add_slot(dp, dp->params->items[i], 0);
}

static void plan_buckets(DataParallel *dp, int64_t bucket_bytes) {
    int64_t full = ceil_div(bucket_bytes, element_bytes(TYPE_REAL));
    Bucket *bucket = NULL;
    dp->buckets = xcalloc((size_t)dp->slot_count, sizeof *dp->buckets);
    for (int i = 0; i < dp->slot_count; i++) {
        Slot *slot = &dp->slots[i];
        if (!bucket || dp->overlap == OVERLAP_NONE || bucket->count >= full) {
            bucket = &dp->buckets[dp->bucket_count++];
            bucket->first = slot->first;
        }
        slot->bucket = dp->bucket_count - 1;
        bucket->count += slot->count;
        bucket->slots++;
        bucket->missing++;
    }
}

/* ---- the step ---- */

static Queue *queue(const DataParallel *dp) { return &dp->params->device->queue; }

static void bucket_start(DataParallel *dp, int index) {
    Bucket *bucket = &dp->buckets[index];
    Tensor gradients = tensor_view(&dp->memory, bucket->first, SHAPE(bucket->count));
    bucket->request = comm_start_all_reduce(dp->comm, queue(dp), gradients.data, gradients.data,
                                            bucket->count, TYPE_REAL, REDUCE_SUM);
    dp->order[dp->started++] = index;
}

static void bucket_wait(DataParallel *dp, int index) {
    Bucket *bucket = &dp->buckets[index];
    comm_wait(dp->comm, queue(dp), bucket->request);
    bucket->done = queue_now(queue(dp));
    bucket->missing = bucket->slots;
}

/* A gradient of this device is complete. */
static void grad_ready(void *context, Param *p, int use) {
    DataParallel *dp = context;
    int i = 0;
    while (dp->slots[i].param != p || dp->slots[i].use != use) i++;
    Bucket *bucket = &dp->buckets[dp->slots[i].bucket];
    ASSERT(bucket->missing > 0);
    if (--bucket->missing > 0) return;
    bucket->ready = queue_now(queue(dp));
    if (dp->overlap == OVERLAP_BACKWARD) bucket_start(dp, dp->slots[i].bucket);
}

void data_parallel_finish(DataParallel *dp) {
    for (int i = 0; i < dp->bucket_count; i++) {
        ASSERT(dp->buckets[i].missing == 0);
        if (dp->overlap != OVERLAP_BACKWARD) bucket_start(dp, i);
        if (dp->overlap == OVERLAP_NONE) bucket_wait(dp, i);
    }
    for (int k = 0; k < dp->started && dp->overlap != OVERLAP_NONE; k++) bucket_wait(dp, dp->order[k]);
    dp->started = 0;
    params_add_uses(dp->params);
}

/* ---- the rest ---- */

DataParallel *data_parallel_new(Params *params, Comm *comm, Overlap overlap, int64_t bucket_bytes) {
    DataParallel *dp = xcalloc(1, sizeof *dp);
    *dp = (DataParallel){.params = params, .comm = comm, .overlap = overlap};
    plan_slots(dp);
    ASSERT(dp->slot_count > 0);
    plan_buckets(dp, bucket_bytes);
    dp->order = xcalloc((size_t)dp->bucket_count, sizeof *dp->order);
    const Slot *last = &dp->slots[dp->slot_count - 1];
    dp->memory = tensor_new(params->device, MEMORY_GRADIENTS, "gradients", TYPE_REAL,
                            SHAPE(last->first + last->count));
    for (int i = 0; i < dp->slot_count; i++)
        param_place_grad(dp->slots[i].param, dp->slots[i].use, &dp->memory, dp->slots[i].first);
    params->on_grad_ready = grad_ready;
    params->on_grad_ready_context = dp;
    return dp;
}

void data_parallel_delete(DataParallel *dp) {
    dp->params->on_grad_ready = NULL;
    for (int i = 0; i < dp->slot_count; i++) param_place_grad(dp->slots[i].param, dp->slots[i].use, NULL, 0);
    tensor_free(&dp->memory);
    free(dp->slots);
    free(dp->buckets);
    free(dp->order);
    free(dp);
}

int64_t data_parallel_bytes(const DataParallel *dp) { return tensor_bytes(&dp->memory); }

int data_parallel_buckets(const DataParallel *dp) { return dp->bucket_count; }

BucketTimes data_parallel_times(const DataParallel *dp, int k) {
    const Bucket *b = &dp->buckets[dp->order[k]];
    return (BucketTimes){b->count * element_bytes(TYPE_REAL), b->ready, b->done};
}

void data_parallel_check(const DataParallel *dp) {
    uint64_t hash = 0;
    for (int i = 0; i < dp->params->count; i++) {
        Param *p = dp->params->items[i];
        param_acquire(p);
        hash = tensor_hash(&p->data, hash); /* what is updated, also where ops get a copy */
        param_release(p);
    }
    int n = dp->comm->size;
    uint64_t *all = xmalloc((size_t)n * sizeof *all);
    Queue host = queue_of_host(queue(dp));
    comm_all_gather(dp->comm, &host, &hash, all, sizeof hash / sizeof(int32_t), TYPE_I32);
    for (int r = 1; r < n; r++)
        CHECK(all[r] == all[0], "every device must do the same with the same gradients",
              "rank %d and rank 0 of '%s' hold different parameters", r, dp->comm->name);
    free(all);
}
