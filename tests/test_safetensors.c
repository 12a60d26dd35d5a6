/* TEST variants: float double asan
 * The reader and the writer against each other, against a file that Python made, and against files that are
 * wrong in every way that could be thought of: each must be refused in one line that says what is wrong. */
#define _GNU_SOURCE
#include "tests/arrays.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <math.h>

static char *folder;

static char *in_folder(const char *name) { return xprintf("%s/%s", folder, name); }

/* ---- what is written is read ---- */

static void test_round_trip(void) {
    float weight[6] = {1, -2.5f, 3e-42f, INFINITY, -0.0f, NAN};
    double moment[2] = {0.1, -1e300};
    int64_t counts[3] = {INT64_MIN, 0, INT64_MAX};
    uint8_t mask[5] = {1, 2, 3, 4, 5};
    int32_t one = -7;
    char quoted[] = "a \"quoted\\\" name/é";
    NamedArray arrays[] = {
        {"mask", ARRAY_U8, 1, {5}, .data = mask},      {"weight", ARRAY_F32, 2, {2, 3}, .data = weight},
        {"moment", ARRAY_F64, 1, {2}, .data = moment}, {"counts", ARRAY_I64, 3, {1, 3, 1}, .data = counts},
        {quoted, ARRAY_I32, 0, {0}, .data = &one},     {"nothing", ARRAY_F32, 2, {0, 8}, .data = NULL},
    };
    char *path = in_folder("round.safetensors");
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    safetensors_write(path, arrays, COUNT_OF(arrays), metadata);
    json_decref(metadata);
    Safetensors *file = safetensors_open(path);
    bool same = file->count == COUNT_OF(arrays);
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        const NamedArray *have = find_array(file, arrays[i].name);
        same &= have && have->type == arrays[i].type && array_same_shape(have, &arrays[i]) &&
                (!array_count(have) || !memcmp(have->data, arrays[i].data, (size_t)array_bytes(have)));
        same &= have && (!array_count(have) ||
                         (uintptr_t)have->data % (size_t)(array_bytes(have) / array_count(have)) == 0);
    }
    ok(same, "all arrays come back with the same bits, each on a multiple of its element size");
    ok(!strcmp(safetensors_metadata(file, "format"), "pt") && !safetensors_metadata(file, "other"),
       "metadata");
    ok(!find_array(file, "__metadata__") && !find_array(file, "x"), "no other arrays");
    safetensors_close(file);

    safetensors_write(path, NULL, 0, NULL);
    file = safetensors_open(path);
    ok(file->count == 0 && !safetensors_metadata(file, "format"), "a file without arrays");
    safetensors_close(file);
    free(path);
}

/* Byte for byte the file that Python's safetensors.numpy.load_file was seen to read. */
static void test_bytes(void) {
    static const char expected[] = "\x70\0\0\0\0\0\0\0"
                                   "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                   "\"a\":{\"dtype\":\"U16\",\"shape\":[2,1],\"data_offsets\":[4,8]}}   "
                                   "\0\0\x80\x3f\x01\0\x02\0";
    uint16_t a[2] = {1, 2};
    float b = 1;
    NamedArray arrays[] = {{"a", ARRAY_U16, 2, {2, 1}, .data = a}, {"b", ARRAY_F32, 1, {1}, .data = &b}};
    char *path = in_folder("bytes.safetensors");
    safetensors_write(path, arrays, 2, NULL);
    size_t bytes;
    char *got = file_read(path, &bytes);
    ok(bytes == sizeof expected - 1 && !memcmp(got, expected, bytes), "the bytes of a small file");
    free(got);
    free(path);
}

/* ---- what Python wrote is read ---- */

