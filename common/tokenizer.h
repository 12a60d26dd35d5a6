/* tokenizer: byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2), trained here or loaded.
 *
 * Every byte string has an encoding and decoding it gives the same bytes back. Text is first cut into pieces
 * by GPT-2's rule (through PCRE2, with Unicode classes); merges happen inside a piece. `<|endoftext|>`
 * separates documents and is never the result of merging. Tokens are int32_t ids 0 .. vocab_size - 1. */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "common/base.h"

typedef struct Tokenizer Tokenizer;

/* Tokens that grow; free(tokens.data) when done. */
typedef struct {
    int32_t *data;
    int64_t count, capacity;
} Tokens;

#define END_OF_TEXT "<|endoftext|>"

/* Learns vocab_size - 257 merges (fewer where the text has no more pairs) from `text`, in parallel; ids: 256
 * bytes in GPT-2's order, merges in the order learned, last END_OF_TEXT. Deterministic, whatever the threads.
 */
Tokenizer *tokenizer_train(const char *text, size_t bytes, int vocab_size);
/* A tokenizer.json (byte-level BPE), or a folder that holds tokenizer.json, or vocab.json + merges.txt.
 * Anything else, damaged or not byte-level BPE, ends the program with a message that names file and place. */
Tokenizer *tokenizer_load(const char *path);
/* Writes a tokenizer.json that other BPE libraries read too. */
void tokenizer_save(const Tokenizer *tokenizer, const char *path);
void tokenizer_free(Tokenizer *tokenizer);

int tokenizer_vocab_size(const Tokenizer *tokenizer);
int32_t tokenizer_end_of_text(const Tokenizer *tokenizer);
/* Equal for tokenizers that encode alike: over the vocabulary and the merges. */
uint64_t tokenizer_hash(const Tokenizer *tokenizer);

/* Appends the tokens of `text`; END_OF_TEXT inside it becomes that one token. Thread-safe. */
void tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t bytes, Tokens *out);
/* Appends the bytes of `count` tokens; END_OF_TEXT as its text. An id outside the vocabulary is an error. */
void tokenizer_decode(const Tokenizer *tokenizer, const int32_t *tokens, int64_t count, Str *out);

#endif
