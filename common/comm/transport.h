/* transport: how MPI itself is used, before and beside our own messages. */
#ifndef COMM_TRANSPORT_H
#define COMM_TRANSPORT_H

#include <mpi.h>

/* Before MPI starts: chooses the ways of its messages, as far as the user has not. */
void transport_choose(void);
/* As MPI_Wait, but gives the core away: MPI's own waiting spins, and 32 ranks on two cores keep each other from work. */
void wait_for_mpi(MPI_Request *request);

#endif
