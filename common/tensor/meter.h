/* meter: what each kernel costs, counted from the shapes of its operands.
 *
 * A meter stands in front of a device's table of kernels: its functions call the real ones, and say after each
 * call which kernel ran, what it cost, and when. Ops, programs and the real kernels know nothing about it, and
 * a program without a meter loses no time. Costs depend on shapes alone: the same step costs the same on every
 * machine. */
#ifndef METER_H
#define METER_H

#include "common/tensor/kernels.h"

/* One FLOP is one of + - * / or a comparison, exp, log, sqrt or tanh of one number. */
typedef struct {
    int64_t product; /* FLOPs of matrix products and attention: 6 N + 6 L C T for each token of training */
    int64_t again;   /* FLOPs of products that are formed a second time rather than kept */
    int64_t other;   /* FLOPs of everything else */
    int64_t bytes;   /* what must move at least: each operand read once, each result written once */
} Cost;

static inline int64_t cost_flops(Cost c) { return c.product + c.again + c.other; }
static inline Cost cost_sum(Cost a, Cost b) {
    return (Cost){a.product + b.product, a.again + b.again, a.other + b.other, a.bytes + b.bytes};
}

enum { CALL_SHAPES = 3 };
typedef struct {
    const char *kernel;        /* "matmul" */
    Shape shapes[CALL_SHAPES]; /* of the operands that decide the cost; rank 0 behind the last */
    Cost cost;
    double begin, end; /* now_seconds */
} KernelCall;

typedef struct Meter {
    void (*timed)(void *context, KernelCall *call); /* sets begin and end, as a clock does; may be NULL */
    void (*done)(void *context, const KernelCall *call); /* is told of the call; may be NULL */
    void *context;
    struct Meter *next;  /* several can listen; set by meter_attach */
    const Kernels *real; /* likewise, in the last of them */
} Meter;

/* Puts the meter in front of the device's kernels, until meter_detach; the meter must live as long. */
void meter_attach(Device *device, Meter *meter);
void meter_detach(Device *device, Meter *meter);

/* The kernels behind the meters: of a dry device those that it is like. */
const Kernels *meter_kernels(const Device *device);
/* What stands in front of them; on a dry device, always. */
extern const Kernels kernels_metered;

#endif
