/* clock: what time it is on a device.
 *
 * Without a clock of its own, a device has the time of this machine. With one, kernels and messages run as always, but
 * their times come from a model of another device: the same digits in every run, whatever else the laptop is doing.
 *
 *   a kernel       max(FLOPs / peak, bytes / bandwidth), counted from its shapes (meter.h)
 *   a message      latency + bytes / bandwidth of the link; it carries its sender's clock, and the receiver's goes on
 *                  from the later of the two
 *   a collective   begins when the last of the group has come and the group's calls before it are done; then it takes
 *                  what a ring takes (clock_collective_seconds)
 *
 * Programs read queue_now, and no result depends on it. */
#ifndef CLOCK_H
#define CLOCK_H

#include "common/comm/comm.h"
#include "common/config/device_model.h"
#include "common/tensor/meter.h"

typedef struct Clock {
    const DeviceModel *model;
    double now;  /* seconds since clock_attach: when all that was issued to the queue is done */
    bool held;   /* kernels take no time */
    int number;  /* of this clock among all that were attached: a group forgets what it knew by another one */
    Meter meter; /* through which it hears of kernels */
    Device *device;
} Clock;

/* The device's queue takes its time from this clock, which must live as long; it starts at 0. */
void clock_attach(Device *device, Clock *clock, const DeviceModel *model);
void clock_detach(Clock *clock);

/* Where a program says itself what its work takes, as a formula does that gives each action of a pipeline one time: while
 * the clock is held kernels take none (messages do as ever), and seconds pass where the program says so. */
void clock_hold(Clock *clock, bool held);
void clock_pass(Clock *clock, double seconds);

/* Seconds, from any zero: the queue's clock, or this machine's. q may be NULL: this machine's. */
double queue_now(const Queue *q);

/* What the model says. */
double clock_kernel_seconds(const DeviceModel *model, Cost cost);
/* One message from rank to rank (of the world). */
double clock_message_latency(const DeviceModel *model, int from, int to);
double clock_message_bandwidth(const DeviceModel *model, int from, int to); /* bytes/s */
/* A collective in a ring of the group's n ranks, with links of latency a and bandwidth W, S being the bytes of the whole
 * array: all_gather, reduce_scatter and all_to_all (n-1) a + (n-1)/n S/W, all_reduce twice that, broadcast
 * (n-1) a + S/W, barrier 2 (n-1) a. A group within a node has the links inside it. Between nodes the latency is that of
 * the links across, and as many of them work at once as the group has members on each node (at most what the links
 * inside carry). */
double clock_collective_seconds(const DeviceModel *model, const Comm *comm, const CommCall *call);

#endif