static void test_python(void) {
    static const struct {
        const char *name;
        ArrayType type;
        double scale;
    } ramps[] = {{"double", ARRAY_F64, 0.1}, {"single", ARRAY_F32, 0.25},        {"half", ARRAY_F16, 0x1p-15},
                 {"brain", ARRAY_BF16, 1.5}, {"long", ARRAY_I64, 1099511627776}, {"int", ARRAY_I32, -70000}};
    Safetensors *file = safetensors_open("tests/reference/python.safetensors");
    for (int r = 0; r < COUNT_OF(ramps); r++) {
        const NamedArray *array = find_array(file, ramps[r].name);
        bool same = array && array->type == ramps[r].type;
        int64_t middle = same ? array_count(array) / 2 : 0;
        for (int64_t i = 0; same && i < array_count(array); i++)
            same = array_element(array, i) == (double)(i - middle) * ramps[r].scale;
        ok(same, "Python's array '%s'", ramps[r].name);
    }
    const NamedArray *bytes = find_array(file, "bytes"), *scalar = find_array(file, "scalar");
    ok(array_element(bytes, 1) == 128 && scalar->rank == 0 && array_element(scalar, 0) == 2.5,
       "bytes and a scalar");
    ok(array_count(find_array(file, "empty")) == 0 && find_array(file, "блок.0"),
       "an empty array, a name in Cyrillic");
    ok(!strcmp(safetensors_metadata(file, "made by"), "Python"), "Python's metadata");

    float as_float[15];
    double as_double[24];
    read_array(file, &(NamedArray){"double", ARRAY_F32, 2, {3, 5}, .data = as_float});
    read_array(file, &(NamedArray){"single", ARRAY_F64, 3, {2, 3, 4}, .data = as_double});
    ok(as_float[0] == (float)(-7 * 0.1) && as_double[23] == 11 * 0.25, "F64 read as F32 and F32 read as F64");
    read_array(file, &(NamedArray){"brain", ARRAY_F32, 1, {9}, .data = as_float});
    ok(as_float[0] == -6 && as_float[8] == 6, "BF16 read as F32");
    real as_real[24];
    read_array(file, &(NamedArray){"single", ARRAY_REAL, 3, {2, 3, 4}, .data = as_real});
    ok(as_real[1] == (real)-2.75, "F32 read as this build's real");
    safetensors_close(file);
}

static void test_half(void) {
    uint16_t bits[] = {0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00,
                       0xc000, 0x7bff, 0x7c00, 0xfc00, 0x7e00};
    double want[] = {0, -0.0, 0x1p-24, 1023 * 0x1p-24, 0x1p-14, 1, -2, 65504, INFINITY, -INFINITY, NAN};
    NamedArray array = {"half", ARRAY_F16, 1, {COUNT_OF(bits)}, .data = bits};
    bool same = true;
    for (int i = 0; i < COUNT_OF(bits); i++) {
        double got = array_element(&array, i);
        same &= isnan(want[i]) ? isnan(got) : got == want[i] && !signbit(got) == !signbit(want[i]);
    }
    ok(same, "half precision: zeros, subnormals, ends of the range, infinities, NaN");
}

/* ---- files that are wrong ---- */

typedef struct {
    const char *path;
} Opening;

static void open_file(void *argument) { safetensors_open(((Opening *)argument)->path); }

static void write_with_length(const char *path, uint64_t length, const char *header, int data_bytes) {
    Str s = {0};
    str_add(&s, (const char *)&length, 8);
    str_add(&s, header, strlen(header));
    for (int i = 0; i < data_bytes; i++) str_add(&s, "d", 1);
    file_write(path, s.data, s.count);
    str_free(&s);
}

#define F32_4(begin, end) "{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[" #begin "," #end "]}"
#define ONE(fields)       "{\"a\":{" fields "}}"

