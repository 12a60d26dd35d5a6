/* dry_group: a group whose other ranks do not exist. This process stands for one rank of as many as you like, to see what that
 * rank would hold, send and wait for (tensor/dry_device.h is the device to go with it).
 *
 * Calls move nothing: what they should bring keeps the value that it has. They are checked and counted as everywhere, and hold
 * the memory that the ranks of this job would hold for them: slots and channels of one machine, or, for as many ranks as this
 * job has, those of the machines that they are on. By the model clock (clock.h) all ranks come to a call at the same moment,
 * and a message was sent when its recv is issued.
 *
 * What the others would choose is not known, so such a group cannot be split by color: comm_split_listed and comm_split_strided cut it. */
#ifndef DRY_GROUP_H
#define DRY_GROUP_H

#include "common/comm/comm.h"

/* The group "world" as rank `rank` of `size` sees it. */
Comm *comm_dry(int rank, int size);

#endif
