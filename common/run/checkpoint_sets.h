/* checkpoint_sets: where a run's checkpoints lie, and what tells that one is whole. For checkpoint.c, which writes them, and
 * checkpoint_open.c, which reads them; `sets` is <output-dir>/checkpoint. */
#ifndef CHECKPOINT_SETS_H
#define CHECKPOINT_SETS_H

#include "common/run/checkpoint.h"

#define CHECKPOINT_FORMAT "shard.c checkpoint 1"
#define MANIFEST          "manifest.json"

Checksum file_checksum(const char *path);
/* Of all the manifest says except its own checksum. */
Checksum manifest_checksum(const json_t *manifest);

/* name is step-N<suffix>: N; -1 where it is something else. */
int64_t sets_parse_step(const char *name, const char *suffix);
/* The folder of a step, such as sets/step-000100<suffix>; the caller frees it. */
char *sets_folder(const char *sets, int64_t step, const char *suffix);
/* The steps of the folders step-N<suffix>, newest first; the caller frees them. */
int64_t *sets_list(const char *sets, const char *suffix, int64_t *count);
/* A set that is replaced by one of the same step steps aside as step-N.replaced. When a kill came before the
 * new one took its place, it is put back. */
void sets_recover(const char *sets);

#endif
