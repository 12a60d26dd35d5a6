#include "common/run/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#    error "the data of a safetensors file is little-endian, and so must the machine be"
#endif

static const char *const DAMAGED = "the file is damaged, or not a safetensors file: write or fetch it again";
/* The reference implementation refuses longer headers too. */
enum { HEADER_BYTES_MAX = 100 * 1000 * 1000, NAME_BYTES_MAX = 1024 };

/* ---- arrays ---- */

static const struct {
    const char *name;
    int bytes;
    bool floating;
} TYPES[] = {
    [ARRAY_F64] = {"F64", 8, true},    [ARRAY_F32] = {"F32", 4, true},  [ARRAY_F16] = {"F16", 2, true},
    [ARRAY_BF16] = {"BF16", 2, true},  [ARRAY_I64] = {"I64", 8, false}, [ARRAY_I32] = {"I32", 4, false},
    [ARRAY_I16] = {"I16", 2, false},   [ARRAY_I8] = {"I8", 1, false},   [ARRAY_U64] = {"U64", 8, false},
    [ARRAY_U32] = {"U32", 4, false},   [ARRAY_U16] = {"U16", 2, false}, [ARRAY_U8] = {"U8", 1, false},
    [ARRAY_BOOL] = {"BOOL", 1, false},
};

const char *array_type_name(ArrayType type) { return TYPES[type].name; }

bool array_is_floating(const NamedArray *array) { return TYPES[array->type].floating; }

/* False when the product does not fit. */
static bool count_elements(const NamedArray *array, int64_t *count) {
    *count = 1;
    bool fits = true, empty = false;
    for (int i = 0; i < array->rank; i++) {
        empty |= array->shape[i] == 0;
        fits &= !__builtin_mul_overflow(*count, array->shape[i], count);
    }
    if (empty) *count = 0; /* whatever the other dimensions are */
    return fits || empty;
}

int64_t array_count(const NamedArray *array) {
    int64_t count;
    ASSERT(count_elements(array, &count));
    return count;
}

int64_t array_bytes(const NamedArray *array) { return array_count(array) * TYPES[array->type].bytes; }

