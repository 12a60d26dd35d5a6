/* mistakes: things that are said to be slow, measured here: too many threads, a padded vocabulary, transposed
 * operands, numbers too small for their format. Variants of one thing are run in turn, over and over, so that
 * a busy moment of the machine hits all of them; the median time of each counts. */
#ifndef MISTAKES_H
#define MISTAKES_H

#include "chapters/03_performance/timed.h"

/* Tables on stdout; each takes about `seconds` for each of its lines. */
void mistakes_measure(const Config *config, Dataset *data, double seconds);

#endif
