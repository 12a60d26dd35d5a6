/* layer_picture: one block on the time axis: the kernels of a device, and the collectives between and beside them. */
#ifndef LAYER_PICTURE_H
#define LAYER_PICTURE_H

#include "common/comm/comm.h"
#include "common/config/config.h"

/* <output-dir>/layer.png: forward and backward of one block on device 0, by the clock of --device-model: plainly, with
 * sequence parallel, and with --overlap-tensor 4. Every rank of world calls it. */
void layer_draw(const Config *config, Comm *world);

#endif
