/* profile: where the time of a step goes. Puts a meter in front of a device's kernels, listens to the tapes,
 * and so knows of each kernel which op of the model called it, and in which phase of the step.
 *
 * The tape says what is forward, and what is each of the two halves of backward. The program names the other
 * phases, with profile_phase, when they begin. No time is left out: what is spent between two kernels belongs
 * to the phase too.
 *
 * A GPU does its work later than the host issues it. With a trace its own times count (device_stamp): what is heard in a step
 * is kept, and told at the step's end, when they are known. Without, phases have the host's times.
 *
 * All calls accept a profile that is NULL, and then do nothing. */
#ifndef PROFILE_H
#define PROFILE_H

#include "common/tensor/meter.h"
#include "common/tensor/tape.h"
#include "common/run/trace.h"

typedef enum {
    PHASE_NONE, /* the program has named none */
    PHASE_DATA,
    PHASE_FORWARD,
    PHASE_BACKWARD,       /* outside its ops */
    PHASE_BACKWARD_INPUT, /* an op's backward towards its inputs */
    PHASE_BACKWARD_PARAM, /* ... towards its parameters */
    PHASE_RECOMPUTE,      /* forward once more, inside backward */
    PHASE_REDUCE,         /* waiting for what other devices add */
    PHASE_CLIP,
    PHASE_OPTIMIZER,
    PHASE_EVALUATION,
    PHASES
} Phase;
extern const char *const phase_names[PHASES];

/* What one op did in one phase, over all blocks and steps. Outside the tape a kernel stands for an op. */
typedef struct {
    char op[32];    /* "linear" */
    char layer[32]; /* without its block, "ffn_up"; "" for an op without a weight */
    Phase phase;
    int64_t calls;  /* of kernels */
    double seconds; /* inside kernels */
    double bound;   /* the shortest that these kernels could take, by the roof; 0 without a roof */
    Cost cost;
} ProfileRow;

typedef struct Profile Profile;

/* tape NULL: the named phases alone, which costs next to nothing, unless tapes are watched later.
 * roof: seconds that a kernel of this cost takes at best on this machine; NULL: not known.
 * trace: where to write every step, op and kernel; of a GPU also what its queue was given, each launch and each copy. NULL:
 * nowhere. */
typedef double (*RoofFn)(const void *machine, Cost cost);
Profile *profile_new(Device *device, Tape *tape, RoofFn roof, const void *machine, Trace *trace);
void profile_delete(Profile *profile); /* takes the meter and the observers away again */
/* Listens to another tape of the device as well. A tape may be deleted before the profile, or behind it. */
void profile_watch(Profile *profile, Tape *tape);

/* Is told of each phase that the program names, when it is over; with the GPU's times, at the step's end. */
typedef void (*PhaseFn)(void *context, Phase phase, double begin, double end);
void profile_listen(Profile *profile, PhaseFn listener, void *context);

void profile_step_begin(Profile *profile, int64_t step);
void profile_phase(Profile *profile, Phase phase);
void profile_step_end(Profile *profile);

/* ---- sums over the steps since profile_new or profile_clear ---- */

void profile_clear(Profile *profile);
int64_t profile_steps(const Profile *profile);
double profile_seconds(const Profile *profile, Phase phase);
/* ... and the seconds of cores that this process used in it; for phases that the program names, all that is in them. */
double profile_core_seconds(const Profile *profile, Phase phase);
/* In the order in which they first ran. */
const ProfileRow *profile_rows(const Profile *profile, int *count);

#endif
