/* args: from the words of the command line to a Config.
 *
 *   --flag value   --flag=value   --bias   --no-bias   --help   --config FILE
 *
 * The preset is applied first, wherever --preset stands; then the config files, then the flags, in order: given twice, the
 * last one counts, so that a script's own flags can be followed by a user's. A value may start with one dash (-1), not
 * with two (--prompt=--hello does it). What was not given follows: --num-microbatches from the batch sizes
 * (or the other way round), on several devices also --micro-batch-size from --global-batch-size, --min-lr from
 * --learning-rate in the preset's ratio; --output-dir is runs/PROGRAM.
 *
 * A config file has a line for each flag, by the names of the command line, without dashes:
 *
 *   # a comment
 *   preset = small            # any preset may stand here, as --preset
 *   num-layers = 4
 *   bias = true               # or false
 *   prompt = "two\nlines"     # quotes where a value holds a #, a quote, or blanks at an end; \" \\ \n \t inside
 *
 * What it says is to the command line what a preset is to a flag: it gives way, and what follows from both follows anew.
 * With several files (--config a.conf --config b.conf) a later one overrides an earlier one.
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

/* Was --name among the words, which args_parse has accepted, or in a config file that they named? For what is chosen only
 * where the user has not. */
bool args_given(int argc, char **argv, const char *name);

/* Writes the flags of the program that args_parse was called for, with their values here, as a config file into the output
 * folder, which is there. What a run is asked for once (--resume, --prompt ...) is left out. */
#define ARGS_SAVED "run.conf"
void args_save(const Config *config);
/* Has a config file been read? Each process reads its own, and on another machine it may be another file: so they compare
 * this number, which stands for all that args_save would write. */
bool args_from_file(void);
uint64_t args_fingerprint(const Config *config);

/* Prints --help: all flags of the program with their defaults, which are those of `config`. */
void args_help(const char *argv0, const Program *program, const Config *config);
/* What a group is about: "model"; 0: the program's own. */
const char *args_group_title(unsigned group);

#endif
