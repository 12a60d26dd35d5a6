/* flags: the flags that the programs share, as one table over Config (flags.c), and what can be done with an
 * entry: read its value from text, print it, check it. Help, parsing, JSON and the comparison with a
 * checkpoint all walk the table, so a new flag is one new line there. A program's own flags are a table of
 * the same kind over a struct of its own. */
#ifndef FLAGS_H
#define FLAGS_H

#include "common/config/config.h"

typedef enum {
    FLAG_INT,    /* int64_t (or uint64_t): --num-layers 4 */
    FLAG_BYTES,  /* int64_t: --device-memory 64M; K, M, G, T count 1024 */
    FLAG_REAL,   /* double: --dropout 0.1 */
    FLAG_BOOL,   /* bool: --bias and --no-bias */
    FLAG_ENUM,   /* an enum, by the name of its value: --norm rmsnorm */
    FLAG_TEXT,   /* const char *, UTF-8: --prompt "Once upon a time" */
    FLAG_PRESET, /* const char *, a name that config_preset knows */
} FlagKind;

/* A program says which groups it uses. The order is that of --help. */
typedef enum {
    ARGS_MODEL = 1 << 0,
    ARGS_BATCH = 1 << 1,
    ARGS_TRAIN = 1 << 2,
    ARGS_DATA = 1 << 3,
    ARGS_SAMPLE = 1 << 4,
    ARGS_PROGRESS = 1 << 5,         /* logging, evaluation, checkpoints */
    ARGS_RUN = 1 << 6,              /* what any program needs: --output-dir, --seed, --device-memory */
    ARGS_ONE_DEVICE = (1 << 7) - 1, /* all that training on one device needs */
    ARGS_DEVICES = 1 << 7,          /* what each of several is, or is taken for */
    ARGS_MESH = 1 << 8,             /* how they are arranged */
    ARGS_OVERLAP = 1 << 9,          /* how gradients are reduced */
    ARGS_SHARDING = 1 << 10,        /* what each device keeps of the model's state */
    ARGS_TENSOR = 1 << 11,          /* how devices share a layer */
    ARGS_PIPELINE = 1 << 12,        /* who has which blocks, and who does what when */
    ARGS_AHEAD = 1 << 13,           /* what a run will take, before it does */
    ARGS_DTYPE = 1 << 14,           /* in which type it is computed */
    ARGS_ALL = (1 << 15) - 1,
} ArgsGroup;

typedef enum { ENDS_INCLUDED, LOW_EXCLUDED, HIGH_EXCLUDED } RangeEnds;

typedef struct {
    const char *name; /* without the dashes */
    FlagKind kind;
    unsigned group;   /* an ArgsGroup; 0 in a program's own table */
    size_t offset;    /* of the field in its struct */
    double low, high; /* of a number; of a text: its length in bytes */
    RangeEnds ends;
    const char *values; /* enum: its names in order, "relu|gelu|swiglu"; text: what --help calls its value */
    const char *help;
} Flag;

/* The entries of a table. The field's type is checked: no _Generic branch fits a wrong one. */
#define FIELD_64(Type, field)                                                                                \
    _Generic(((Type *)0)->field, int64_t : offsetof(Type, field), uint64_t : offsetof(Type, field))
#define FIELD_ENUM(Type, field)                                                                              \
    _Generic(((Type *)0)->field, unsigned : offsetof(Type, field), int : offsetof(Type, field))
#define FIELD(Type, field, Want) _Generic(((Type *)0)->field, Want : offsetof(Type, field))

#define INT_FLAG(Type, group, name, field, low, high, help)                                                  \
    { name, FLAG_INT, group, FIELD_64(Type, field), low, high, ENDS_INCLUDED, NULL, help }
#define BYTES_FLAG(Type, group, name, field, low, high, help)                                                \
    { name, FLAG_BYTES, group, FIELD_64(Type, field), low, high, ENDS_INCLUDED, NULL, help }
#define REAL_FLAG(Type, group, name, field, low, high, ends, help)                                           \
    { name, FLAG_REAL, group, FIELD(Type, field, double), low, high, ends, NULL, help }
#define BOOL_FLAG(Type, group, name, field, help)                                                            \
    { name, FLAG_BOOL, group, FIELD(Type, field, bool), 0, 1, ENDS_INCLUDED, NULL, help }
#define ENUM_FLAG(Type, group, name, field, values, help)                                                    \
    { name, FLAG_ENUM, group, FIELD_ENUM(Type, field), 0, 0, ENDS_INCLUDED, values, help }
#define TEXT_FLAG(Type, group, name, field, low, high, what, help)                                           \
    { name, FLAG_TEXT, group, FIELD(Type, field, const char *), low, high, ENDS_INCLUDED, what, help }

extern const Flag config_flags[]; /* offsets into Config */
extern const int config_flag_count;

/* Sets the flag's field in `base` from text. Returns NULL, or what is wrong with the text ("must be
 * from 1 to 9"; the caller frees it), and then changes nothing. A bool takes "true" or "false". A text
 * is not copied. */
char *flag_set(const Flag *flag, void *base, const char *text);

/* Adds the field's value as a user would type it; a text that is NULL adds nothing. */
void flag_print(const Flag *flag, const void *base, Str *out);

bool flag_in_range(const Flag *flag, double value);

/* "--name N: help", for hints; the caller frees it. */
char *flag_usage(const Flag *flag);
/* "--name N", "--[no-]name", as --help shows it */
void flag_print_synopsis(const Flag *flag, Str *out);

#endif
