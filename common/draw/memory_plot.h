/* memory_plot: a picture of what a device holds over one step, by class, as a stack. It listens to the device, and reads its
 * queue's clock; time that no clock sees is not drawn, so of several changes at the same moment the last counts. */
#ifndef MEMORY_PLOT_H
#define MEMORY_PLOT_H

#include "common/tensor/device.h"

typedef struct MemoryPlot MemoryPlot;

/* From now on the device's observer is this. */
MemoryPlot *memory_plot_new(Device *device);
void memory_plot_delete(MemoryPlot *plot);

/* A step begins: forgets the one before. */
void memory_plot_begin(MemoryPlot *plot);
/* The step is over: what comes until the next one is not drawn. */
void memory_plot_hold(MemoryPlot *plot);

/* The most that all classes held together in the step, at a moment that is drawn: bytes. */
double memory_plot_most(const MemoryPlot *plot);
/* Of one class: the most that it held in each of `count` equal spans from `begin` to `end`, times of the queue's clock; 0 before
 * the step. most (count). */
void memory_plot_class(const MemoryPlot *plot, MemoryClass class, double begin, double end, int64_t count,
                       double *most);
/* level: bytes that are marked with a line; NAN: none. */
void memory_plot_draw(const MemoryPlot *plot, const char *title, double level, const char *level_label,
                      const char *path);

#endif
