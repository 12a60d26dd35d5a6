/* TEST variants: float asan
 * Shards that are read as they were written, and shards that are wrong: each must be refused in one line that
 * names the file and says why. */
#define _GNU_SOURCE
#include "common/data/data.h"
#include "tests/shard_folder.h"
#include "tests/tap.h"

#include <jansson.h>
#include <stdlib.h>

static char *folder; /* whole and right; what is wrong is made in `bad`, a copy */
static char *bad;

static char *path_of(const char *in, const char *name) { return xprintf("%s/%s", in, name); }

/* ---- the bytes of a file, changed ---- */

typedef struct {
    const char *what, *part; /* of the message */
    void (*change)(ShardHeader *header, Str *file);
    bool keep_checksum; /* wrong, then; otherwise it fits the changed header */
} Damage;

static void put(const char *path, const Str *s) {
    FILE *f = file_open(path, "wb");
    fwrite(s->data, 1, s->count, f);
    file_close(f, path);
}

static void copy(const char *name, const char *to) {
    char *from = path_of(folder, name), *path = path_of(bad, to);
    Str s = {0};
    s.data = file_read(from, &s.count);
    put(path, &s);
    str_free(&s);
    free(from);
    free(path);
}

static void fresh_copy(void) {
    file_remove(bad);
    file_make_folder(bad);
    copy("tokenizer.json", "tokenizer.json");
    copy("train_0000.bin", "train_0000.bin");
    copy("train_0001.bin", "train_0001.bin");
    copy("train_0002.bin", "train_0002.bin");
    copy("validation_0000.bin", "validation_0000.bin");
}

static void damage(const char *name, const Damage *d) {
    char *path = path_of(bad, name);
    Str s = {0};
    s.data = file_read(path, &s.count);
    ShardHeader header;
    memcpy(&header, s.data, sizeof header);
    d->change(&header, &s);
    if (!d->keep_checksum) header.checksum = shard_header_checksum(&header);
    memcpy(s.data, &header, s.count < sizeof header ? s.count : sizeof header);
    put(path, &s);
    str_free(&s);
    free(path);
}

#define CHANGE(name, code)                                                                                   \
    static void name(ShardHeader *h, Str *s) {                                                               \
        (void)h, (void)s;                                                                                    \
        code;                                                                                                \
    }
CHANGE(nothing, )
CHANGE(no_bytes, s->count = 0)
CHANGE(ten_bytes, s->count = 10)
CHANGE(half_header, s->count = sizeof *h - 1)
CHANGE(no_tokens, s->count = sizeof *h)
CHANGE(one_byte_less, s->count--)
CHANGE(one_token_less, s->count -= 2)
CHANGE(one_token_more, str_add(s, "ab", 2))
CHANGE(other_magic, h->magic[3] ^= 1)
CHANGE(version_0, h->version = 0)
CHANGE(version_3, h->version = 3)
CHANGE(version_1, h->version = 1; h->unicode = 0)
CHANGE(version_1_unicode, h->version = 1)
CHANGE(other_unicode, h->unicode = 9901)
CHANGE(a_flipped_bit, h->text_begin ^= 4)
CHANGE(split_2, h->split = 2)
CHANGE(last_2, h->is_last = 2)
CHANGE(vocab_0, h->vocab_size = 0)
CHANGE(vocab_huge, h->vocab_size = UINT32_MAX; h->token_bytes = 4)
CHANGE(wide_tokens, h->token_bytes = 4)
CHANGE(no_token_bytes, h->token_bytes = 0)
CHANGE(count_negative, h->token_count = -1)
CHANGE(count_huge, h->token_count = INT64_MAX)
CHANGE(count_wraps, h->token_count = (int64_t)1 << 62 | SHARD_TOKENS)
CHANGE(documents_negative, h->document_count = -5)
CHANGE(documents_many, h->document_count = SHARD_TOKENS + 1)
CHANGE(bytes_negative, h->text_bytes = INT64_MIN)
CHANGE(bytes_many, h->text_bytes = INT64_MAX)
CHANGE(text_backwards, h->text_end = h->text_begin - 1)
CHANGE(vocab_301, h->vocab_size++)
CHANGE(other_hash, h->tokenizer_hash ^= 1)
CHANGE(other_text, h->text_hash++)
CHANGE(gap, h->text_begin++)
CHANGE(other_index, h->index = 5)
CHANGE(other_split, h->split = SPLIT_VALIDATION)
CHANGE(not_last, h->is_last = 0)
CHANGE(bad_token, s->data[sizeof *h + 20] = 0x2C; s->data[sizeof *h + 21] = 1) /* 300 */

