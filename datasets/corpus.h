/* corpus: the data of a run: the stories that are made on the fly, or the shards in a folder. */
#ifndef CORPUS_H
#define CORPUS_H

#include "common/data/data.h"

/* The stories (stories.h), in windows of T. The tokenizer is learned anew at each start, from stories that do
 * not depend on the seed, and the validation stories do not either: losses of different runs compare.
 * A window starts with the end-of-text token; then stories follow, the last one cut. No two windows share a
 * story. In validation only whole stories count, because the floor is known for whole ones only: the cut one
 * is masked, and floor and trigram loss are exactly those of the targets that are left. A T in which no story
 * fits masks nothing, and its floor is NAN. */
Dataset *corpus_open_stories(int64_t T, uint64_t seed);

/* data_dir NULL: the stories; otherwise data_open_shards(data_dir, pad, seed). */
Dataset *corpus_open(const char *data_dir, bool pad, int64_t T, uint64_t seed);
/* The same before data_measure. */
Dataset *corpus_open_unmeasured(const char *data_dir, bool pad, int64_t T, uint64_t seed);

#endif
