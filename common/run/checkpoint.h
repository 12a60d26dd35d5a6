/* checkpoint: a folder that holds all that a run needs to go on.
 *
 *   <output-dir>/checkpoint/step-000100/
 *       model.safetensors  optimizer.safetensors  state.json  tokenizer.json   (what the caller puts there)
 *       manifest.json      the step, and the size and XXH3-128 checksum of each of them
 *
 * A set is written into step-000100.tmp/, synced, and renamed at once: a kill at any time leaves the old
 * complete sets, or those and the new one. CHECKPOINTS_KEPT sets stay. A set in which any file is missing,
 * damaged, cut short or taken from another set is refused with that file's name, and the previous complete
 * set is offered. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "common/run/safetensors.h"

enum { CHECKPOINTS_KEPT = 2 };

/* ---- saving ---- */

typedef struct CheckpointWriter CheckpointWriter;

/* Also clears away what a killed save left behind. */
CheckpointWriter *checkpoint_begin(const char *output_dir, int64_t step);
void checkpoint_put_arrays(CheckpointWriter *writer, const char *file, const NamedArray *arrays,
                           int64_t count);
void checkpoint_put_json(CheckpointWriter *writer, const char *file, const json_t *value);
/* For any other file: where the caller is to write it before the commit. The text lives until then. */
const char *checkpoint_put_file(CheckpointWriter *writer, const char *file);
/* The set is complete: from here on it is the newest. Removes the sets beyond the last CHECKPOINTS_KEPT. */
void checkpoint_commit(CheckpointWriter *writer);

/* A new run starts in a folder that an older one used: moves the older one's sets to
 * <output-dir>/checkpoint.old (over what was there), so that the two cannot mix and a slip of the
 * hand loses nothing. */
void checkpoint_set_aside(const char *output_dir);

/* ---- loading ---- */

typedef struct {
    char *folder;
    int64_t step;
    json_t *manifest;
} Checkpoint;

/* The newest set of a run, every file of it verified; NULL when the run has none. */
Checkpoint *checkpoint_open_latest(const char *output_dir);
Checkpoint *checkpoint_open(const char *folder);
void checkpoint_close(Checkpoint *checkpoint);

bool checkpoint_has(const Checkpoint *checkpoint, const char *file);
/* The path of one of its files; the caller frees it. A file that the set lacks ends the program. */
char *checkpoint_path(const Checkpoint *checkpoint, const char *file);
/* Fills all the arrays (safetensors_read_all): names and shapes must be those of the file. */
void checkpoint_read_arrays(const Checkpoint *checkpoint, const char *file, const NamedArray *wants,
                            int64_t count);
/* The caller drops the reference. */
json_t *checkpoint_read_json(const Checkpoint *checkpoint, const char *file);

#endif
