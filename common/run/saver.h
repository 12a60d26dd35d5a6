/* saver: checkpoints of a model that lies in parts on several devices. All write at once, and training goes on meanwhile.
 *
 *   step-000100.tmp/ part-0003-of-0008.safetensors        what rank 3 holds, and no rank before it: weights and moments
 *                    part-0003-of-0008.safetensors.done   its checksum, or why it could not be written
 *
 * A save copies what this rank holds into memory of the host's, which no later step changes, and returns; a thread writes
 * the copy, syncs it and sums it up. When all records are there a thread of rank 0 adds the manifest and gives the folder
 * its name: step-000100. Until then the set before it is the newest, and it is removed only after that. Threads do not speak
 * MPI. The next save, saver_wait, saver_close and a program that ends with an error wait until the set is complete.
 *
 * A save that fails on some rank (a full disk, a folder that cannot be written) loses nothing: a warning names the rank and
 * the file, and training goes on. Where the last save of a run has failed, saver_close ends the program with 1.
 *
 * The copy takes sizeof(real) bytes of the host's memory for each element of weights and moments that this rank writes, from
 * saver_new to saver_close; no device's account has it. */
#ifndef SAVER_H
#define SAVER_H

#include "common/run/snapshot.h"

typedef struct Saver Saver;

/* Every rank of parts->comm calls all of these. config and tokenizer must outlive the saver, and the parameters and moments
 * of parts stay where they are. */
Saver *saver_new(const Config *config, const Parts *parts, const Tokenizer *tokenizer);
/* After parts->optimizer->step updates. next_window: how many training windows were consumed. Returns when the copy is made;
 * without config->async_save, when the set is on the disk. */
void saver_save(Saver *saver, int64_t next_window);
/* Returns when the set that was saved last is complete. False: it could not be written. */
bool saver_wait(Saver *saver);
void saver_close(Saver *saver);

#endif
