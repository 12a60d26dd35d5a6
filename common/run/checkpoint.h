/* checkpoint: a folder that holds all that a run needs to go on.
 *
 *   <output-dir>/checkpoint/step-000100/
 *       model.safetensors  optimizer.safetensors  state.json  tokenizer.json   (what the caller puts there)
 *       manifest.json      the step, and the size and XXH3-128 checksum of each of them
 *
 * A set is written into step-000100.tmp/, synced, and renamed at once: a kill at any time leaves the old
 * complete sets, or those and the new one. The last few sets stay. A set in which any file is missing,
 * damaged, cut short or taken from another set is refused with that file's name, and the previous complete
 * set is offered. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "common/run/safetensors.h"

enum { CHECKSUM_CHARS = 32 };

/* XXH3-128 of a file, in the hexadecimal digits that xxh128sum prints. */
typedef struct {
    int64_t bytes;
    char text[CHECKSUM_CHARS + 1];
} Checksum;

/* ---- saving ---- */

typedef struct CheckpointWriter CheckpointWriter;

/* Also clears away what a killed save left behind. */
CheckpointWriter *checkpoint_begin(const char *output_dir, int64_t step);
void checkpoint_put_arrays(CheckpointWriter *writer, const char *file, const NamedArray *arrays,
                           int64_t count);
void checkpoint_put_json(CheckpointWriter *writer, const char *file, const json_t *value);
/* For any other file: where the caller is to write it before the commit. The text lives until then. */
const char *checkpoint_put_file(CheckpointWriter *writer, const char *file);
/* One that somebody else has written into the folder, synced, and summed up. */
void checkpoint_put_written(CheckpointWriter *writer, const char *file, Checksum sum);
/* The set is complete: from here on it is the newest. Removes the sets beyond the last `keep`. */
void checkpoint_commit(CheckpointWriter *writer, int64_t keep);
/* It will not be: what was written is removed. */
void checkpoint_abandon(CheckpointWriter *writer);
/* The folder of a set that is being written; the caller frees it. */
char *checkpoint_writing_folder(const char *output_dir, int64_t step);

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
/* ... in which the files of tensors have not been looked at: each rank of those that load it verifies a share of them. */
Checkpoint *checkpoint_find_latest(const char *output_dir);
Checkpoint *checkpoint_find(const char *folder);
/* One that rank 0 has found, on another rank. */
Checkpoint *checkpoint_find_again(const char *folder);
void checkpoint_verify_share(const Checkpoint *checkpoint, int rank, int ranks);
void checkpoint_close(Checkpoint *checkpoint);

bool checkpoint_has(const Checkpoint *checkpoint, const char *file);
/* The path of one of its files; the caller frees it. A file that the set lacks ends the program. */
char *checkpoint_path(const Checkpoint *checkpoint, const char *file);
/* The caller drops the reference. */
json_t *checkpoint_read_json(const Checkpoint *checkpoint, const char *file);

#endif
