/* roofline: a profile told in tables and in a picture (Williams, Waterman & Patterson 2009). */
#ifndef ROOFLINE_H
#define ROOFLINE_H

#include "chapters/03_performance/bandwidth.h"
#include "common/run/profile.h"

/* Where the time of a step goes, by phase, and by op over all of its phases. */
void print_phases(const Profile *profile);
void print_ops(const Profile *profile);

/* Every op in each of its phases as a point: GFLOP/s over FLOPs per byte, under the roofs of memory and
 * of the caches. */
void draw_roofline(const Profile *profile, const Machine *machine, const char *path);

/* Sums over the measured steps: what their kernels cost, the seconds of the steps, those that the kernels would
 * take if each stood at its roof, and those between the kernels. */
Cost profile_cost(const Profile *profile);
double profile_step_seconds(const Profile *profile);
double profile_roof_seconds(const Profile *profile);
double profile_outside(const Profile *profile);

/* An array of {op, phase, calls, seconds, flops, bytes, of_roof} for report.json. */
json_t *ops_json(const Profile *profile);

#endif
