/* memory_ahead: what each device of a run will hold, said before the run takes anything: --print-memory. A run that would pass
 * --device-memory ends here, with what would fit. */
#ifndef MEMORY_AHEAD_H
#define MEMORY_AHEAD_H

#include "common/run/dry_run.h"

typedef struct {
    DryProgram *program;
    unsigned groups; /* its flags (ArgsGroup): what it has no flag for is not tried */
    /* whether the program can run with a changed config at all, which is asked of each that is tried; NULL: always */
    bool (*possible)(const Config *config);
} MemoryAhead;

/* Every rank of the world calls it, with its device and the same config, which has passed all checks. True: the config asks for
 * --print-memory, and has been answered. Where a device would hold more than config->device_memory, the program ends with
 * status 2; the hint is the first change that would do: --recompute, a smaller micro-batch, a higher stage of ZeRO, more stages
 * of a pipeline, more devices to a layer, then several of these. */
bool memory_ahead(const MemoryAhead *ahead, const Config *config, Comm *world, const Device *device,
                  const Dataset *data);

#endif
