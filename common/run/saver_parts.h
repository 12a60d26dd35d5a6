/* saver_parts: what one rank writes of a checkpoint, and the thread that does. For saver.c. */
#ifndef SAVER_PARTS_H
#define SAVER_PARTS_H

#include "common/run/saver.h"

#include <pthread.h>

/* ---- a thread whose end can be waited for, for so long ---- */

typedef struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool started, done;
    void (*act)(void *context);
    void *context;
    char *failure; /* what would have ended the program; NULL: it went well */
} Worker;

void worker_init(Worker *worker, void (*act)(void *context), void *context);
void worker_start(Worker *worker);
/* False: it is still at work after so many seconds. */
bool worker_wait(Worker *worker, double seconds);
/* Behind worker_wait: its failure, which the caller frees. */
char *worker_end(Worker *worker);

/* ---- the file of one rank ---- */

typedef struct {
    NamedArray *arrays; /* their data is in `copy` */
    Tensor **from;
    int64_t count;
    char *copy;
    json_t *metadata;
} PartFile;

PartFile part_file_new(const Parts *parts);
void part_file_free(PartFile *part);
/* As the tensors are now. */
void part_file_copy(PartFile *part);
/* "part-0003-of-0008.safetensors" */
char *part_file_name(int rank, int size);

/* Writes the copy to path, and a record of it beside it: path.done. */
void part_file_write(const PartFile *part, int64_t step, const char *path);
/* The record says that this rank's file could not be written, and why. */
void part_file_write_failure(const char *path, const char *failure);
/* False: there is none yet. A file that could not be written ends the program (or the attempt), with `rank`. */
bool part_file_written(const char *path, int rank, Checksum *sum);

#endif
