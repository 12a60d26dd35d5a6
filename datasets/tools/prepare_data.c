/* prepare_data: a text file to tokenizer.json and token shards, which --data-dir reads.
 *
 *   make data TEXT=file.txt VOCAB=4096 OUT=dir
 *   build/prepare_data --text file.txt --vocab-size 4096 --output-dir dir
 *
 * What is wanted is written down first (prepare.json), then the tokenizer, then shard after shard, each under
 * a temporary name until it is whole. So it may be killed at any time: given the same command again, it goes
 * on behind the last whole shard, and the bytes are the same, whatever the number of threads. The last
 * documents, about 5% of the text, are the validation split. Line breaks at both ends of a document are left out:
 * files have them around <|endoftext|> for the eye. */
#define _GNU_SOURCE
#include "common/base/size_text.h"
#include "common/config/args.h"
#include "common/run/progress.h"
#include "common/data/pretokenize.h"
#include "common/data/shards.h"
#include "datasets/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMAT "shard.c data 1"

enum {
    DEFAULT_VOCAB = 4096,
    LEAST_VOCAB = 257,       /* 256 bytes and END_OF_TEXT */
    CHUNK_BYTES = 1 << 18,   /* of text, encoded by one thread at a time */
    CHUNKS_PER_THREAD = 8,   /* encoded before their tokens are written */
    SAMPLE_BYTES = 50000000, /* of text, for training the tokenizer */
    SAMPLE_STRETCHES = 1000,
    LEAST_VALIDATION = 8192, /* bytes of text: some windows of tokens */
};

typedef struct {
    const char *text, *tokenizer, *output_dir;
    int64_t vocab_size, shard_tokens;
} Options;

static const Flag flags[] = {
    TEXT_FLAG(Options, 0, "text", text, 1, 4096, "FILE",
              "the text: UTF-8, " END_OF_TEXT
              " between documents; line breaks at both ends of a document are left out"),
    INT_FLAG(
        Options, 0, "vocab-size", vocab_size, LEAST_VOCAB, 1 << 20,
        "tokens of the tokenizer that is trained on the text; 4096 if neither this nor --tokenizer is given"),
    TEXT_FLAG(Options, 0, "tokenizer", tokenizer, 1, 4096, "PATH",
              "a tokenizer to use instead: tokenizer.json, or a folder with vocab.json and merges.txt (or "
              "OpenAI's names, "
              "encoder.json and vocab.bpe)"),
    TEXT_FLAG(Options, 0, "output-dir", output_dir, 1, 4096, "FOLDER", "where the data goes"),
    INT_FLAG(Options, 0, "shard-tokens", shard_tokens, 1, (int64_t)1 << 31,
             "tokens in a shard, roughly: it ends with the piece of text in which it reaches so many"),
};

typedef struct {
    Options options;
    Text text;
    int64_t validation; /* where in the text it begins */
    Tokenizer *tokenizer;
    int unicode; /* of the shards that were there at the start; 0: none, or they do not say */
    double started;
    int64_t done_before; /* bytes of text in shards that were there at the start */
} Job;

/* ---- what is wanted ---- */

static char *in_folder(const Job *job, const char *name) {
    return xprintf("%s/%s", job->options.output_dir, name);
}

static json_t *describe(const Job *job) {
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, job->text.hash);
    json_t *wanted =
        json_pack("{s:s, s:I, s:s, s:I}", "format", FORMAT, "text_bytes", (json_int_t)job->text.bytes,
                  "text_xxh3", hash, "shard_tokens", (json_int_t)job->options.shard_tokens);
    if (job->options.tokenizer) {
        snprintf(hash, sizeof hash, "%016" PRIx64, tokenizer_hash(job->tokenizer));
        json_object_set_new(wanted, "tokenizer", json_string(hash));
    } else {
        json_object_set_new(wanted, "vocab_size", json_integer(job->options.vocab_size));
    }
    ASSERT(wanted);
    return wanted;
}

/* Names the first thing in which the folder's data and the wishes differ. */
static void check_same(const json_t *wanted, const json_t *have, const char *path) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)wanted, key, value) {
        json_t *other = json_object_get(have, key);
        if (json_equal(value, other)) continue;
        char *now = json_dumps(value, JSON_ENCODE_ANY),
             *then = other ? json_dumps(other, JSON_ENCODE_ANY) : NULL;
        fail(1,
             "the folder holds data of another text or vocabulary: choose another OUT, or remove the folder",
             "'%s' says %s %s, wanted is %s", path, key, then ? then : "nothing", now);
    }
}

