/* interrupt: Ctrl-C (SIGINT) and SIGTERM. The first one asks: the training loop finishes its step, saves and
 * draws. The second one ends the program at once. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include <stdbool.h>

/* From here on. A signal that the program was started to ignore (nohup, a background job) stays ignored. */
void interrupt_install(void);
/* Has the first one come? */
bool interrupt_requested(void);

#endif
