/* shards: token files. A folder that `make data` left holds tokenizer.json and, for each split,
 * train_0000.bin, train_0001.bin, ... and validation_0000.bin, ...: documents one behind the other, each
 * followed by END_OF_TEXT, cut into shards at arbitrary places.
 *
 * A shard is a ShardHeader of 96 bytes, then the tokens, without gaps; all little-endian. It is mapped into
 * memory. On opening everything in the header is checked, also against the file's size; that a token is below
 * the vocabulary is checked when it is read, so that a damaged shard never indexes out of an embedding. */
#ifndef SHARDS_H
#define SHARDS_H

#include "common/data/data.h"

#define SHARD_MAGIC   "shard.c\n"
#define SHARD_VERSION 2 /* 1, which has no Unicode version, is read too */

typedef struct {
    char magic[8];           /* SHARD_MAGIC, without the zero */
    uint32_t version;        /* SHARD_VERSION, or 1 */
    uint32_t token_bytes;    /* 2 or 4: tokens are uint16 or uint32 */
    uint16_t split;          /* 0 train, 1 validation */
    uint16_t unicode;        /* that cut the text, 1400 for 14.0: unicode_version; 0: not known */
    uint32_t index;          /* its number in the split, from 0 */
    uint32_t is_last;        /* 1: the split ends with this shard */
    uint32_t vocab_size;     /* every token is below this */
    uint64_t tokenizer_hash; /* of the tokenizer.json beside it */
    uint64_t text_hash;      /* of the text file it was made from: XXH3-64 */
    int64_t token_count;
    int64_t document_count;       /* documents that end in this shard */
    int64_t text_bytes;           /* of the documents, END_OF_TEXT not counted */
    int64_t text_begin, text_end; /* the stretch of the text file */
    uint64_t checksum;            /* XXH3-64 of the bytes before it */
} ShardHeader;
_Static_assert(sizeof(ShardHeader) == 96, "the header of a shard has no gaps");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "shards are read and written as they lie in memory");

/* "train" or "validation" */
const char *split_name(Split split);
/* folder/train_0000.bin; the caller frees it. */
char *shard_path(const char *folder, Split split, int index);
int shard_token_bytes(int64_t vocab_size);
uint64_t shard_header_checksum(const ShardHeader *header);

/* ---- reading ---- */

typedef struct {
    char *path;
    const ShardHeader *header; /* the mapped file */
    const void *tokens;
    size_t file_bytes;
} Shard;

/* A file that is not a whole, valid shard ends the program with its name and the reason. */
Shard shard_open(const char *path);
void shard_close(Shard *shard);

/* The shards of a split, one behind the other. */
typedef struct {
    Shard *shards;
    int64_t *first; /* shard i holds tokens first[i] .. first[i + 1] - 1 of the split */
    int count;
    bool complete; /* the last one is there */
    int64_t token_count, document_count, text_bytes;
} ShardSet;

/* Also checks that the shards belong together and to the tokenizer. Where the last one is not there,
 * `complete` is false. A warning says when the text was cut by another version of Unicode than the one in use, where the
 * tokenizer's file has not said the same. */
ShardSet shard_set_open(const char *folder, Split split, const Tokenizer *tokenizer);
void shard_set_close(ShardSet *set);

/* Tokens first .. first + count - 1 of the split. Thread-safe. */
void shard_set_read(const ShardSet *set, int64_t first, int64_t count, int32_t *tokens);

/* ---- writing: under a temporary name until it is committed ---- */

typedef struct {
    char *path, *temporary;
    FILE *file;
    ShardHeader header; /* token_count and text_end grow; the caller keeps document_count and text_bytes */
} ShardWriter;

/* `header` says version, split, index and so on; shard_commit fills in what follows from the rest. */
ShardWriter shard_create(const char *path, const ShardHeader *header);
void shard_append(ShardWriter *writer, const int32_t *tokens, int64_t count);
void shard_commit(ShardWriter *writer);

#endif
