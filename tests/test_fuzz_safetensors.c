/* TEST variants: asan
 * TEST tier: more
 * Mutations of a valid safetensors file, the same ones in every run. Each is opened and read in a child under
 * AddressSanitizer and UBSan: it must be read in full, or be refused in one line. */
#define _GNU_SOURCE
#include "common/base/rng.h"
#include "tests/arrays.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>

static void read_everything(void *path) {
    Safetensors *file = safetensors_open(path);
    double sum = 0, *copy;
    for (int64_t i = 0; i < file->count; i++) {
        NamedArray array = file->arrays[i];
        for (int64_t j = 0; j < array_count(&array); j++) sum += array_element(&file->arrays[i], j);
        array.data = copy = xmalloc((size_t)array_count(&array) * sizeof *copy);
        if (array.type <= ARRAY_BF16) array.type = ARRAY_F64;
        read_array(file, &array);
        free(copy);
    }
    printf("%g %s\n", sum, safetensors_metadata(file, "format") ? "with format" : "");
    safetensors_close(file);
}

static size_t place(Rng *rng, const Str *s) {
    /* two in three in the header, where the structure is */
    int64_t count = (int64_t)s->count, reach = rng_below(rng, 3) ? min64(count, 760) : count;
    return rng_below(rng, (uint32_t)max64(1, reach));
}

/* One small change, of one of seven kinds. */
static void mutate(Str *s, Rng *rng) {
    static const char interesting[] = "{}[]\",:-0919eE.\\\0\n\x7f\xff ";
    size_t at = place(rng, s), span = 1 + rng_below(rng, 24);
    span = (size_t)min64((int64_t)span, (int64_t)(s->count - at));
    switch (rng_below(rng, 7)) {
    case 0: s->data[at] ^= (char)(1 << rng_below(rng, 8)); break;
    case 1: s->data[at] = interesting[rng_below(rng, sizeof interesting - 1)]; break;
    case 2: s->count = at; break;
    case 3: /* remove a span */
        memmove(s->data + at, s->data + at + span, s->count - at - span);
        s->count -= span;
        break;
    case 4: { /* insert a copy of a span from elsewhere */
        char copy[24];
        size_t from = place(rng, s);
        span = (size_t)min64((int64_t)span, (int64_t)(s->count - from));
        memcpy(copy, s->data + from, span);
        str_add(s, copy, span); /* room */
        memmove(s->data + at + span, s->data + at, s->count - span - at);
        memcpy(s->data + at, copy, span);
        break;
    }
    case 5: /* another digit */
        while (at < s->count && (s->data[at] < '0' || s->data[at] > '9')) at++;
        if (at < s->count) s->data[at] = (char)('0' + rng_below(rng, 10));
        break;
    case 6: s->data[rng_below(rng, 8) % s->count] = (char)rng_below(rng, 256); break; /* the length */
    }
    if (s->count == 0) str_add(s, "\0", 1);
}

int main(void) {
    char *folder = file_temp_folder("shard-test"), *path = xprintf("%s/fuzz.safetensors", folder);
    size_t bytes;
    char *valid = file_read("tests/reference/python.safetensors", &bytes);
    Rng rng = {1, rng_stream("tests.fuzz_safetensors"), 0};
    int mutations = random_cases(700), read = 0, turned_away = 0;
    for (int m = 0; m < mutations; m++) {
        Str s = {0};
        str_add(&s, valid, bytes);
        for (uint32_t changes = 1 + rng_below(&rng, 3); changes > 0; changes--) mutate(&s, &rng);
        FILE *f = file_open(path, "wb");
        fwrite(s.data, 1, s.count, f);
        file_close(f, path);
        Exit e = expect_exit(read_everything, path);
        if (e.status == 0 && !*e.text)
            read++;
        else if (refused(&e, 1, path))
            turned_away++;
        else
            ok(false, "mutation %d: status %d, %s", m, e.status, e.text);
        str_free(&s);
    }
    ok(read + turned_away == mutations, "%d mutations: %d read, %d refused in one line", mutations, read,
       turned_away);
    ok(read > mutations / 50 && turned_away > mutations / 2, "both happen");
    free(valid);
    file_remove(folder);
    free(path);
    free(folder);
    return tap_done();
}