/* The first time: writes prepare.json. Later: checks that the same is wanted as then. */
static void note_what_is_wanted(const Job *job) {
    char *path = in_folder(job, "prepare.json"), *tokenizer = in_folder(job, "tokenizer.json");
    json_t *wanted = describe(job);
    if (file_exists(path)) {
        json_error_t error;
        json_t *have = json_load_file(path, 0, &error);
        CHECK(have, "choose another OUT, or remove the folder", "'%s' cannot be read: %s", path, error.text);
        check_same(wanted, have, path);
        json_decref(have);
    } else {
        CHECK(!file_exists(tokenizer), "choose another OUT",
              "'%s' holds a tokenizer.json, and no prepare.json: make data did not make it",
              job->options.output_dir);
        char *dump = json_dumps(wanted, JSON_INDENT(2));
        file_write(path, dump, strlen(dump));
        free(dump);
    }
    json_decref(wanted);
    free(path);
    free(tokenizer);
}

/* ---- the tokenizer ---- */

/* Stretches from all over the training text, END_OF_TEXT between them. */
static Str sample(const Text *text, int64_t end) {
    Str s = {0};
    int64_t at = 0;
    for (int64_t i = 0; i < SAMPLE_STRETCHES; i++) {
        int64_t from = end / SAMPLE_STRETCHES * i;
        at = from > at ? text_cut(text, at, from) : at;
        int64_t to = text_cut(text, at, min64(at + SAMPLE_BYTES / SAMPLE_STRETCHES, end));
        str_add(&s, text->data + at, (size_t)(to - at));
        str_add(&s, END_OF_TEXT, strlen(END_OF_TEXT));
        at = to;
    }
    return s;
}

static Tokenizer *train(const Job *job) {
    int64_t bytes = job->validation;
    double started = now_seconds();
    Str part = {0};
    if (bytes > SAMPLE_BYTES) part = sample(&job->text, bytes);
    const char *data = part.data ? part.data : job->text.data;
    size_t count = part.data ? part.count : (size_t)bytes;
    Tokenizer *tokenizer = tokenizer_train(data, count, (int)job->options.vocab_size);
    printf("  tokenizer  %d tokens, learned from %s in %.1f s\n", tokenizer_vocab_size(tokenizer),
           size_text((double)count).text, now_seconds() - started);
    if (tokenizer_vocab_size(tokenizer) < job->options.vocab_size)
        printf("             the text has no more pairs to merge: %d tokens instead of %" PRId64 "\n",
               tokenizer_vocab_size(tokenizer), job->options.vocab_size);
    str_free(&part);
    return tokenizer;
}

/* From the folder, if it is there already: it is the one that its shards were made with. */
static void make_tokenizer(Job *job) {
    char *path = in_folder(job, "tokenizer.json");
    if (!file_exists(path)) {
        if (!job->options.tokenizer) job->tokenizer = train(job);
        file_check_unchanged(job->text.file);
        tokenizer_save(job->tokenizer, path);
    }
    /* always as it will be read */
    tokenizer_free(job->tokenizer);
    job->tokenizer = tokenizer_load(path);
    free(path);
}

/* ---- shards ---- */

typedef struct {
    int64_t begin, end; /* of the text */
    int64_t documents, text_bytes;
    Tokens tokens;
} Chunk;

/* `end` is that of the split. The pieces from `at` on, until they are CHUNK_BYTES. */
static int64_t find_chunk_end(const Text *text, int64_t at, int64_t end) {
    int64_t begin = at;
    while (at < end && at - begin < CHUNK_BYTES) at = text_piece(text, at, end).next;
    return at;
}

static void encode_chunk(const Job *job, Chunk *chunk, int64_t end) {
    chunk->tokens.count = chunk->documents = chunk->text_bytes = 0;
    for (int64_t at = chunk->begin; at < chunk->end;) {
        TextPiece piece = text_piece(&job->text, at, end);
        size_t bytes = (size_t)(piece.end - piece.begin);
        at = piece.next;
        if (bytes == 0) continue;
        tokenizer_encode(job->tokenizer, job->text.data + piece.begin, bytes, &chunk->tokens);
        chunk->text_bytes += (int64_t)bytes;
        if (!piece.ends_document) continue;
        tokenizer_encode(job->tokenizer, END_OF_TEXT, strlen(END_OF_TEXT), &chunk->tokens);
        chunk->documents++;
    }
}

