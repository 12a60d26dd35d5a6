/* launcher: what started this process as one of several: mpiexec of some MPI, or srun. */
#ifndef COMM_LAUNCHER_H
#define COMM_LAUNCHER_H

#include <stdbool.h>

/* Was this process started as one of several, so that MPI is to be asked for the others? Ends the program where srun
 * gave its processes no way to find each other. */
bool launcher_found(void);
/* When MPI has started and counts `size` ranks: ends the program when it has found no other, though several were
 * started. That is what a program of one MPI sees when the mpiexec of another starts it. One of them says it. */
void launcher_check(int size);

#endif
