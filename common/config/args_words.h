/* args_words: what was given, on the command line or in a config file, before any of it is set. Of args.c and
 * config_file.c alone. */
#ifndef ARGS_WORDS_H
#define ARGS_WORDS_H

#include "common/config/args.h"

/* A flag with its value. Layers: 1 is the first config file, the last one is the command line. */
typedef struct {
    const Flag *flag;
    const char *value;
    const char *where; /* "'run.conf' line 3"; NULL: the command line */
    int layer;
    bool own; /* from the program's own table */
} Given;

typedef struct {
    Given *items;
    int count;
} Words;

void words_add(Words *words, Given given);

typedef struct {
    const Flag *flag; /* NULL: none has this name */
    bool negated;     /* --no-bias */
    bool own;
} Found;

/* --config: no flag of the table, as it is no property of a run but where others come from. */
extern const Flag words_config;

/* A flag of the program or, failing that, any flag of the shared table; by one of its other names too. */
Found words_find(const Program *program, const char *name);
/* The program's flag with the name that is most like this one; NULL: none is. */
const char *words_nearest(const Program *program, const char *name);
/* A value as messages show it: long ones cut between characters. The result lives until the next call. */
const char *words_shown(const char *text);

/* Adds what a config file says. Ends the program, exit 2, with the line that is wrong. The texts of the values live until
 * config_file_forget. */
void config_file_read(const char *path, const Program *program, int layer, Words *words);
void config_file_forget(void);
/* Adds every flag that the program uses, with its value, as config_file_read reads it; no line for what a run is asked for
 * once. */
void config_file_print(const Config *config, const Program *program, Str *out);

#endif