/* On a terminal a line that rewrites itself, in a pipe one for each shard. */
static void show_progress(const Job *job, int64_t at, const char *shard) {
    bool terminal = isatty(STDOUT_FILENO);
    if (terminal == (shard != NULL)) return;
    double seconds = now_seconds() - job->started, speed = (double)(at - job->done_before) / (seconds + 1e-9);
    double percent = 100.0 * (double)at / (double)job->text.bytes;
    char time_left[64];
    progress_duration((double)(job->text.bytes - at) / speed, time_left, sizeof time_left);
    if (terminal)
        printf("\r  tokens     %3.0f%%, %s/s, %s left\033[K%s", percent, size_text(speed).text, time_left,
               at == job->text.bytes ? "\n" : "");
    else
        printf("  %s, %3.0f%%, %s/s\n", shard, percent, size_text(speed).text);
    fflush(stdout);
}

static ShardWriter begin_shard(const Job *job, Split split, int index, int64_t text_begin) {
    int64_t vocab_size = tokenizer_vocab_size(job->tokenizer);
    ShardHeader header = {.version = SHARD_VERSION,
                          .token_bytes = (uint32_t)shard_token_bytes(vocab_size),
                          .split = (uint16_t)split,
                          .unicode = (uint16_t)unicode_version(),
                          .index = (uint32_t)index,
                          .vocab_size = (uint32_t)vocab_size,
                          .tokenizer_hash = tokenizer_hash(job->tokenizer),
                          .text_hash = job->text.hash,
                          .text_begin = text_begin};
    char *path = shard_path(job->options.output_dir, split, index);
    ShardWriter writer = shard_create(path, &header);
    free(path);
    return writer;
}

/* Adds a chunk to the open shard, or to a new one; a shard that is full or the last is committed. */
static void write_chunk(const Job *job, Split split, int64_t end, const Chunk *chunk, ShardWriter *writer,
                        int *index) {
    if (!writer->file) *writer = begin_shard(job, split, *index, chunk->begin);
    shard_append(writer, chunk->tokens.data, chunk->tokens.count);
    ShardHeader *header = &writer->header;
    header->document_count += chunk->documents;
    header->text_bytes += chunk->text_bytes;
    header->text_end = chunk->end;
    header->is_last = chunk->end == end;
    if (!header->is_last && header->token_count < job->options.shard_tokens) return;
    file_check_unchanged(job->text.file); /* what the tokens were made of was the text */
    shard_commit(writer);
    *writer = (ShardWriter){0};
    char *path = shard_path(job->options.output_dir, split, *index);
    show_progress(job, chunk->end, path);
    free(path);
    ++*index;
}

/* What is written now would not go with what is there already. */
static void check_unicode(const Job *job) {
    char theirs[UNICODE_TEXT], ours[UNICODE_TEXT];
    CHECK(!job->unicode || job->unicode == unicode_version(),
          "go on with the PCRE2 that it was begun with, or remove the folder and start anew",
          "the shards in '%s' were cut by Unicode %s, and PCRE2 here cuts by %s", job->options.output_dir,
          unicode_write(job->unicode, theirs), unicode_write(unicode_version(), ours));
}

/* The text from `begin` to `end`, from where the shards that are there leave off. */
static void write_split(Job *job, Split split, int64_t begin, int64_t end) {
    ShardSet there = shard_set_open(job->options.output_dir, split, job->tokenizer);
    int index = there.count;
    int64_t at = index ? there.shards[index - 1].header->text_end : begin;
    CHECK(at >= begin && at <= end && there.complete == (at == end), "remove the folder and start anew",
          "the %s shards in '%s' do not fit the text", split_name(split), job->options.output_dir);
    if (at > begin) printf("  %s: %d shards are there already\n", split_name(split), index);
    job->done_before += at - begin;
    if (index) job->unicode = there.shards[0].header->unicode;
    if (at < end) check_unicode(job);
    shard_set_close(&there);

    int chunks = CHUNKS_PER_THREAD * omp_get_max_threads();
    Chunk *chunk = xcalloc((size_t)chunks, sizeof *chunk);
    ShardWriter writer = {0};
    while (at < end) {
        int count = 0;
        for (; count < chunks && at < end; count++) {
            chunk[count].begin = at;
            chunk[count].end = at = find_chunk_end(&job->text, at, end);
        }
#pragma omp parallel for schedule(dynamic, 1)
        for (int i = 0; i < count; i++) encode_chunk(job, &chunk[i], end);
        for (int i = 0; i < count; i++) write_chunk(job, split, end, &chunk[i], &writer, &index);
        show_progress(job, at, NULL);
    }
    for (int i = 0; i < chunks; i++) free(chunk[i].tokens.data);
    free(chunk);
}

