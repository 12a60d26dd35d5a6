/* args: from the words of the command line to a Config.
 *
 *   --flag value   --flag=value   --bias   --no-bias   --help
 *
 * The preset is applied first, wherever --preset stands; then the flags, in order: given twice, the last one
 * counts, so that a script's own flags can be followed by a user's. A value may start with one dash (-1), not
 * with two (--prompt=--hello does it). What was not given follows: --num-microbatches from the batch sizes
 * (or the other way round), on several devices also --micro-batch-size from --global-batch-size, --min-lr from
 * --learning-rate in the preset's ratio; --output-dir is runs/PROGRAM.
 *
 * Every mistake is one line on stderr with the value and a hint, exit 2. Of several ranks, which are all given the same
 * words, number 0 says it, and prints the help. */
#ifndef ARGS_H
#define ARGS_H

#include "common/config/flags.h"

typedef struct {
    const char *about;   /* "trains a MiniGPT on one device" */
    const char *example; /* the flags of an example: "--max-steps 200" */
    unsigned groups;     /* the ArgsGroups it uses, or-ed */
    const Flag *own;     /* flags of this program alone; their defaults are what `values` holds at first */
    int own_count;
    void *values;                   /* what the offsets of `own` count from */
    int devices;                    /* how many run the program; 0 counts as 1 */
    void (*prefer)(Config *preset); /* what of any preset is another for this program; NULL: nothing */
} Program;

/* Also sets the name that messages carry. The result may point into argv. */
Config args_parse(int argc, char **argv, const Program *program);

/* Was --name among the words, which args_parse has accepted? For what is chosen only where the user has not. */
bool args_given(int argc, char **argv, const char *name);

/* Prints --help: all flags of the program with their defaults, which are those of `config`. */
void args_help(const char *argv0, const Program *program, const Config *config);

#endif
