/* tokenizer: byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2), trained here or loaded.
 *
 * Every byte string has an encoding and decoding it gives the same bytes back. Text is first cut into pieces
 * by GPT-2's rule (through PCRE2, with Unicode classes); merges happen inside a piece. `<|endoftext|>`
 * separates documents and is never the result of merging. Tokens are int32_t ids 0 .. vocab_size - 1.
 *
 * A byte that is no part of valid UTF-8 is a piece of its own, so it gets its own byte's token. Which
 * characters are letters, numbers or white space is what the PCRE2 in use knows: characters newer than its
 * Unicode version count as signs. */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "common/base/base.h"

typedef struct Tokenizer Tokenizer;

/* Tokens that grow; free(tokens.data) when done. */
typedef struct {
    int32_t *data;
    int64_t count, capacity;
} Tokens;

#define END_OF_TEXT "<|endoftext|>"

/* Learns merges from `text`, in parallel, until there are vocab_size tokens or no more pairs. Ids: 256 bytes
 * in GPT-2's order, what merges make in the order learned, last END_OF_TEXT. Each merge is of the pair that
 * occurs most often; of equals, the one with the smaller left id, then right id. So the result is the same
 * with any number of threads, and Hugging Face's trainer learns the same merges. */
Tokenizer *tokenizer_train(const char *text, size_t bytes, int vocab_size);
/* A tokenizer.json (byte-level BPE), or a folder that holds tokenizer.json, or vocab.json + merges.txt, or the same two
 * under OpenAI's names, encoder.json + vocab.bpe. It must have all 256 bytes and END_OF_TEXT. Anything else, damaged or
 * of a kind that would encode differently, ends the program with a message that names file and place. Tokens that no
 * merge makes, a sign of a list cut short, are counted in a warning; another one says when the tokenizer was trained by
 * another version of Unicode than the one in use. */
Tokenizer *tokenizer_load(const char *path);
/* Writes a tokenizer.json, which Hugging Face's library reads and then encodes alike. Its pre_tokenizer has a member
 * "unicode" more, "14.0" say, which the library leaves aside. */
void tokenizer_save(const Tokenizer *tokenizer, const char *path);
void tokenizer_free(Tokenizer *tokenizer);

int tokenizer_vocab_size(const Tokenizer *tokenizer);
int32_t tokenizer_end_of_text(const Tokenizer *tokenizer);
/* Equal for tokenizers that encode alike: over vocabulary, merges and added tokens. */
uint64_t tokenizer_hash(const Tokenizer *tokenizer);
/* The version of Unicode that cut the text it was trained on (common/data/pretokenize.h); 0 where the file does not say. */
int tokenizer_unicode(const Tokenizer *tokenizer);

/* Appends the tokens of `text`; END_OF_TEXT inside it becomes that one token, as do the other added
 * tokens of a loaded file. Thread-safe; what a thread keeps for the next call is bounded. */
void tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t bytes, Tokens *out);
/* Appends the bytes of `count` tokens; END_OF_TEXT as its text. An id outside the vocabulary is an error. */
void tokenizer_decode(const Tokenizer *tokenizer, const int32_t *tokens, int64_t count, Str *out);

#endif