bool array_same_shape(const NamedArray *a, const NamedArray *b) {
    return a->rank == b->rank && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

/* IEEE 754 half: 1 sign bit, 5 of exponent (bias 15), 10 of fraction. */
static double half_value(uint16_t bits) {
    int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    double value = exponent == 31  ? (fraction ? NAN : INFINITY)
                   : exponent == 0 ? ldexp(fraction, -24)
                                   : ldexp(fraction + 1024, exponent - 25);
    return bits >> 15 ? -value : value;
}

double array_element(const NamedArray *array, int64_t i) {
    union {
        double f64;
        float f32;
        uint64_t u64;
        int64_t i64;
        uint32_t u32;
        int32_t i32;
        uint16_t u16;
        int16_t i16;
        uint8_t u8;
        int8_t i8;
    } x = {0};
    int bytes = TYPES[array->type].bytes;
    memcpy(&x, (const char *)array->data + i * bytes, (size_t)bytes);
    switch (array->type) {
    case ARRAY_F64: return x.f64;
    case ARRAY_F32: return x.f32;
    case ARRAY_F16: return half_value(x.u16);
    case ARRAY_BF16: x.u32 <<= 16; return x.f32; /* the upper half of a float */
    case ARRAY_I64: return (double)x.i64;
    case ARRAY_I32: return x.i32;
    case ARRAY_I16: return x.i16;
    case ARRAY_I8: return x.i8;
    case ARRAY_U64: return (double)x.u64;
    case ARRAY_U32: return x.u32;
    case ARRAY_U16: return x.u16;
    case ARRAY_U8:
    case ARRAY_BOOL: return x.u8;
    }
    ASSERT(!"an array type");
}

char *array_shape_text(const NamedArray *array) {
    Str s = {0};
    str_add(&s, "(", 1);
    for (int i = 0; i < array->rank; i++) str_printf(&s, "%s%lld", i ? ", " : "", (long long)array->shape[i]);
    str_add(&s, ")", 1);
    return s.data;
}

/* ---- writing ---- */

static json_t *describe(const NamedArray *array, int64_t begin) {
    json_t *shape = json_array();
    for (int i = 0; i < array->rank; i++) json_array_append_new(shape, json_integer(array->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", TYPES[array->type].name, "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + array_bytes(array)));
}

/* What a device holds comes through the host's memory a piece at a time. */
enum { PIECE = 1 << 13 };

static void write_elements(FILE *f, const NamedArray *array) {
    double piece[PIECE]; /* wide enough for any type of tensor */
    int64_t bytes = TYPES[array->type].bytes;
    for (int64_t first = 0, count; (count = min64(PIECE, array_count(array) - first)) > 0; first += count) {
        const char *from = (const char *)array->data + first * bytes;
        if (array->tensor) tensor_read(array->tensor, first, count, piece);
        fwrite(array->tensor ? (const char *)piece : from, (size_t)bytes, (size_t)count, f);
    }
}

void safetensors_write(const char *path, const NamedArray *arrays, int64_t count, const json_t *metadata) {
    json_t *header = json_object();
    if (metadata) json_object_set_new(header, "__metadata__", json_deep_copy(metadata));
    /* Wide elements first: then every array lies on a multiple of its element size, without gaps. */
    const NamedArray **order = xcalloc((size_t)count, sizeof *order);
    int64_t ordered = 0, offset = 0;
    for (int bytes = 8; bytes > 0; bytes /= 2)
        for (int64_t i = 0; i < count; i++)
            if (TYPES[arrays[i].type].bytes == bytes) order[ordered++] = &arrays[i];
    for (int64_t i = 0; i < count; i++) {
        ASSERT(!json_object_get(header, order[i]->name)); /* no name twice */
        ASSERT(!json_object_set_new(header, order[i]->name, describe(order[i], offset)));
        offset += array_bytes(order[i]);
    }

    char *text = json_dumps(header, JSON_COMPACT);
    ASSERT(text);
    uint64_t text_bytes = strlen(text), header_bytes = (text_bytes + 7) / 8 * 8;
    char *temporary = xprintf("%s.tmp", path);
    FILE *f = file_open(temporary, "wb");
    fwrite(&header_bytes, sizeof header_bytes, 1, f);
    fprintf(f, "%s%*s", text, (int)(header_bytes - text_bytes), ""); /* the data starts on a multiple of 8 */
    for (int64_t i = 0; i < count; i++) write_elements(f, order[i]);
    file_close(f, temporary);
    file_commit(temporary, path);
    free(temporary);
    free(text);
    free(order);
    json_decref(header);
}

/* ---- reading ---- */

/* Names end up in messages: one line, no terminal escapes, not a megabyte. */
static bool printable(const char *text) {
    if (strlen(text) > NAME_BYTES_MAX) return false;
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return false;
    return true;
}

static json_t *parse_header(const Safetensors *file, uint64_t *header_bytes) {
    const char *path = file->path;
    CHECK(file->map_bytes >= 8, DAMAGED, "'%s' is %zu bytes long, too short for a safetensors file", path,
          file->map_bytes);
    memcpy(header_bytes, file->map, 8);
    CHECK(*header_bytes <= HEADER_BYTES_MAX, DAMAGED, "'%s': header of %llu bytes, at most %d are allowed",
          path, (unsigned long long)*header_bytes, HEADER_BYTES_MAX);
    CHECK(*header_bytes <= file->map_bytes - 8, DAMAGED,
          "'%s': header of %llu bytes, but the file has only %zu after its length", path,
          (unsigned long long)*header_bytes, file->map_bytes - 8);
    const char *text = (const char *)file->map + 8;
    CHECK(*header_bytes > 0 && text[0] == '{', DAMAGED, "'%s': the header does not start with '{'", path);
    json_error_t error;
    json_t *header = json_loadb(text, *header_bytes, JSON_REJECT_DUPLICATES, &error);
    CHECK(header || json_error_code(&error) != json_error_duplicate_key, DAMAGED,
          "'%s': the header has a name twice, up to its byte %d", path, error.position);
    CHECK(header, DAMAGED, "'%s': the header is not JSON, from its byte %d on", path, error.position);
    return header;
}

static void check_metadata(const char *path, json_t *metadata) {
    const char *key;
    json_t *value;
    CHECK(json_is_object(metadata), DAMAGED, "'%s': __metadata__ is not an object", path);
    json_object_foreach(metadata, key, value)
        CHECK(json_is_string(value), DAMAGED, "'%s': __metadata__ holds something that is not text", path);
}

static ArrayType parse_type(const char *path, const char *name, const json_t *dtype) {
    CHECK(json_is_string(dtype), DAMAGED, "'%s': tensor '%s' has no dtype", path, name);
    for (int i = 0; i < COUNT_OF(TYPES); i++)
        if (!strcmp(json_string_value(dtype), TYPES[i].name)) return (ArrayType)i;
    const char *given = printable(json_string_value(dtype)) ? json_string_value(dtype) : "?";
    fail(1, "convert it to F32", "'%s': tensor '%s' has dtype '%s', which is not known here", path, name,
         given);
}

static NamedArray parse_array(const char *path, const char *name, const json_t *entry, const char *data,
                              int64_t data_bytes) {
    CHECK(printable(name), DAMAGED,
          "'%s': a tensor's name is longer than %d bytes or holds control characters", path, NAME_BYTES_MAX);
    CHECK(json_is_object(entry), DAMAGED, "'%s': tensor '%s' is not described by an object", path, name);
    NamedArray array = {.name = name, .type = parse_type(path, name, json_object_get(entry, "dtype"))};

    const json_t *shape = json_object_get(entry, "shape");
    CHECK(json_is_array(shape), DAMAGED, "'%s': tensor '%s' has no shape", path, name);
    CHECK(json_array_size(shape) <= ARRAY_RANK_MAX, "flatten it",
          "'%s': tensor '%s' has %zu dimensions, at most %d", path, name, json_array_size(shape),
          ARRAY_RANK_MAX);
    array.rank = (int)json_array_size(shape);
    for (int i = 0; i < array.rank; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        CHECK(json_is_integer(size) && json_integer_value(size) >= 0, DAMAGED,
              "'%s': tensor '%s': dimension %d is not a whole number >= 0", path, name, i);
        array.shape[i] = json_integer_value(size);
    }

    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    CHECK(json_array_size(offsets) == 2 && json_is_integer(first) && json_is_integer(second), DAMAGED,
          "'%s': tensor '%s': data_offsets are not two whole numbers", path, name);
    int64_t begin = json_integer_value(first), end = json_integer_value(second);
    CHECK(0 <= begin && begin <= end && end <= data_bytes, DAMAGED,
          "'%s': tensor '%s' lies at bytes %lld to %lld, but the file has %lld bytes of data", path, name,
          (long long)begin, (long long)end, (long long)data_bytes);
    int64_t count, bytes;
    CHECK(count_elements(&array, &count) && !__builtin_mul_overflow(count, TYPES[array.type].bytes, &bytes),
          DAMAGED, "'%s': tensor '%s': its shape has more elements than can be counted", path, name);
    CHECK(bytes == end - begin, DAMAGED,
          "'%s': tensor '%s' has %lld bytes of data, its shape and type need %lld", path, name,
          (long long)(end - begin), (long long)bytes);
    array.data = (void *)(uintptr_t)(data + begin); /* into the map: read-only */
    return array;
}

static int by_place(const void *a, const void *b) {
    const NamedArray *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    int64_t m = array_bytes(x),
            n = array_bytes(y); /* an empty array comes before the one at the same place */
    return (m > n) - (m < n);
}

Safetensors *safetensors_open(const char *path) {
    Safetensors *file = xcalloc(1, sizeof *file);
    uint64_t header_bytes;
    file->path = xstrdup(path);
    file->map = file_map(path, &file->map_bytes);
    file->header = parse_header(file, &header_bytes);
    const char *data = (const char *)file->map + 8 + header_bytes, *name, *expected = data;
    int64_t data_bytes = (int64_t)(file->map_bytes - 8 - header_bytes);

    json_t *entry;
    file->arrays = xcalloc(json_object_size(file->header), sizeof *file->arrays);
    json_object_foreach(file->header, name, entry) {
        if (!strcmp(name, "__metadata__"))
            check_metadata(path, entry);
        else
            file->arrays[file->count++] = parse_array(path, name, entry, data, data_bytes);
    }
    qsort(file->arrays, (size_t)file->count, sizeof *file->arrays, by_place);
    for (int64_t i = 0; i < file->count; i++) {
        const NamedArray *array = &file->arrays[i];
        CHECK(array->data == expected, DAMAGED,
              "'%s': tensor '%s' starts at byte %lld of the data, where %lld is due: tensors overlap or "
              "leave a gap",
              path, array->name, (long long)((const char *)array->data - data), (long long)(expected - data));
        expected += array_bytes(array);
    }
    CHECK(expected == data + data_bytes, DAMAGED, "'%s': %lld bytes of data belong to no tensor", path,
          (long long)(data + data_bytes - expected));
    return file;
}

void safetensors_close(Safetensors *file) {
    if (!file) return;
    file_unmap(file->map, file->map_bytes);
    json_decref(file->header);
    free(file->arrays);
    free(file->path);
    free(file);
}

const char *safetensors_metadata(const Safetensors *file, const char *key) {
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

void array_convert(const NamedArray *have, int64_t first, int64_t count, ArrayType type, void *to) {
    int64_t bytes = TYPES[type].bytes;
    if (have->type == type)
        memcpy(to, (const char *)have->data + first * bytes, (size_t)(count * bytes));
    else if (type == ARRAY_F32)
        for (int64_t i = 0; i < count; i++) ((float *)to)[i] = (float)array_element(have, first + i);
    else
        for (int64_t i = 0; i < count; i++) ((double *)to)[i] = array_element(have, first + i);
}