/* Returns the bytes of text that became tokens. */
static int64_t print_summary(const Job *job, Split split) {
    ShardSet set = shard_set_open(job->options.output_dir, split, job->tokenizer);
    printf("  %-10s %" PRId64 " documents, %" PRId64 " tokens, %.3f bytes per token, %d shard%s\n",
           split_name(split), set.document_count, set.token_count,
           (double)set.text_bytes / (double)set.token_count, set.count, set.count == 1 ? "" : "s");
    int64_t bytes = set.text_bytes;
    shard_set_close(&set);
    return bytes;
}

/* ---- the program ---- */

static Options read_options(int argc, char **argv) {
    Options options = {.shard_tokens = (int64_t)1 << 26};
    const Program program = {.about = "makes tokens for --data-dir out of a text file",
                             .example = "--text file.txt --vocab-size 4096 --output-dir data/file",
                             .own = flags,
                             .own_count = COUNT_OF(flags),
                             .values = &options};
    args_parse(argc, argv, &program);
    CHECK_USAGE(options.text, "make data TEXT=file.txt VOCAB=4096 OUT=dir", "--text is missing");
    CHECK_USAGE(options.output_dir, "make data TEXT=file.txt VOCAB=4096 OUT=dir", "--output-dir is missing");
    CHECK_USAGE(!options.tokenizer || !options.vocab_size, "a tokenizer that is given has its own vocabulary",
                "--tokenizer and --vocab-size (make data: TOKENIZER and VOCAB) exclude each other");
    if (!options.vocab_size) options.vocab_size = DEFAULT_VOCAB;
    return options;
}

static void split_text(Job *job) {
    int64_t bytes = job->text.bytes;
    job->validation = text_split_at(&job->text, max64(bytes / 20, min64(LEAST_VALIDATION, bytes / 4)));
    TextPiece first = text_piece(&job->text, 0, job->validation),
              last = text_piece(&job->text, job->validation, bytes);
    CHECK(first.end > first.begin && last.end > last.begin, "a few hundred kilobytes make a small data set",
          "'%s' has too little text for a training and a validation split: %" PRId64 " bytes",
          job->options.text, bytes);
}

int main(int argc, char **argv) {
    Job job = {.options = read_options(argc, argv)};
    job.text = text_open(job.options.text);
    split_text(&job);
    if (job.options.tokenizer) job.tokenizer = tokenizer_load(job.options.tokenizer);
    file_make_folder(job.options.output_dir);
    file_lock_folder(job.options.output_dir, "wait until it is done, or choose another OUT");
    note_what_is_wanted(&job);
    printf("%s: %s to %s\n", job.options.text, size_text((double)job.text.bytes).text,
           job.options.output_dir);
    fflush(stdout);
    make_tokenizer(&job);
    job.started = now_seconds();
    write_split(&job, SPLIT_TRAIN, 0, job.validation);
    write_split(&job, SPLIT_VALIDATION, job.validation, job.text.bytes);
    int64_t bytes = print_summary(&job, SPLIT_TRAIN);
    bytes += print_summary(&job, SPLIT_VALIDATION);
    int64_t file_bytes = (int64_t)job.text.file_bytes;
    printf("  left out   %" PRId64 " of %" PRId64
           " bytes: %sline breaks at both ends of documents, and " END_OF_TEXT "\n",
           file_bytes - bytes, file_bytes, file_bytes > job.text.bytes ? "the byte order mark, " : "");
    printf("now: make ch02 ARGS=\"--data-dir %s\"\n", job.options.output_dir);
    tokenizer_free(job.tokenizer);
    text_close(&job.text);
    return 0;
}
