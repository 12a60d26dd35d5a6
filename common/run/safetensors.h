/* safetensors: named arrays in one file, in the format of https://github.com/huggingface/safetensors
 * (Python's safetensors.numpy.load_file opens what is written here, and the other way round).
 *
 *   8 bytes   length of the header, little-endian
 *   header    JSON: {"__metadata__": {key: text}, name: {"dtype", "shape", "data_offsets": [begin, end]},
 * ...} data      the arrays, without gaps, little-endian
 *
 * The reader maps the file and believes nothing in it: lengths, types, shapes, offsets, overlaps and names
 * are checked when it is opened, and a file that fails is refused with its name and the reason. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "common/tensor/tensor.h"

#include <jansson.h>

typedef enum {
    ARRAY_F64,
    ARRAY_F32,
    ARRAY_F16,
    ARRAY_BF16,
    ARRAY_I64,
    ARRAY_I32,
    ARRAY_I16,
    ARRAY_I8,
    ARRAY_U64,
    ARRAY_U32,
    ARRAY_U16,
    ARRAY_U8,
    ARRAY_BOOL,
} ArrayType;

#ifdef REAL_DOUBLE
#    define ARRAY_REAL ARRAY_F64
#else
#    define ARRAY_REAL ARRAY_F32
#endif

enum { ARRAY_RANK_MAX = 4 };

/* What is written lies in `data`, or in the tensor where there is one. */
typedef struct {
    const char *name;
    ArrayType type;
    int rank; /* 0 is a single number */
    int64_t shape[ARRAY_RANK_MAX];
    void *data;
    Tensor *tensor; /* of the same type and shape, on a device; NULL: the elements are in data */
} NamedArray;

const char *array_type_name(ArrayType type);  /* "F32" */
int64_t array_count(const NamedArray *array); /* elements */
int64_t array_bytes(const NamedArray *array);
/* Element i as a double; `data` need not be aligned. */
double array_element(const NamedArray *array, int64_t i);
/* Elements first .. first + count - 1, as `type`: the array's own, or F32 or F64 for an array of floats. */
void array_convert(const NamedArray *array, int64_t first, int64_t count, ArrayType type, void *to);
bool array_is_floating(const NamedArray *array);
/* "(4, 256)" for a message; the caller frees it. */
char *array_shape_text(const NamedArray *array);
/* Two shapes alike? */
bool array_same_shape(const NamedArray *a, const NamedArray *b);

/* Writes the arrays through a temporary name, synced: a reader sees the old file or the new one. `metadata`
 * is an object of strings, or NULL. */
void safetensors_write(const char *path, const NamedArray *arrays, int64_t count, const json_t *metadata);

typedef struct {
    char *path;
    NamedArray
        *arrays; /* in file order; their data lies in the mapped file: read-only, perhaps not aligned */
    int64_t count;
    json_t *header;
    const void *map;
    size_t map_bytes;
} Safetensors;

Safetensors *safetensors_open(const char *path);
void safetensors_close(Safetensors *file);
/* Text that was stored beside the arrays; NULL when there is none. */
const char *safetensors_metadata(const Safetensors *file, const char *key);

#endif
