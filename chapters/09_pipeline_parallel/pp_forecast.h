/* pp_forecast: what a step keeps and moves, by formula, and how long its stages are idle, to be held against what is counted and
 * measured. */
#ifndef PP_FORECAST_H
#define PP_FORECAST_H

#include "chapters/05_data_parallel/account.h"
#include "chapters/09_pipeline_parallel/measured.h"

/* p stages on each of d pipelines, m micro-batches of b windows, S = b T C elements: the residual stream of one.
 *
 *   messages      along `pipe`: S for each of the m micro-batches, forward and back, wherever two neighbouring chunks lie on two stages
 *   all-reduce    along `data`: chapter 07's, of each stage's parameters, and the tokens that count, by the stage with the
 *                 head alone
 *                 along `pipe`: a tied table's gradient between its two stages; the norm's sums of squares; the loss
 *
 * A ring moves 2 (n-1) times an array in an all-reduce, summed over its devices. */
typedef struct {
    int64_t messages;                              /* that all devices send */
    double bytes;                                  /* of these */
    double all_reduce, all_gather, reduce_scatter; /* bytes that all devices send */
    double along_data, along_pipe;                 /* ... in all of these together */
} PpForecast;
/* Every rank calls it. */
PpForecast pp_forecast_of(const Staged *s);

/* Which blocks each stage has, and how many parameters. Every rank calls it. */
void pp_print_cut(const Staged *s);
/* Prints the tables, of the last step: memory of this device, bytes that all send, the bubble, micro-batches in flight. Every
 * rank calls it. kind: whose formulas these are; SCHEDULE_KINDS: it is none of them. */
void pp_forecast_print(const Staged *s, const Measured *m, ScheduleKind kind, int virtual_stages,
                       const Account *account);

/* Of these, the bubble and what is in flight. */
void pp_bubble_print(const Staged *s, const Measured *m, ScheduleKind kind, int virtual_stages);

#endif
