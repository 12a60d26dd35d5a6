/* text: a text file as documents. `<|endoftext|>` stands between them; it and the line ends around it belong
 * to no document, and a document without text is none. */
#ifndef TEXT_H
#define TEXT_H

#include "common/base/base.h"

typedef struct {
    const char *data; /* mapped; behind the byte order mark, if there is one */
    int64_t bytes;
    uint64_t hash; /* XXH3-64 of the bytes */
    const void *file;
    size_t file_bytes;
} Text;

/* Refuses a file that is empty or holds a zero byte (no text does), and warns where it is not UTF-8:
 * byte-level tokens can say any bytes, so a few bad ones do no harm. */
Text text_open(const char *path);
void text_close(Text *text);

/* Where the last documents begin that hold about `bytes` bytes; inside a document that is longer than that:
 * at a paragraph, a line, a word. */
int64_t text_split_at(const Text *text, int64_t bytes);

/* The longest stretch that is handled at once: a longer document is cut between words. */
#define TEXT_PIECE_BYTES (1 << 18)

/* A document, or a part of one. */
typedef struct {
    int64_t begin, end;
    bool ends_document;
    int64_t next; /* where the next piece begins; `end` of the text where there is none */
} TextPiece;

/* The piece at or behind `at`, before `end`. It is empty where there is none. */
TextPiece text_piece(const Text *text, int64_t at, int64_t end);

/* The last place in begin + 1 .. end where a cut separates no word; `end` where there is none. */
int64_t text_cut(const Text *text, int64_t begin, int64_t end);

#endif
