#include "common/data/shards.h"

#include "common/base/platform.h"
#include "common/data/pretokenize.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static const char *const MAKE_ANEW = "make the data anew with make data";

const char *split_name(Split split) { return split == SPLIT_TRAIN ? "train" : "validation"; }

char *shard_path(const char *folder, Split split, int index) {
    return xprintf("%s/%s_%04d.bin", folder, split_name(split), index);
}

int shard_token_bytes(int64_t vocab_size) { return vocab_size <= 1 << 16 ? 2 : 4; }

uint64_t shard_header_checksum(const ShardHeader *header) {
    return XXH3_64bits(header, offsetof(ShardHeader, checksum));
}

/* ---- one shard ---- */

static void check_header(const ShardHeader *h, const char *path, size_t file_bytes) {
    CHECK(h->version >= 1 && h->version <= SHARD_VERSION, MAKE_ANEW,
          "'%s' is a shard of version %u, this program reads versions up to %d", path, h->version,
          SHARD_VERSION);
    CHECK(h->checksum == shard_header_checksum(h), MAKE_ANEW, "'%s': the header does not match its checksum",
          path);
    CHECK(h->split <= SPLIT_VALIDATION && h->is_last <= 1, MAKE_ANEW,
          "'%s': split is %u and is_last %u, each must be 0 or 1", path, h->split, h->is_last);
    CHECK(h->version > 1 || !h->unicode, MAKE_ANEW,
          "'%s': a shard of version 1 with a version of Unicode, %u", path, h->unicode);
    CHECK(h->vocab_size > 0 && h->vocab_size <= INT32_MAX, MAKE_ANEW, "'%s': a vocabulary of %u tokens", path,
          h->vocab_size);
    CHECK((int)h->token_bytes == shard_token_bytes(h->vocab_size), MAKE_ANEW,
          "'%s': tokens of %u bytes for a vocabulary of %u", path, h->token_bytes, h->vocab_size);
    CHECK(h->token_count >= 0 && h->text_bytes >= 0 && h->document_count >= 0 &&
              h->document_count <= h->token_count && h->text_begin >= 0 && h->text_begin <= h->text_end &&
              h->text_bytes <= h->text_end - h->text_begin,
          MAKE_ANEW,
          "'%s': counts that cannot be: %" PRId64 " tokens, %" PRId64 " documents, %" PRId64
          " bytes of text from %" PRId64 " to %" PRId64,
          path, h->token_count, h->document_count, h->text_bytes, h->text_begin, h->text_end);
    size_t body = file_bytes - sizeof *h;
    CHECK(body % h->token_bytes == 0 && body / h->token_bytes == (uint64_t)h->token_count,
          "the file was cut short or changed: make the data anew",
          "'%s' has %zu bytes behind its header, %" PRId64 " tokens of %u bytes do not fit that", path, body,
          h->token_count, h->token_bytes);
}

Shard shard_open(const char *path) {
    Shard shard = {.path = xstrdup(path)};
    const char *file = file_map(path, &shard.file_bytes);
    CHECK(shard.file_bytes >= sizeof(ShardHeader), "the file was cut short: make the data anew",
          "'%s' has %zu bytes, the header of a shard alone has %zu", path, shard.file_bytes,
          sizeof(ShardHeader));
    CHECK(memcmp(file, SHARD_MAGIC, sizeof shard.header->magic) == 0,
          "name a folder that make data made with --data-dir",
          "'%s' is not a shard: it does not begin with its mark", path);
    shard.header = (const ShardHeader *)file;
    shard.tokens = file + sizeof(ShardHeader);
    check_header(shard.header, path, shard.file_bytes);
    return shard;
}

void shard_close(Shard *shard) {
    file_unmap(shard->header, shard->file_bytes);
    free(shard->path);
}

/* ---- a split ---- */

/* The shard that comes behind the ones of the set. */
static void check_member(const ShardSet *set, const Shard *shard, Split split, const Tokenizer *tokenizer) {
    static const char *const belong = "tokenizer.json and all shards must come from one make data";
    const ShardHeader *h = shard->header, *before = set->count ? set->shards[set->count - 1].header : h;
    CHECK(h->split == (uint32_t)split && h->index == (uint32_t)set->count, belong,
          "'%s' is %s shard %u by its header", shard->path, split_name((Split)h->split), h->index);
    CHECK(h->vocab_size == (uint32_t)tokenizer_vocab_size(tokenizer), belong,
          "'%s' was made with a vocabulary of %u tokens, tokenizer.json has %d", shard->path, h->vocab_size,
          tokenizer_vocab_size(tokenizer));
    CHECK(h->tokenizer_hash == tokenizer_hash(tokenizer), belong,
          "'%s' was made with another tokenizer than tokenizer.json: hash %016" PRIx64 ", not %016" PRIx64,
          shard->path, h->tokenizer_hash, tokenizer_hash(tokenizer));
    char unicode[2][UNICODE_TEXT];
    CHECK(h->unicode == before->unicode, belong, "'%s' was cut by Unicode %s, the shard before it by %s",
          shard->path, unicode_write(h->unicode, unicode[0]), unicode_write(before->unicode, unicode[1]));
    CHECK(h->text_hash == before->text_hash && (before == h || h->text_begin == before->text_end), belong,
          "'%s' does not continue the shard before it", shard->path);
}

