/* arrays: those of a safetensors file, by name, for tests that look at one file. */
#ifndef ARRAYS_H
#define ARRAYS_H

#include "common/run/safetensors.h"

#include <string.h>

/* NULL: there is none. */
static inline const NamedArray *find_array(const Safetensors *file, const char *name) {
    for (int64_t i = 0; i < file->count; i++)
        if (!strcmp(file->arrays[i].name, name)) return &file->arrays[i];
    return NULL;
}

/* The elements of the array called want->name, as want->type, in want->data. */
static inline void read_array(const Safetensors *file, const NamedArray *want) {
    const NamedArray *have = find_array(file, want->name);
    CHECK(have && array_same_shape(have, want), NULL, "'%s' has no such tensor '%s'", file->path, want->name);
    array_convert(have, 0, array_count(have), want->type, want->data);
}

#endif
