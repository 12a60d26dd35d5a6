/* ring: the all-reduce of the library, written out by hand in messages, twice.
 *
 *   ring   n - 1 steps in which sums form and n - 1 in which they spread; in each, every device sends one slice of n to
 *          its right neighbour: 2 (n-1) messages one after the other, of S/n bytes each (Patarasuk and Yuan, Bandwidth
 *          Optimal All-reduce Algorithms for Clusters of Workstations, 2009)
 *   tree   pairs, pairs of pairs, ... send to a root, and the sum takes the same way back: 2 ceil(log2 n) messages one
 *          after the other, of S bytes each
 *
 * Both send 2 (n-1) S bytes in all, exactly, also when n does not divide the count. Every device of the group makes the
 * same call. The sums are the same on every device, but not those of comm_all_reduce to the last bit: that one adds in
 * rank order, a ring starts each slice at another device, a tree adds sums to sums.
 *
 * data and scratch lie where the calls of the queue have their memory (comm.h): on its device, as TYPE_REAL, where a kernel
 * adds; or, where it has no device, in the host's. There integers are taken as well, and wrap around; bf16, which is to be
 * rounded once, is not. */
#ifndef RING_H
#define RING_H

#include "common/comm/comm.h"

/* data (count) becomes the sum over the devices; scratch: room for ceil(count / n) elements. */
void ring_all_reduce(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type);
/* Step 0 .. 2 (n-1) - 1 of it, for whoever wants to watch: all of them in order are ring_all_reduce. After the first
 * n - 1 slice `rank + 1` (modulo n) holds its whole sum. */
void ring_step(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type, int step);

/* Slice k of count elements cut into n: its first element, and the first one behind it. */
typedef struct {
    int64_t first, end;
} Slice;
Slice ring_slice(int64_t count, int n, int k);

/* data (count) becomes the sum over the devices; scratch: room for count elements. */
void tree_all_reduce(Comm *comm, Queue *q, void *data, void *scratch, int64_t count, ElementType type);
/* How many messages are one after the other: 2 ceil(log2 n). */
int tree_depth(int n);

#endif