static void open_shard(void *path) {
    Shard shard = shard_open(path);
    shard_close(&shard);
}

static void test_one_shard(void) {
    static const Damage damages[] = {
        {"an empty file", "0 bytes", no_bytes, true},
        {"a file of ten bytes", "10 bytes", ten_bytes, true},
        {"half a header", "95 bytes", half_header, true},
        {"wrong magic", "is not a shard", other_magic, false},
        {"an older version than the first", "version 0", version_0, false},
        {"a later version", "version 3", version_3, false},
        {"version 1 knew no Unicode", "a shard of version 1", version_1_unicode, false},
        {"a flipped bit in the header", "checksum", a_flipped_bit, true},
        {"no tokens", "0 bytes behind its header", no_tokens, false},
        {"cut short by a byte", "1399 bytes behind its header", one_byte_less, false},
        {"cut short by a token", "1398 bytes behind its header", one_token_less, false},
        {"a token too many", "1402 bytes behind its header", one_token_more, false},
        {"split 2", "split is 2", split_2, false},
        {"is_last 2", "is_last 2", last_2, false},
        {"a vocabulary of 0", "vocabulary of 0", vocab_0, false},
        {"a vocabulary beyond int32", "vocabulary of 4294967295", vocab_huge, false},
        {"tokens of 4 bytes for a small vocabulary", "tokens of 4 bytes", wide_tokens, false},
        {"tokens of 0 bytes", "tokens of 0 bytes", no_token_bytes, false},
        {"-1 tokens", "-1 tokens", count_negative, false},
        {"2^63 - 1 tokens", "9223372036854775807 tokens", count_huge, false},
        {"a count whose bytes wrap round", "tokens of 2 bytes", count_wraps, false},
        {"-5 documents", "-5 documents", documents_negative, false},
        {"more documents than tokens", "701 documents", documents_many, false},
        {"text bytes below zero", "bytes of text", bytes_negative, false},
        {"more text bytes than the text has", "bytes of text", bytes_many, false},
        {"a stretch of text that runs backwards", "counts that cannot be", text_backwards, false},
    };
    for (int i = 0; i < COUNT_OF(damages); i++) {
        fresh_copy();
        damage("train_0001.bin", &damages[i]);
        char *path = path_of(bad, "train_0001.bin");
        Exit e = expect_exit(open_shard, path);
        ok(refused(&e, 1, damages[i].part) && strstr(e.text, "train_0001.bin"), "%s: %s", damages[i].what,
           e.text);
        free(path);
    }
    Exit e = expect_exit(open_shard, bad);
    ok(refused(&e, 1, bad), "a folder: %s", e.text);
    char nowhere[] = "/nowhere/train_0000.bin";
    e = expect_exit(open_shard, nowhere);
    ok(refused(&e, 1, "/nowhere/train_0000.bin"), "no file: %s", e.text);
}

/* ---- a folder ---- */

static void open_folder(void *path) {
    Dataset *data = data_open_shards(path, false, 1);
    int32_t tokens[64], targets[64];
    for (int i = 0; i < 2 * FOLDER_SHARDS * SHARD_TOKENS / 64; i++)
        data->window(data, SPLIT_TRAIN, i, 64, tokens, targets);
    data_close(data);
}

static void open_padded(void *path) { data_close(data_open_shards(path, true, 1)); }

