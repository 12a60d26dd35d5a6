/* TEST variants: asan
 * TEST tier: more
 * Mutations of a valid folder of shards, the same ones in every run. Each is opened and read, packed and
 * padded, in a child under AddressSanitizer and UBSan: it must be read in full, or be refused in one line. */
#define _GNU_SOURCE
#include "common/data/data.h"
#include "tests/shard_folder.h"
#include "tests/tap.h"

#include <stdlib.h>

static void read_everything(void *folder) {
    for (int pad = 0; pad < 2; pad++) {
        Dataset *data = data_open_shards(folder, pad, 1);
        int32_t tokens[50], targets[50];
        int64_t sum = 0;
        for (int i = 0; i < 100; i++) {
            data->window(data, SPLIT_TRAIN, i, 50, tokens, targets);
            for (int t = 0; t < 50; t++)
                sum += tokens[t] < 0 || tokens[t] >= data->vocab_size || targets[t] >= data->vocab_size;
        }
        CHECK(sum == 0, NULL, "WRONG: tokens beyond the vocabulary came out");
        data_close(data);
    }
}

/* A change of a header field to a value at the edge, of bytes anywhere, or of the length. */
static void mutate(Str *s, Rng *rng) {
    static const int64_t edges[] = {0,     1,   -1,  2,    3,         4,         299,       301,      65536,
                                    65537, 700, 699, 1400, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    ShardHeader header;
    int64_t edge = edges[rng_below(rng, COUNT_OF(edges))];
    size_t at = rng_below(rng, (uint32_t)s->count);
    switch (rng_below(rng, 6)) {
    case 0: s->data[at] ^= (char)(1 << rng_below(rng, 8)); break;
    case 1: s->count = at; break;
    case 2: str_add(s, (const char *)&edge, 1 + rng_below(rng, 8)); break;
    case 3: memcpy(s->data + 4 * rng_below(rng, sizeof header / 4), &edge, 4); break;
    case 4: memcpy(s->data + 8 * rng_below(rng, sizeof header / 8), &edge, 8); break;
    case 5: s->data[sizeof header + rng_below(rng, 2 * SHARD_TOKENS)] = (char)rng_below(rng, 256); break;
    }
    if (s->count < sizeof header || !rng_below(rng, 4))
        return; /* else a checksum that fits, to get further */
    memcpy(&header, s->data, sizeof header);
    header.checksum = shard_header_checksum(&header);
    memcpy(s->data, &header, sizeof header);
}

int main(void) {
    char *folder = file_temp_folder("shard-test");
    Tokenizer *tokenizer = make_tokenizer(folder);
    free(make_split(folder, tokenizer, SPLIT_TRAIN, FOLDER_SHARDS));
    free(make_split(folder, tokenizer, SPLIT_VALIDATION, 1));
    tokenizer_free(tokenizer);
    const char *const names[] = {"train_0000.bin", "train_0001.bin", "train_0002.bin", "validation_0000.bin"};
    Rng rng = {1, rng_stream("tests.fuzz_shards"), 0};
    int mutations = random_cases(300), read = 0, turned_away = 0;
    for (int m = 0; m < mutations; m++) {
        char *path = xprintf("%s/%s", folder, names[rng_below(&rng, COUNT_OF(names))]);
        size_t bytes;
        char *valid = file_read(path, &bytes);
        Str s = {0};
        str_add(&s, valid, bytes);
        mutate(&s, &rng);
        FILE *f = file_open(path, "wb");
        fwrite(s.data, 1, s.count, f);
        file_close(f, path);
        Exit e = expect_exit(read_everything, folder);
        bool is_refused = refused(&e, 1, "hint:");
        /* a version of Unicode that changed is warned of */
        bool is_warned = strstr(e.text, ": warning: ") && strstr(e.text, "PCRE2 here cuts by");
        read += e.status == 0 && (!*e.text || is_warned);
        turned_away += is_refused;
        if (e.status != 0 && !is_refused)
            ok(false, "mutation %d of %s: status %d, %s", m, path, e.status, e.text);
        f = file_open(path, "wb");
        fwrite(valid, 1, bytes, f);
        file_close(f, path);
        str_free(&s);
        free(valid);
        free(path);
    }
    ok(read > 0 && turned_away > read && read + turned_away == mutations,
       "%d mutations: %d read in full, %d refused", mutations, read, turned_away);
    Exit e = expect_exit(read_everything, folder);
    ok(e.status == 0, "the folder itself is read %s", e.text);
    file_remove(folder);
    free(folder);
    return tap_done();
}
