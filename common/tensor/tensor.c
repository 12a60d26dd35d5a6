#include "common/tensor/tensor.h"

const char *const place_kind_names[] = {"Replicate", "Shard", "Partial", "Private"};
const char *const mesh_axis_names[MESH_AXES] = {"data", "pipe", "tensor"};

const char *const element_type_names[] = {
    [TYPE_F32] = "f32", [TYPE_F64] = "f64", [TYPE_I32] = "i32", [TYPE_BF16] = "bf16"};

int64_t element_bytes(ElementType type) {
    static const int bytes[] = {[TYPE_F32] = 4, [TYPE_F64] = 8, [TYPE_I32] = 4, [TYPE_BF16] = 2};
    return bytes[type];
}

int64_t shape_count(Shape shape) {
    int64_t count = 1;
    for (int i = 0; i < shape.rank; i++) count *= shape.size[i];
    return count;
}

bool shape_equal(Shape a, Shape b) {
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.size[i] != b.size[i]) return false;
    return true;
}

Shape shape_with_columns(Shape shape, int64_t columns) {
    shape.size[shape.rank - 1] = columns;
    return shape;
}

ShapeText shape_text(Shape shape) {
    ShapeText out = {"("};
    int at = 1;
    for (int i = 0; i < shape.rank; i++)
        at += snprintf(out.text + at, sizeof out.text - (size_t)at, "%s%lld", i ? ", " : "",
                       (long long)shape.size[i]);
    snprintf(out.text + at, sizeof out.text - (size_t)at, ")");
    return out;
}

Place place_of_grad(Place place) {
    switch (place.kind) {
    case PLACE_PRIVATE: return (Place){PLACE_PARTIAL, 0};
    case PLACE_PARTIAL: return (Place){PLACE_REPLICATE, 0};
    default: return place;
    }
}

PlaceText place_text(Place place) {
    PlaceText out = {""};
    int at = snprintf(out.text, sizeof out.text, "%s", place_kind_names[place.kind]);
    if (place.kind == PLACE_SHARD) snprintf(out.text + at, sizeof out.text - (size_t)at, "(%d)", place.axis);
    return out;
}

Tensor tensor_new(Device *device, MemoryClass kind, const char *name, ElementType type, Shape shape) {
    Tensor t = {.type = type, .shape = shape, .name = name, .device = device, .memory = kind};
    if (device) t.data = device_alloc(device, kind, tensor_bytes(&t), name);
    return t;
}

void tensor_free(Tensor *t) {
    device_free(t->device, t->memory, t->data, tensor_bytes(t));
    t->data = NULL;
}

/* ---- between device and host ---- */

static char *address_of(const Tensor *t, int64_t first, int64_t count) {
    ASSERT(first >= 0 && count >= 0 && first + count <= tensor_count(t));
    CHECK(!t->arriving, "tape_await comes before",
          "the host reads or writes '%s', which is still on its way from another device", t->name);
    return (char *)t->data + first * element_bytes(t->type);
}

void tensor_read(const Tensor *t, int64_t first, int64_t count, void *to) {
    const char *from = address_of(t, first, count);
    if (count) device_read(t->device, to, from, count * element_bytes(t->type));
}

void tensor_write(Tensor *t, int64_t first, int64_t count, const void *from) {
    char *to = address_of(t, first, count);
    if (count) device_write(t->device, to, from, count * element_bytes(t->type));
}

void tensor_start_write(Tensor *t, int64_t first, int64_t count, const void *from) {
    char *to = address_of(t, first, count);
    if (count) device_start_write(t->device, to, from, count * element_bytes(t->type));
}

void tensor_start_read(const Tensor *t, int64_t first, int64_t count, void *to) {
    const char *from = address_of(t, first, count);
    if (count) device_start_read(t->device, to, from, count * element_bytes(t->type));
}

void *tensor_to_host(const Tensor *t) {
    void *elements = xmalloc((size_t)tensor_bytes(t));
    tensor_read(t, 0, tensor_count(t), elements);
    return elements;
}

double tensor_scalar(const Tensor *t) {
    ASSERT(tensor_count(t) == 1 && (t->type == TYPE_F32 || t->type == TYPE_F64));
    double wide;
    float narrow;
    tensor_read(t, 0, 1, t->type == TYPE_F64 ? (void *)&wide : &narrow);
    return t->type == TYPE_F64 ? wide : (double)narrow;
}

void tensor_set_scalar(Tensor *t, double value) {
    ASSERT(tensor_count(t) == 1 && t->type == TYPE_REAL);
    tensor_write(t, 0, 1, &(real){(real)value});
}

Tensor tensor_view(const Tensor *t, int64_t first, Shape shape) {
    Tensor view = *t;
    view.data = address_of(t, first, shape_count(shape));
    view.shape = shape;
    view.grad = NULL;
    view.readers = 1; /* the memory is not the view's to free */
    return view;
}

void tensor_check_not_partial(const Tensor *t, const char *op) {
    for (int axis = 0; axis < MESH_AXES; axis++)
        CHECK(t->place[axis].kind != PLACE_PARTIAL,
              "each device holds a term of a sum: all-reduce it (op_reduce) before an op that is not linear",
              "%s: '%s' is Partial on the mesh axis '%s'", op, t->name, mesh_axis_names[axis]);
}
