#define _GNU_SOURCE
#include "common/run/saver_parts.h"

#include "common/run/checkpoint_sets.h"
#include "common/run/stored.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- threads ---- */

void worker_init(Worker *worker, void (*act)(void *), void *context) {
    *worker = (Worker){.done = true, .act = act, .context = context};
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->ended, NULL);
}

static void *work(void *context) {
    Worker *worker = context;
    char *failure = base_attempt(worker->act, worker->context);
    pthread_mutex_lock(&worker->lock);
    worker->failure = failure;
    worker->done = true;
    pthread_cond_broadcast(&worker->ended);
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

void worker_start(Worker *worker) {
    ASSERT(!worker->started);
    worker->done = false;
    worker->started = pthread_create(&worker->thread, NULL, work, worker) == 0;
    if (!worker->started) work(worker); /* no more threads to be had: it is done at once */
}

bool worker_wait(Worker *worker, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)seconds;
    pthread_mutex_lock(&worker->lock);
    while (!worker->done && pthread_cond_timedwait(&worker->ended, &worker->lock, &until) != ETIMEDOUT)
        ;
    bool done = worker->done;
    pthread_mutex_unlock(&worker->lock);
    return done;
}

char *worker_end(Worker *worker) {
    if (worker->started) pthread_join(worker->thread, NULL);
    worker->started = false;
    char *failure = worker->failure;
    worker->failure = NULL;
    return failure;
}

/* ---- what a rank writes ---- */

char *part_file_name(int rank, int size) { return xprintf("part-%04d-of-%04d.safetensors", rank, size); }

/* "m.head.weight", or "m.head.weight#1" for the second part of one parameter. */
static char *entry_name(const Params *params, int index, const char *prefix) {
    const char *name = params->items[index]->name;
    int before = 0;
    for (int i = 0; i < index; i++) before += strcmp(params->items[i]->name, name) == 0;
    return before ? xprintf("%s%s#%d", prefix, name, before) : xprintf("%s%s", prefix, name);
}

static void add(PartFile *part, char *name, const Param *p, Tensor *from) {
    if (!from->data) { /* SGD has one moment */
        free(name);
        return;
    }
    size_t room = (size_t)(part->count + 1);
    part->arrays = xrealloc(part->arrays, room * sizeof *part->arrays);
    part->from = xrealloc(part->from, room * sizeof *part->from);
    NamedArray *a = &part->arrays[part->count];
    *a = (NamedArray){.name = name, .type = ARRAY_REAL, .rank = from->shape.rank};
    memcpy(a->shape, from->shape.size, sizeof a->shape);
    part->from[part->count++] = from;
    char *text = piece_text(p);
    json_object_set_new(part->metadata, name, json_string(text));
    free(text);
}

PartFile part_file_new(const Parts *parts) {
    const Optimizer *o = parts->optimizer;
    PartFile part = {.metadata = json_object()};
    for (int i = 0; i < o->params->count && !parts->copy; i++) {
        Param *p = o->params->items[i];
        if (p->replica > 0 || !piece_has_elements(p)) continue;
        add(&part, entry_name(o->params, i, ""), p, &p->data);
        add(&part, entry_name(o->params, i, "m."), p, &o->m[i]);
        add(&part, entry_name(o->params, i, "v."), p, &o->v[i]);
    }
    int64_t bytes = 0;
    for (int64_t i = 0; i < part.count; i++) bytes += array_bytes(&part.arrays[i]);
    part.copy = xmalloc((size_t)bytes);
    memset(part.copy, 0, (size_t)bytes); /* so that the memory is there before the first save */
    bytes = 0;
    for (int64_t i = 0; i < part.count; i++) {
        part.arrays[i].data = part.copy + bytes;
        bytes += array_bytes(&part.arrays[i]);
    }
    char *says = xprintf("%d of %d", parts->comm->rank, parts->comm->size);
    json_object_set_new(part.metadata, "part", json_string(says));
    free(says);
    return part;
}

void part_file_free(PartFile *part) {
    for (int64_t i = 0; i < part->count; i++) free((char *)(uintptr_t)part->arrays[i].name);
    free(part->arrays);
    free(part->from);
    free(part->copy);
    json_decref(part->metadata);
    *part = (PartFile){0};
}

void part_file_copy(PartFile *part) {
    for (int64_t i = 0; i < part->count; i++)
        tensor_read(part->from[i], 0, tensor_count(part->from[i]), part->arrays[i].data);
}

/* ---- its record ---- */

/* It is never read after a crash, so nothing is synced. And once it has its name, rank 0 may move the folder: nothing is
 * looked for in there any more. */
static void write_record(const char *path, json_t *record) {
    char *place = xprintf("%s.done", path), *temporary = xprintf("%s.tmp", place);
    FILE *f = file_open(temporary, "wb");
    json_dumpf(record, f, JSON_COMPACT);
    file_close(f, temporary);
    file_rename(temporary, place);
    json_decref(record);
    free(temporary);
    free(place);
}

void part_file_write(const PartFile *part, int64_t step, const char *path) {
    char *says = xprintf("%lld", (long long)step);
    json_object_set_new(part->metadata, "step", json_string(says));
    free(says);
    safetensors_write(path, part->arrays, part->count, part->metadata);
    Checksum sum = file_checksum(path);
    write_record(path, json_pack("{s:I, s:s}", "bytes", (json_int_t)sum.bytes, "xxh3_128", sum.text));
}

void part_file_write_failure(const char *path, const char *failure) {
    write_record(path, json_pack("{s:s}", "failure", failure));
}

bool part_file_written(const char *path, int rank, Checksum *sum) {
    char *place = xprintf("%s.done", path);
    bool there = file_exists(place);
    if (there) {
        json_t *record = json_load_file(place, JSON_REJECT_DUPLICATES, NULL);
        const char *failure = json_string_value(json_object_get(record, "failure")),
                   *text = json_string_value(json_object_get(record, "xxh3_128"));
        CHECK(!failure, NULL, "rank %d: %s", rank, failure);
        CHECK(text, NULL, "rank %d: '%s' does not say what was written", rank, place);
        sum->bytes = json_integer_value(json_object_get(record, "bytes"));
        snprintf(sum->text, sizeof sum->text, "%s", text);
        json_decref(record);
    }
    free(place);
    return there;
}
