/* mistakes_run: a mistake (mistakes.h) made in a training of a few steps, beside the same steps without it and on one device:
 * what notices it. */
#ifndef MISTAKES_RUN_H
#define MISTAKES_RUN_H

#include "chapters/08_tensor_parallel/mistakes.h"
#include "common/data/data.h"

/* Trains on one device, on the mesh, and on the mesh with the mistake, and prints the losses, the gradients' largest
 * difference and whether copies have stayed the same. Where the placement of a tensor gives it away, the program ends
 * there, with what the op says. Every rank calls it; true: something has noticed. */
bool mistakes_run(const Config *config, Mistake mistake, Comm *world, Device *device, const Dataset *data);

#endif
