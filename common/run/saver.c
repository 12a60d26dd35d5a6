#define _GNU_SOURCE
#include "common/run/saver_parts.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A disk that takes longer than this for a set is taken for one that never will. */
static const double LIMIT_SECONDS = 600, LIMIT_AT_EXIT_SECONDS = 30;
enum { MESSAGE_BYTES = 512 };

typedef struct {
    char text[MESSAGE_BYTES]; /* empty: it went well */
} Message;

struct Saver {
    const Config *config;
    Parts parts;
    const Tokenizer *tokenizer;
    PartFile part;
    int32_t *has_part; /* of each rank: it writes a file */
    Worker writer;     /* of this rank's file */
    Worker publisher;  /* rank 0: when all files are there */

    /* of the save that is under way */
    bool busy;
    int64_t step;
    char *path;               /* of this rank's file */
    char *cause;              /* why it could not be written; the writer's own */
    json_t *state;            /* rank 0: beside the tensors */
    CheckpointWriter *folder; /* rank 0 */
    atomic_bool given_up;     /* some rank has failed: rank 0's publisher is not to wait for it */

    Message failure; /* of the last save; empty: there was none */
};

/* ---- the threads ---- */

static void write_file(void *context) {
    const Saver *s = context;
    part_file_write(&s->part, s->step, s->path);
}

static void write_failure(void *context) {
    const Saver *s = context;
    part_file_write_failure(s->path, s->cause);
}

static void write_part(void *context) {
    Saver *s = context;
    s->cause = base_attempt(write_file, s);
    if (!s->cause) return;
    free(base_attempt(write_failure, s)); /* if there is room for that: then rank 0 need not wait */
    char cause[MESSAGE_BYTES];
    snprintf(cause, sizeof cause, "%s", s->cause);
    free(s->cause);
    fail(1, NULL, "%s", cause);
}

static void publish(void *context) {
    Saver *s = context;
    int n = s->parts.comm->size;
    char *folder = checkpoint_writing_folder(s->config->output_dir, s->step);
    for (int r = 0; r < n; r++) {
        if (!s->has_part[r]) continue;
        char *name = part_file_name(r, n), *path = xprintf("%s/%s", folder, name);
        Checksum sum;
        while (!part_file_written(path, r, &sum)) {
            CHECK(!atomic_load(&s->given_up), NULL, "another rank has failed");
            usleep(2000);
        }
        checkpoint_put_written(s->folder, name, sum);
        char *record = xprintf("%s.done", path);
        file_remove(record);
        free(record);
        free(path);
        free(name);
    }
    free(folder);
    snapshot_put_state(s->folder, s->state, s->tokenizer);
    checkpoint_commit(s->folder, s->config->keep_checkpoints);
    s->folder = NULL;
}

/* ---- the end of a save ---- */

static Saver *under_way; /* which a program that ends waits for */

static void wait_at_exit(void) {
    Saver *s = under_way;
    double until = now_seconds() + LIMIT_AT_EXIT_SECONDS;
    if (!s || !worker_wait(&s->writer, LIMIT_AT_EXIT_SECONDS) || s->writer.failure) return;
    if (s->parts.comm->rank == 0) {
        worker_wait(&s->publisher, LIMIT_AT_EXIT_SECONDS);
        return;
    }
    /* where a rank has ended, all are: none before the set has its name */
    char *folder = checkpoint_writing_folder(s->config->output_dir, s->step);
    while (file_exists(folder) && now_seconds() < until) usleep(2000);
}

/* This rank's file is written, or not; the first rank that could not comes back on all. */
static Message finish_writers(Saver *s) {
    enum { WORDS = sizeof(Message) / sizeof(int32_t) };
    Comm *comm = s->parts.comm;
    Message mine = {0}, first = {0}, *all = xcalloc((size_t)comm->size, sizeof *all);
    if (s->has_part[comm->rank]) {
        CHECK(worker_wait(&s->writer, LIMIT_SECONDS), "look at the disk of --output-dir",
              "rank %d: '%s' is not on the disk after %.0f seconds", comm->rank, s->path, LIMIT_SECONDS);
        char *failure = worker_end(&s->writer);
        if (failure)
            snprintf(mine.text, sizeof mine.text, "rank %d: %.*s", comm->rank, MESSAGE_BYTES - 20, failure);
        free(failure);
    }
    comm_all_gather(comm, NULL, &mine, all, WORDS, TYPE_I32);
    for (int r = 0; r < comm->size && !*first.text; r++) first = all[r];
    free(all);
    return first;
}

static void abandon(void *context) { checkpoint_abandon(context); }

