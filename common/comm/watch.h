/* watch: a small process on each machine that notices when a rank dies, names it, and ends the job. */
#ifndef COMM_WATCH_H
#define COMM_WATCH_H

/* Before MPI starts. The first rank of a machine gets the path by which the others find its watcher; the rest, and
 * all where that cannot be, get "". */
const char *watch_start(void);
/* When MPI has started: rank `rank`, one of `ranks` on this machine, is watched from now on. "": nothing. */
void watch_join(const char *path, int rank, int ranks);
/* This rank ends as it should: nobody is to wonder. */
void watch_leave(void);

#endif