static const struct {
    const char *header;
    int data_bytes;
    const char *reason; /* part of the message; NULL: the file is fine */
} HEADERS[] = {
    {"{\"a\":" F32_4(0, 16) "}", 16, NULL},
    {"{\"a\":" F32_4(0, 16) "}  \n\t ", 16, NULL},
    {"{\"b\":" F32_4(16, 32) ",\"a\":" F32_4(0, 16) "}", 32, NULL},
    {"{\"__metadata__\":{},\"a\":" F32_4(0, 16) "}", 16, NULL},
    {"{}", 0, NULL},
    {ONE("\"dtype\":\"U8\",\"shape\":[9223372036854775807,0,5],\"data_offsets\":[0,0]"), 0, NULL},
    {"", 0, "does not start with '{'"},
    {" {}", 0, "does not start with '{'"},
    {"[]", 0, "does not start with '{'"},
    {"{", 0, "not JSON"},
    {"{\"a\":}", 0, "not JSON"},
    {"{}x", 0, "not JSON"},
    {"{\"\xff\":1}", 0, "not JSON"},
    {"{\"a\\u0000b\":1}", 0, "not JSON"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,16]}}", 16, "not JSON"},
    {"{\"a\":" F32_4(0, 16) ",\"a\":" F32_4(0, 16) "}", 16, "name twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "name twice"},
    {"{\"__metadata__\":[],\"a\":" F32_4(0, 16) "}", 16, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"step\":1},\"a\":" F32_4(0, 16) "}", 16, "is not text"},
    {"{\"a\":1}", 0, "not described by an object"},
    {"{\"a\":[]}", 0, "not described by an object"},
    {"{\"a\\nb\":1}", 0, "control characters"},
    {"{\"a\\u001b[31m\":1}", 0, "control characters"},
    {ONE(""), 0, "has no dtype"},
    {ONE("\"dtype\":4"), 0, "has no dtype"},
    {ONE("\"dtype\":\"F31\",\"shape\":[4],\"data_offsets\":[0,16]"), 16, "dtype 'F31'"},
    {ONE("\"dtype\":\"f32\",\"shape\":[4],\"data_offsets\":[0,16]"), 16, "dtype 'f32'"},
    {ONE("\"dtype\":\"\\n\",\"shape\":[4],\"data_offsets\":[0,16]"), 16, "dtype '?'"},
    {ONE("\"dtype\":\"F32\",\"data_offsets\":[0,16]"), 16, "has no shape"},
    {ONE("\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]"), 16, "has no shape"},
    {ONE("\"dtype\":\"F32\",\"shape\":[1,1,1,2,2],\"data_offsets\":[0,16]"), 16, "has 5 dimensions"},
    {ONE("\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]"), 16, "dimension 0 is not"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4.0],\"data_offsets\":[0,16]"), 16, "dimension 0 is not"},
    {ONE("\"dtype\":\"F32\",\"shape\":[1,\"4\"],\"data_offsets\":[0,16]"), 16, "dimension 1 is not"},
    {ONE("\"dtype\":\"F32\",\"shape\":[null],\"data_offsets\":[0,16]"), 16, "dimension 0 is not"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,16]"), 16,
     "more elements than"},
    {ONE("\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]"), 0,
     "more elements than"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4]"), 16, "data_offsets are not two"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]"), 16, "data_offsets are not two"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,8,16]"), 16, "data_offsets are not two"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16.0]"), 16, "data_offsets are not two"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":{\"0\":0}"), 16, "data_offsets are not two"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]"), 16, "lies at bytes -16 to 0"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]"), 16, "lies at bytes 16 to 0"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]"), 16, "lies at bytes 0 to 17"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,9223372036854775807]"), 16,
     "lies at bytes 0 to 92233"},
    {ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[9223372036854775800,9223372036854775807]"), 16,
     "lies at"},
    {"{\"a\":" F32_4(0, 16) "}", 15, "lies at bytes 0 to 16, but the file has 15"},
    {"{\"a\":" F32_4(0, 12) "}", 12, "has 12 bytes of data, its shape and type need 16"},
    {"{\"a\":" F32_4(0, 20) "}", 20, "has 20 bytes of data, its shape and type need 16"},
    {ONE("\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,0]"), 0,
     "has 0 bytes of data, its shape and type need 4"},
    {"{\"a\":" F32_4(0, 16) "}", 17, "1 bytes of data belong to no tensor"},
    {"{}", 8, "8 bytes of data belong to no tensor"},
    {"{\"a\":" F32_4(4, 20) "}", 20, "'a' starts at byte 4 of the data, where 0 is due"},
    {"{\"a\":" F32_4(0, 16) ",\"b\":" F32_4(20, 36) "}", 36,
     "'b' starts at byte 20 of the data, where 16 is due"},
    {"{\"a\":" F32_4(0, 16) ",\"b\":" F32_4(12, 28) "}", 28,
     "'b' starts at byte 12 of the data, where 16 is due"},
    {"{\"a\":" F32_4(0, 16) ",\"b\":" F32_4(0, 16) "}", 16, "starts at byte 0 of the data, where 16 is due"},
};