/* On rank 0: what has become of the set. */
static Message finish_publisher(Saver *s, Message unwritten) {
    atomic_store(&s->given_up, *unwritten.text);
    CHECK(worker_wait(&s->publisher, LIMIT_SECONDS), "look at the disk of --output-dir",
          "rank 0: the checkpoint of step %lld is not complete after %.0f seconds", (long long)s->step,
          LIMIT_SECONDS);
    char *failure = worker_end(&s->publisher);
    if (failure && s->folder) free(base_attempt(abandon, s->folder));
    if (failure && !*unwritten.text) snprintf(unwritten.text, sizeof unwritten.text, "%s", failure);
    s->folder = NULL;
    free(failure);
    json_decref(s->state);
    s->state = NULL;
    return unwritten;
}

static void begin_folder(void *context) {
    Saver *s = context;
    s->folder = checkpoint_begin(s->config->output_dir, s->parts.optimizer->step);
}

static Message begin_set(Saver *s) {
    Message said = {0};
    char *failure = base_attempt(begin_folder, s);
    if (failure) snprintf(said.text, sizeof said.text, "rank 0: %.*s", MESSAGE_BYTES - 20, failure);
    free(failure);
    return said;
}

/* What comes after a save: the next one, training, or the program's end, whose error says what a warning would. */
typedef enum { THEN_SAVE, THEN_TRAIN, THEN_END } Then;

static void conclude(Saver *s, Message failure, Then then) {
    s->failure = failure;
    if (*failure.text && s->parts.comm->rank == 0 && then != THEN_END)
        warn("the checkpoint of step %lld was not saved: %s; training goes on, and earlier ones are kept",
             (long long)s->step, failure.text);
}

/* The save that is under way is complete, or has failed, on all ranks; and the folder of the next one is there. */
static void settle(Saver *s, Then then) {
    bool begin = then == THEN_SAVE;
    struct {
        Message ended, begun;
    } said = {0}; /* by rank 0 */
    if (!s->busy && !begin) return;
    if (s->busy) said.ended = finish_writers(s);
    if (s->parts.comm->rank == 0) {
        if (s->busy) said.ended = finish_publisher(s, said.ended);
        if (begin) said.begun = begin_set(s);
    }
    comm_broadcast(s->parts.comm, NULL, &said, sizeof said / sizeof(int32_t), TYPE_I32, 0);
    if (s->busy) {
        conclude(s, said.ended, then);
        s->busy = false;
        under_way = NULL;
        free(s->path);
        s->path = NULL;
    }
    if (!begin) return;
    s->step = s->parts.optimizer->step;
    conclude(s, said.begun, then);
}

/* ---- a save ---- */

static void start(Saver *s, int64_t next_window) {
    int rank = s->parts.comm->rank;
    char *folder = checkpoint_writing_folder(s->config->output_dir, s->step),
         *name = part_file_name(rank, s->parts.comm->size);
    s->path = xprintf("%s/%s", folder, name);
    free(name);
    free(folder);
    part_file_copy(&s->part);
    atomic_store(&s->given_up, false);
    s->busy = true;
    under_way = s;
    if (s->has_part[rank]) worker_start(&s->writer);
    if (rank > 0) return;
    s->state = snapshot_state(s->config, s->step, s->tokenizer, next_window);
    worker_start(&s->publisher);
}

void saver_save(Saver *s, int64_t next_window) {
    settle(s, THEN_SAVE);
    if (*s->failure.text) return;
    start(s, next_window);
    if (!s->config->async_save) settle(s, THEN_TRAIN);
}

bool saver_wait(Saver *s) {
    settle(s, THEN_TRAIN);
    return !*s->failure.text;
}

/* ---- all of it ---- */

Saver *saver_new(const Config *config, const Parts *parts, const Tokenizer *tokenizer) {
    static bool registered;
    Saver *s = xcalloc(1, sizeof *s);
    s->config = config;
    s->parts = *parts;
    s->tokenizer = tokenizer;
    s->part = part_file_new(parts);
    s->has_part = xcalloc((size_t)parts->comm->size, sizeof *s->has_part);
    int32_t mine = s->part.count > 0;
    comm_all_gather(parts->comm, NULL, &mine, s->has_part, 1, TYPE_I32);
    worker_init(&s->writer, write_part, s);
    worker_init(&s->publisher, publish, s);
    if (!registered) atexit(wait_at_exit);
    registered = true;
    return s;
}

void saver_close(Saver *s) {
    settle(s, THEN_END);
    CHECK(!*s->failure.text, "make room on the disk, or choose another --output-dir; then --resume",
          "the last checkpoint, of step %lld, was not saved: %s", (long long)s->step, s->failure.text);
    part_file_free(&s->part);
    free(s->has_part);
    free(s);
}