static void test_folder(void) {
    static const Damage damages[] = {
        {"another vocabulary", "vocabulary of 301 tokens, tokenizer.json has 300", vocab_301, false},
        {"another tokenizer", "another tokenizer", other_hash, false},
        {"a shard of another text", "does not continue", other_text, false},
        {"a shard cut by another Unicode", "was cut by Unicode 99.1, the shard before it by", other_unicode,
         false},
        {"a gap in the text", "does not continue", gap, false},
        {"a shard that was renamed", "train shard 5", other_index, false},
        {"a shard of the other split", "validation shard 1", other_split, false},
        {"a token beyond the vocabulary", "token 300", bad_token, false},
    };
    fresh_copy();
    Exit e = expect_exit(open_folder, bad);
    ok(e.status == 0 && !*e.text, "the folder itself is fine %s", e.text);
    for (int i = 0; i < COUNT_OF(damages); i++) {
        fresh_copy();
        damage("train_0001.bin", &damages[i]);
        e = expect_exit(open_folder, bad);
        ok(refused(&e, 1, damages[i].part) && strstr(e.text, "train_0001.bin"), "%s: %s", damages[i].what,
           e.text);
    }
    fresh_copy();
    damage("train_0002.bin", &(Damage){.change = not_last});
    e = expect_exit(open_folder, bad);
    ok(refused(&e, 1, "lacks train_0003.bin") && strstr(e.text, "not finished"), "unfinished: %s", e.text);
    fresh_copy();
    damage("validation_0000.bin", &(Damage){.change = other_text});
    e = expect_exit(open_folder, bad);
    ok(refused(&e, 1, "different texts"), "splits of two texts: %s", e.text);
    fresh_copy();
    damage("train_0001.bin", &(Damage){.change = documents_negative});
    damage("train_0001.bin", &(Damage){.change = nothing});
    e = expect_exit(open_folder, bad);
    ok(refused(&e, 1, "-5 documents"), "a folder with a bad shard: %s", e.text);

    static const struct {
        const char *gone, *part;
    } missing[] = {{"train_0000.bin", "lacks train_0000.bin"},
                   {"train_0001.bin", "lacks train_0001.bin"},
                   {"validation_0000.bin", "lacks validation_0000.bin"},
                   {"tokenizer.json", "no data in"}};
    for (int i = 0; i < COUNT_OF(missing); i++) {
        fresh_copy();
        char *path = path_of(bad, missing[i].gone);
        file_remove(path);
        e = expect_exit(open_folder, bad);
        ok(refused(&e, 1, missing[i].part), "without %s: %s", missing[i].gone, e.text);
        free(path);
    }
    char nowhere[] = "/nowhere/at/all";
    e = expect_exit(open_folder, nowhere);
    ok(refused(&e, 1, "no data in '/nowhere/at/all'"), "no folder: %s", e.text);
}

static const char *const files[] = {"train_0000.bin", "train_0001.bin", "train_0002.bin",
                                    "validation_0000.bin"};

/* Sets or removes "unicode" in the copy's tokenizer.json. */
static void set_unicode(json_t *value) {
    char *path = path_of(bad, "tokenizer.json");
    json_t *root = json_load_file(path, 0, NULL), *pieces = json_object_get(root, "pre_tokenizer");
    if (value)
        json_object_set_new(pieces, "unicode", value);
    else
        json_object_del(pieces, "unicode");
    json_dump_file(root, path, 0);
    json_decref(root);
    free(path);
}

/* Files that say another version of Unicode than PCRE2 has are read, with one line about it; old files say none. */
static void test_unicode(void) {
    fresh_copy();
    for (int i = 0; i < COUNT_OF(files); i++) damage(files[i], &(Damage){.change = version_1});
    set_unicode(NULL);
    Exit e = expect_exit(open_folder, bad);
    ok(e.status == 0 && !*e.text, "shards of version 1, and a tokenizer that does not say its Unicode %s",
       e.text);

    fresh_copy();
    for (int i = 0; i < 3; i++) damage(files[i], &(Damage){.change = other_unicode});
    e = expect_exit(open_folder, bad);
    char here[UNICODE_TEXT],
        *part = xprintf("train_0000.bin' was cut by Unicode 99.1, and PCRE2 here cuts by %s:",
                        unicode_write(unicode_version(), here));
    ok(e.status == 0 && strstr(e.text, ": warning: ") && !strchr(e.text, '\n') && strstr(e.text, part),
       "shards cut by another Unicode: %s", e.text);
    free(part);
    damage(files[3], &(Damage){.change = other_unicode});
    set_unicode(json_string("99.1"));
    e = expect_exit(open_folder, bad);
    ok(e.status == 0 && !strchr(e.text, '\n') &&
           strstr(e.text, "tokenizer.json' was trained on text cut by Unicode 99.1"),
       "tokenizer and shards of another Unicode, in one line: %s", e.text);
    set_unicode(json_string("99.1x"));
    e = expect_exit(open_folder, bad);
    ok(refused(&e, 1, "has unicode '99.1x'"), "no version: %s", e.text);
    set_unicode(json_integer(14));
    e = expect_exit(open_folder, bad);
    ok(refused(&e, 1, "has unicode that is no string"), "a number: %s", e.text);
}

