/* waves_cut: tensor parallel on the smallest model: of the network of chapter 01 the first matrix is cut by columns, the second
 * by rows, over the devices along `tensor`; those along `data` have each a share of the batch. Then one device does the same
 * alone. */
#ifndef WAVES_CUT_H
#define WAVES_CUT_H

#include "chapters/05_data_parallel/waves_report.h"

/* Every rank calls it. Prints which slices device 0 has, and both losses beside each other, and draws them into the output
 * folder; true: they differ by rounding alone. */
bool waves_cut_run(const Config *program, const WavesTask *task, Comm *world, Device *device);

#endif
