/* dry_device: a device on which everything happens but the work. What is allocated is counted, and its addresses lead
 * nowhere; kernels are told to meters, and to a clock, at the cost of their shapes, and do nothing; what is written is lost,
 * what is read is zeros. So the code that trains a model says what it takes, and by the model clock how long, without taking it:
 * a model of any size, in milliseconds. common/comm/dry_group.h has the group to go with it. */
#ifndef DRY_DEVICE_H
#define DRY_DEVICE_H

#include "common/tensor/device.h"

/* Without a budget. Its kernels take the scratch that those of `like` take, with as many threads. */
Device *device_new_dry(const Device *like);

#endif
