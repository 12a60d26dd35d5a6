/* show_data: what a model is going to read. */
#ifndef SHOW_DATA_H
#define SHOW_DATA_H

#include "common/data/data.h"

/* Prints the first training window of T tokens with a dot between tokens, then what is known of the validation
 * split: how many tokens count, their bytes, and the two lines of the loss curve. */
void show_data(const Dataset *data, int64_t T);

#endif