/* One document more than the header says: only who looks for documents can see it. */
static void test_documents(const Tokenizer *tokenizer) {
    fresh_copy();
    char *path = path_of(bad, "train_0000.bin");
    Str s = {0};
    s.data = file_read(path, &s.count);
    uint16_t end = (uint16_t)tokenizer_end_of_text(tokenizer);
    uint16_t *tokens = (uint16_t *)(void *)(s.data + sizeof(ShardHeader));
    int first = 0;
    while (tokens[first] == end) first++;
    tokens[first] = end;
    put(path, &s);
    Exit e = expect_exit(open_padded, bad);
    ok(refused(&e, 1, "documents"), "more documents than the header says: %s", e.text);
    str_free(&s);
    free(path);
}

static void ask_long(void *path) {
    Dataset *data = data_open_shards(path, false, 1);
    data->validation_windows(data, SHARD_TOKENS);
}

static void ask_long_train(void *path) {
    Dataset *data = data_open_shards(path, false, 1);
    int32_t tokens[FOLDER_SHARDS * SHARD_TOKENS], targets[FOLDER_SHARDS * SHARD_TOKENS];
    data->window(data, SPLIT_TRAIN, 0, FOLDER_SHARDS * SHARD_TOKENS, tokens, targets);
}

static void test_too_little(void) {
    Exit e = expect_exit(ask_long, folder);
    ok(refused(&e, 1, "700 validation tokens") && strstr(e.text, "--max-seq-length"), "too few tokens: %s",
       e.text);
    e = expect_exit(ask_long_train, folder);
    ok(refused(&e, 1, "2100 train tokens"), "too few tokens: %s", e.text);
}

/* ---- what is written is read ---- */

static void test_round_trip(const Tokenizer *tokenizer, const int32_t *written) {
    ShardSet set = shard_set_open(folder, SPLIT_TRAIN, tokenizer);
    enum { ALL = FOLDER_SHARDS * SHARD_TOKENS };
    static int32_t tokens[ALL];
    ok(set.count == FOLDER_SHARDS && set.complete && set.token_count == ALL, "three shards make a split");
    shard_set_read(&set, 0, ALL, tokens);
    bool same = !memcmp(tokens, written, sizeof tokens);
    for (int first = 0; first < ALL; first += 37) {
        int64_t count = min64(SHARD_TOKENS + 50, ALL - first); /* across one border or two */
        shard_set_read(&set, first, count, tokens);
        same &= !memcmp(tokens, written + first, (size_t)count * sizeof *tokens);
    }
    ok(same, "all tokens, and stretches across the borders of shards");
    shard_set_close(&set);

    /* a large vocabulary needs four bytes */
    char *path = path_of(bad, "wide.bin");
    ShardHeader header = {.version = SHARD_VERSION, .token_bytes = 4, .vocab_size = 70000, .is_last = 1};
    int32_t wide[4] = {0, 65536, 69999, 1};
    ShardWriter writer = shard_create(path, &header);
    ok(!file_exists(path), "until it is committed, there is no file of its name");
    shard_append(&writer, wide, 3);
    shard_append(&writer, wide + 3, 1);
    shard_commit(&writer);
    Shard shard = shard_open(path);
    ok(shard.header->token_count == 4 && shard.file_bytes == sizeof header + 16 &&
           !memcmp(shard.tokens, wide, sizeof wide),
       "tokens of four bytes");
    shard_close(&shard);
    free(path);
    ok(shard_token_bytes(65536) == 2 && shard_token_bytes(65537) == 4, "two bytes up to 65536 tokens");
}

int main(void) {
    char *root = file_temp_folder("shard-test");
    folder = path_of(root, "good");
    bad = path_of(root, "bad");
    file_make_folder(folder);
    Tokenizer *tokenizer = make_tokenizer(folder);
    int32_t *train = make_split(folder, tokenizer, SPLIT_TRAIN, FOLDER_SHARDS),
            *validation = make_split(folder, tokenizer, SPLIT_VALIDATION, 1);
    test_one_shard();
    test_folder();
    test_unicode();
    test_documents(tokenizer);
    test_too_little();
    test_round_trip(tokenizer, train);
    tokenizer_free(tokenizer);
    free(train);
    free(validation);
    file_remove(root);
    free(folder);
    free(bad);
    free(root);
    return tap_done();
}
