/* costs: how long a collective takes, by the number of bytes. A message of s bytes takes alpha + s / W, a latency and a
 * bandwidth; a collective is a number of messages one after the other (Hockney, The communication challenge for MPP:
 * Intel Paragon and Meiko CS-2, 1994; Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations
 * in MPICH, 2005):
 *
 *   ring all-reduce                             2 (n-1) alpha        + 2 (n-1)/n S / W
 *   all-gather, reduce-scatter, all-to-all        (n-1) alpha        +   (n-1)/n S / W
 *   binomial tree                          2 ceil(log2 n) alpha + 2 ceil(log2 n) S / W
 *
 * S: the bytes of the larger buffer, whichever side it is on; here always a multiple of n elements. (Where n does not
 * divide the count, slices differ by one element, and a step takes as long as the longest one.) Where n is no power of
 * two, some branches of the tree are shorter, and it takes less. */
#ifndef COSTS_H
#define COSTS_H

#include "chapters/04_collectives/lesson.h"
#include "common/config/device_model.h"

#include <jansson.h>

enum { METHODS = 6, COST_SIZES = 16 };

/* What one method's times say of the links. */
typedef struct {
    double alpha; /* seconds */
    double W;     /* bytes/s */
} Fit;

typedef struct {
    int n, sizes;
    int64_t bytes[COST_SIZES];           /* S */
    double seconds[METHODS][COST_SIZES]; /* the median of the tries, of the slowest device */
    Fit fit[METHODS];
} Costs;

/* alpha and W from t = steps alpha + share S / W: least squares of the relative errors, so that a small message counts as
 * much as a large one; neither comes out negative (it is 0, or infinite, then). count: 2 or more sizes. */
Fit costs_fit(double steps, double share, int count, const int64_t *bytes, const double *seconds);

/* Measures S = 1 KB, 4 KB .. largest; every device calls it, there are at least two. */
Costs costs_measure(const Lesson *lesson, int64_t largest, int tries);
/* Tables: what was fitted, predicted against measured, bandwidth of the bus. model: whose clock it was, NULL for this
 * machine's. */
void costs_print(const Costs *costs, const DeviceModel *model);
/* costs.png and bandwidth.png */
void costs_draw(const Lesson *lesson, const Costs *costs);
/* For the report: for each method {alpha_s, bytes_per_s, bytes [..], seconds [..]}. A new reference. */
json_t *costs_json(const Costs *costs);

#endif