static bool shard_exists(const char *folder, Split split, int index) {
    char *path = shard_path(folder, split, index);
    bool exists = file_exists(path);
    free(path);
    return exists;
}

static void warn_of_unicode(const ShardSet *set, const Tokenizer *tokenizer) {
    int here = unicode_version(), theirs = set->count ? set->shards[0].header->unicode : 0;
    char a[UNICODE_TEXT], b[UNICODE_TEXT];
    if (theirs && theirs != here && theirs != tokenizer_unicode(tokenizer) && platform_rank() <= 0)
        warn("'%s' was cut by Unicode %s, and PCRE2 here cuts by %s: characters that came in between become "
             "other tokens",
             set->shards[0].path, unicode_write(theirs, a), unicode_write(here, b));
}

ShardSet shard_set_open(const char *folder, Split split, const Tokenizer *tokenizer) {
    ShardSet set = {.first = xcalloc(1, sizeof *set.first)};
    while (!set.complete && shard_exists(folder, split, set.count)) {
        char *path = shard_path(folder, split, set.count);
        Shard shard = shard_open(path);
        free(path);
        check_member(&set, &shard, split, tokenizer);
        set.shards = xrealloc(set.shards, (size_t)(set.count + 1) * sizeof *set.shards);
        set.first = xrealloc(set.first, (size_t)(set.count + 2) * sizeof *set.first);
        set.shards[set.count++] = shard;
        set.token_count += shard.header->token_count; /* no overflow: as many bytes are mapped */
        set.document_count += shard.header->document_count;
        set.text_bytes += shard.header->text_bytes;
        set.first[set.count] = set.token_count;
        set.complete = shard.header->is_last;
    }
    warn_of_unicode(&set, tokenizer);
    return set;
}

void shard_set_close(ShardSet *set) {
    for (int i = 0; i < set->count; i++) shard_close(&set->shards[i]);
    free(set->shards);
    free(set->first);
    *set = (ShardSet){0};
}

static void shard_read(const Shard *shard, int64_t first, int64_t count, int32_t *tokens) {
    uint32_t largest = 0;
    if (shard->header->token_bytes == 2) {
        const uint16_t *from = (const uint16_t *)shard->tokens + first;
        for (int64_t i = 0; i < count; i++)
            tokens[i] = from[i], largest = from[i] > largest ? from[i] : largest;
    } else {
        const uint32_t *from = (const uint32_t *)shard->tokens + first;
        for (int64_t i = 0; i < count; i++)
            tokens[i] = (int32_t)from[i], largest = from[i] > largest ? from[i] : largest;
    }
    CHECK(largest < shard->header->vocab_size, "the file is damaged: make the data anew",
          "'%s': token %u among tokens %" PRId64 " to %" PRId64 ", the vocabulary has %u", shard->path,
          largest, first, first + count - 1, shard->header->vocab_size);
}

void shard_set_read(const ShardSet *set, int64_t first, int64_t count, int32_t *tokens) {
    ASSERT(first >= 0 && count >= 0 && first + count <= set->token_count);
    int low = 0, high = set->count; /* the shard that holds `first` */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (set->first[middle] <= first)
            low = middle;
        else
            high = middle;
    }
    for (int i = low; count > 0; i++) {
        int64_t part = min64(count, set->first[i + 1] - first);
        shard_read(&set->shards[i], first - set->first[i], part, tokens);
        first += part, tokens += part, count -= part;
    }
}

/* ---- writing ---- */

static void write_all(ShardWriter *w, const void *data, size_t bytes) {
    CHECK(fwrite(data, 1, bytes, w->file) == bytes, "make room on the disk and give the same command again",
          "cannot write '%s': %s", w->temporary, strerror(errno));
}

ShardWriter shard_create(const char *path, const ShardHeader *header) {
    ShardWriter w = {.path = xstrdup(path), .temporary = xprintf("%s.tmp", path), .header = *header};
    w.file = file_open(w.temporary, "wb");
    write_all(&w, &w.header, sizeof w.header); /* its place; the final one comes with shard_commit */
    return w;
}

void shard_append(ShardWriter *w, const int32_t *tokens, int64_t count) {
    if (w->header.token_bytes == 4) {
        write_all(w, tokens, (size_t)count * 4);
    } else {
        enum { BLOCK = 4096 };
        uint16_t narrow[BLOCK];
        for (int64_t done = 0; done < count; done += BLOCK) {
            int64_t n = min64(BLOCK, count - done);
            for (int64_t i = 0; i < n; i++) narrow[i] = (uint16_t)tokens[done + i];
            write_all(w, narrow, (size_t)n * 2);
        }
    }
    w->header.token_count += count;
}

void shard_commit(ShardWriter *w) {
    ShardHeader *h = &w->header;
    memcpy(h->magic, SHARD_MAGIC, sizeof h->magic);
    h->checksum = shard_header_checksum(h);
    rewind(w->file);
    write_all(w, h, sizeof *h);
    file_close(w->file, w->temporary);
    file_commit(w->temporary, w->path);
    free(w->path);
    free(w->temporary);
}
