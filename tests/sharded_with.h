/* sharded_with: chapter 07's trainer with options that stand apart from the config, whose flags they are. */
#ifndef SHARDED_WITH_H
#define SHARDED_WITH_H

#include "chapters/07_fsdp/sharded.h"

static inline Sharded *sharded_with(const Config *config, const FsdpOptions *options, int shard_group,
                                    Comm *comm, Device *device, const Dataset *data) {
    Config c = *config;
    c.zero_stage = options->stage;
    c.reduce_once = options->reduce_once;
    c.prefetch = options->prefetch;
    c.overlap = options->overlap ? OVERLAP_BACKWARD : OVERLAP_NONE;
    c.keep_gathered = options->keep;
    c.shard_group = shard_group;
    return sharded_new(&c, comm, device, data);
}

#endif
