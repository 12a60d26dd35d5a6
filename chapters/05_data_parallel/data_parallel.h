/* data_parallel: every device holds the whole model and trains on its own slice of the batch. The gradient of the whole
 * batch is the sum of theirs: one all-reduce of as many numbers as there are parameters, and every device goes on with
 * the same bits.
 *
 * A weight is Replicate, its use in the forward pass Private: op_copy on the weights (common/comm/dist_ops.h), whose backward
 * is the all-reduce. Here that all-reduce is taken out of the tape, so that it can be done later, together, and at the
 * same time as other work:
 *
 *   OVERLAP_NONE       after backward, one all-reduce for each parameter
 *   OVERLAP_BUCKET     after backward, neighbours together in buckets: fewer calls, less latency
 *   OVERLAP_BACKWARD   a bucket begins as soon as its last gradient is formed, while backward goes on
 *
 * Gradients lie in one piece of memory in about the order in which backward forms them, so a bucket is a stretch of it and
 * nothing is copied. Each use of a parameter has its own place: a tied head is reduced twice, since the sum over devices
 * comes before the sum over uses (param.h), which is what makes the bits those of one device. */
#ifndef DATA_PARALLEL_H
#define DATA_PARALLEL_H

#include "common/comm/comm.h"
#include "common/config/config.h"
#include "common/tensor/param.h"

typedef struct DataParallel DataParallel;

/* comm: the devices with slices of one batch (the mesh's axis `data`); every one of them calls it. bucket_bytes: a
 * bucket is closed when it holds at least so many. Gradients (params' MEMORY_GRADIENTS) are placed here. */
DataParallel *data_parallel_new(Params *params, Comm *comm, Overlap overlap, int64_t bucket_bytes);
void data_parallel_delete(DataParallel *dp);

/* After the last micro-batch's backward: returns when every gradient is the sum over the devices. */
void data_parallel_finish(DataParallel *dp);

/* What an all-reduce of the gradients moves: their bytes, S. Summed over n devices a step sends 2 (n-1) S. */
int64_t data_parallel_bytes(const DataParallel *dp);
int data_parallel_buckets(const DataParallel *dp); /* all-reduces in a step */

/* Of the step before, in the order in which the all-reduces began, 0 <= k < buckets: when a bucket was full, and when its
 * all-reduce was done, by the queue's clock. */
typedef struct {
    int64_t bytes;
    double ready, done;
} BucketTimes;
BucketTimes data_parallel_times(const DataParallel *dp, int k);

/* The parameters of every device are those of rank 0 to the bit; ends the program where they are not: a device has done
 * something of its own, and the model falls apart. */
void data_parallel_check(const DataParallel *dp);

#endif