static void test_wrong_headers(void) {
    Opening opening = {in_folder("wrong.safetensors")};
    for (int i = 0; i < COUNT_OF(HEADERS); i++) {
        write_with_length(opening.path, strlen(HEADERS[i].header), HEADERS[i].header, HEADERS[i].data_bytes);
        Exit e = expect_exit(open_file, &opening);
        if (HEADERS[i].reason)
            ok(refused(&e, 1, HEADERS[i].reason) && strstr(e.text, "wrong.safetensors'"),
               "header %d (%s): %s", i, HEADERS[i].reason, e.text);
        else
            ok(e.status == 0 && !*e.text, "header %d is fine: %s", i, e.text);
    }

    /* lengths that do not fit, files too short to hold one, no file */
    static const struct {
        uint64_t length;
        const char *reason;
    } lengths[] = {{3, "but the file has only 2"},
                   {100000000, "but the file has only 2"},
                   {100000001, "at most 100000000 are allowed"},
                   {UINT64_MAX, "at most 100000000 are allowed"},
                   {UINT64_MAX - 7, "at most 100000000 are allowed"},
                   {0, "does not start with '{'"}};
    for (int i = 0; i < COUNT_OF(lengths); i++) {
        write_with_length(opening.path, lengths[i].length, "{}", 0);
        Exit e = expect_exit(open_file, &opening);
        ok(refused(&e, 1, lengths[i].reason), "length %llu: %s", (unsigned long long)lengths[i].length,
           e.text);
    }
    for (size_t bytes = 0; bytes < 8; bytes += 7) {
        file_write(opening.path, "\2\0\0\0\0\0\0", bytes);
        Exit e = expect_exit(open_file, &opening);
        ok(refused(&e, 1, "too short for a safetensors file"), "%zu bytes: %s", bytes, e.text);
    }
    Exit e = expect_exit(open_file, &(Opening){folder});
    ok(refused(&e, 1, "not a file"), "a folder: %s", e.text);
    e = expect_exit(open_file, &(Opening){"/nowhere/x.safetensors"});
    ok(refused(&e, 1, "cannot open '/nowhere/x.safetensors'"), "no file: %s", e.text);

    Str name = {0}; /* a name of a megabyte stays out of the message */
    str_printf(&name, "{\"");
    for (int i = 0; i < 1000000; i++) str_add(&name, "n", 1);
    str_printf(&name, "\":1}");
    write_with_length(opening.path, name.count, name.data, 0);
    e = expect_exit(open_file, &opening);
    ok(refused(&e, 1, "longer than 1024 bytes"), "a long name: %s", e.text);
    str_free(&name);
    free((char *)(uintptr_t)opening.path);
}

/* ---- writing where there is no room ---- */

static void write_to(void *path) {
    static float data[1 << 16];
    safetensors_write(path, &(NamedArray){"a", ARRAY_F32, 1, {1 << 16}, .data = data}, 1, NULL);
}

static void test_full_disk(void) {
    char *path = in_folder("full.safetensors"), *temporary = in_folder("full.safetensors.tmp");
    file_write(path, "old", 3);
    if (symlink("/dev/full", temporary) == 0 && access("/dev/full", W_OK) == 0) {
        Exit e = expect_exit(write_to, path);
        char *left = file_read(path, NULL);
        ok(refused(&e, 1, "No space left on device") && !strcmp(left, "old"),
           "a full disk leaves the old file: %s", e.text);
        free(left);
    }
    free(path);
    free(temporary);
}

int main(void) {
    folder = file_temp_folder("shard-test");
    test_round_trip();
    test_bytes();
    test_python();
    test_half();
    test_wrong_headers();
    test_full_disk();
    file_remove(folder);
    free(folder);
    return tap_done();
}
