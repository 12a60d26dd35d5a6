/* loss_plot: the picture of a run, drawn from its loss.csv. The training loss is a thin line, the validation
 * loss points on a line; dashed lines mark the entropy floor, which no model can pass, and the trigram
 * model's loss, which anything worth training must pass. */
#ifndef LOSS_PLOT_H
#define LOSS_PLOT_H

#include "common/draw/plots.h"

typedef struct {
    const char *name;                   /* in the key, where several runs are drawn */
    const char *folder;                 /* holds loss.csv */
    double entropy_floor, trigram_loss; /* NAN: not drawn */
} LossCurve;

typedef struct {
    const char *title;
    const char *y_label, *floor_label; /* NULL: "loss (nats per token)", "entropy floor" */
    const LossCurve *runs;             /* several: one colour each */
    int run_count;
    bool log_y;
    bool by_tokens; /* along x stand tokens instead of steps: for runs whose steps differ in size */
    /* a second panel: |loss - loss of runs[0]|, for curves that are meant to coincide; steps are compared, so not
       with by_tokens */
    bool difference;
    bool behind; /* as plot_draw_behind: for redrawing in training */
} LossPlot;

/* False, after a warning, when there is no picture. */
bool plot_loss(const LossPlot *plot, const char *path);

#endif
