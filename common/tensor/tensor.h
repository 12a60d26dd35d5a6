/* tensor: an array on a device, with its shape, its placement, and its name for messages.
 *
 * Placement says, for each axis of the mesh, how the devices along it hold the value (as DTensor does):
 *   Replicate     every device holds the same value, counted once
 *   Shard(axis)   each holds its slice along one axis of the shape
 *   Partial       each holds a term of a sum
 *   Private       each holds a value of its own, such as its slice of the batch
 * Zero-initialised, a tensor is Replicate on every axis: what one device has. A value's placement fixes its gradient's:
 * Replicate and Shard keep theirs, Private has a Partial gradient, Partial a Replicate one. */
#ifndef TENSOR_H
#define TENSOR_H

#include "common/tensor/device.h"

typedef enum { TYPE_F32, TYPE_F64, TYPE_I32, TYPE_BF16 } ElementType;
extern const char *const element_type_names[];
#ifdef REAL_DOUBLE
#    define TYPE_REAL TYPE_F64
#else
#    define TYPE_REAL TYPE_F32
#endif

enum { TENSOR_MAX_RANK = 4 };
typedef struct {
    int rank;
    int64_t size[TENSOR_MAX_RANK];
} Shape;
#define SHAPE(...) ((Shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})

typedef enum { PLACE_REPLICATE, PLACE_SHARD, PLACE_PARTIAL, PLACE_PRIVATE } PlaceKind;
extern const char *const place_kind_names[];
typedef struct {
    PlaceKind kind;
    int axis; /* of the shape, for PLACE_SHARD */
} Place;
typedef enum { MESH_DATA, MESH_PIPE, MESH_TENSOR, MESH_AXES } MeshAxis;
extern const char *const mesh_axis_names[MESH_AXES];

typedef struct Tensor Tensor;
struct Tensor {
    void *data; /* on the device: an address that the host does not follow; NULL: the shape alone */
    ElementType type;
    Shape shape;
    Place place[MESH_AXES];
    const char *name;
    Device *device;
    MemoryClass memory;

    /* kept by the tape, for activations */
    Tensor *grad;
    int readers;               /* backward steps that will still read data */
    bool dropped;              /* the forward reads it no more */
    bool constant;             /* no gradient flows into it */
    struct Transfer *arriving; /* the message that brings its elements; NULL: they are there */
};

int64_t element_bytes(ElementType type);
int64_t shape_count(Shape shape);
bool shape_equal(Shape a, Shape b);
Shape shape_with_columns(Shape shape, int64_t columns); /* with another last axis */
/* "(8, 256, 128)", in a buffer of the caller. */
typedef struct {
    char text[96];
} ShapeText;
ShapeText shape_text(Shape shape);

Place place_of_grad(Place place);
/* "Shard(1)" and the like, for messages. */
typedef struct {
    char text[24];
} PlaceText;
PlaceText place_text(Place place);

/* A tensor with memory of its own; its elements are not set. `name` must outlive it. device NULL:
 * the shape alone. */
Tensor tensor_new(Device *device, MemoryClass kind, const char *name, ElementType type, Shape shape);
void tensor_free(Tensor *t); /* gives the memory back and leaves the shape */

static inline int64_t tensor_count(const Tensor *t) { return shape_count(t->shape); }
static inline int64_t tensor_bytes(const Tensor *t) { return tensor_count(t) * element_bytes(t->type); }
/* The last axis, and the product of all the others: how kernels see a tensor. */
static inline int64_t tensor_columns(const Tensor *t) { return t->shape.size[t->shape.rank - 1]; }
static inline int64_t tensor_rows(const Tensor *t) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < t->shape.rank; i++) rows *= t->shape.size[i];
    return rows;
}

/* ---- between a device's memory and the host's: nothing else of the host touches a tensor's elements ---- */

/* Elements first .. first + count - 1, in the order of memory, of the tensor's own type. When tensor_read returns, it has
 * waited for the device, and they are there; after tensor_write the host's may change. */
void tensor_read(const Tensor *t, int64_t first, int64_t count, void *to);
void tensor_write(Tensor *t, int64_t first, int64_t count, const void *from);
/* ... from pinned memory (device_pin), which stays as it is until the host has waited for the device: nobody waits here. */
void tensor_start_write(Tensor *t, int64_t first, int64_t count, const void *from);
/* ... into pinned memory, which holds them when a point behind it is reached (device_point). */
void tensor_start_read(const Tensor *t, int64_t first, int64_t count, void *to);
/* All of its elements, in memory of the host's own; the caller frees it. */
void *tensor_to_host(const Tensor *t);
/* Of its elements and of `seed`: XXH64. */
uint64_t tensor_hash(const Tensor *t, uint64_t seed);
/* The number in a tensor of one element, TYPE_F32 or TYPE_F64. */
double tensor_scalar(const Tensor *t);
void tensor_set_scalar(Tensor *t, double value); /* TYPE_REAL */

/* Elements from `first` on of a tensor's memory, as a tensor of this shape: a view, which is not freed. */
Tensor tensor_view(const Tensor *t, int64_t first, Shape shape);
/* Rows first .. first + count - 1, as a matrix: a view. */
static inline Tensor tensor_rows_view(const Tensor *t, int64_t first, int64_t count) {
    int64_t columns = tensor_columns(t);
    return tensor_view(t, first * columns, SHAPE(count, columns));
}

/* An op that is not linear needs whole values: a Partial one ends the program with the op's name
 * and a hint. */
void tensor_check_not_partial(const Tensor *t, const char *op);

#endif
