#define _GNU_SOURCE /* memmem */
#include "datasets/text.h"

#include "common/data/tokenizer.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

/* ---- opening ---- */

/* The length of the well-formed UTF-8 character at p, or 0 (The Unicode Standard, table 3-7). */
static int utf8_length(const unsigned char *p, int64_t bytes) {
    if (p[0] < 0x80) return 1;
    int length = p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : p[0] < 0xF5 ? 4 : 0;
    if (length == 0 || length > bytes) return 0;
    for (int i = 1; i < length; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    bool out_of_range = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) || /* surrogates */
                        (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F);
    return out_of_range ? 0 : length;
}

static void warn_of_invalid(const Text *text, const char *path) {
    const unsigned char *p = (const unsigned char *)text->data;
    int64_t invalid = 0, first = 0;
    for (int64_t i = 0; i < text->bytes;) {
        uint64_t eight;
        if (i + 8 <= text->bytes && (memcpy(&eight, p + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        int length = utf8_length(p + i, text->bytes - i);
        if (length == 0 && invalid++ == 0) first = i;
        i += length ? length : 1;
    }
    if (invalid)
        warn("'%s' is not UTF-8 at %" PRId64 " of %" PRId64 " bytes, first at byte %" PRId64
             " (0x%02x); they are kept as they are; iconv -f latin1 -t utf-8 converts, if it is Latin-1",
             path, invalid, text->bytes, first, p[first]);
}

Text text_open(const char *path) {
    Text text = {0};
    text.file = file_map(path, &text.file_bytes);
    CHECK(text.file_bytes > 0, "name a text file", "'%s' is empty", path);
    const char *data = text.file, *zero = memchr(data, 0, text.file_bytes);
    CHECK(!zero, "convert it to UTF-8 text first, with iconv if it is UTF-16",
          "'%s' is not text: byte %td is zero", path, zero - data);
    bool marked = text.file_bytes >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0;
    text.data = data + (marked ? 3 : 0);
    text.bytes = (int64_t)text.file_bytes - (marked ? 3 : 0);
    text.hash = XXH3_64bits(text.data, (size_t)text.bytes);
    warn_of_invalid(&text, path);
    return text;
}

void text_close(Text *text) { file_unmap(text->file, text->file_bytes); }

/* ---- documents ---- */

enum { SEPARATOR_BYTES = sizeof END_OF_TEXT - 1 };

static bool line_end(char c) { return c == '\n' || c == '\r'; }

static bool separator_at(const Text *text, int64_t at, int64_t end) {
    return end - at >= SEPARATOR_BYTES && memcmp(text->data + at, END_OF_TEXT, SEPARATOR_BYTES) == 0;
}

/* The first separator that begins in from .. to - 1, or -1. */
static int64_t find_separator(const Text *text, int64_t from, int64_t to) {
    to = min64(to + SEPARATOR_BYTES - 1, text->bytes);
    const char *found =
        from < to ? memmem(text->data + from, (size_t)(to - from), END_OF_TEXT, SEPARATOR_BYTES) : NULL;
    return found ? found - text->data : -1;
}

/* Over what belongs to no document. */
static int64_t skip(const Text *text, int64_t at, int64_t end) {
    for (;;) {
        if (at < end && line_end(text->data[at]))
            at++;
        else if (separator_at(text, at, end))
            at += SEPARATOR_BYTES;
        else
            return at;
    }
}

/* No piece of GPT-2's splitting rule goes across such a place, and none looks across it: a blank behind
 * something visible, or a visible character behind a line end behind something visible. (All seen as ASCII:
 * where other white space stands beside it, the text is the same and one token may be another.) So the tokens
 * are those of the whole document. */
static bool between_words(const char *c) {
    return (c[0] == ' ' && (unsigned char)c[-1] > ' ') ||
           ((unsigned char)c[0] > ' ' && c[-1] == '\n' && (unsigned char)c[-2] > ' ');
}

int64_t text_cut(const Text *text, int64_t begin, int64_t end) {
    if (end >= text->bytes) return text->bytes;
    for (int64_t i = end; i >= begin + 2; i--)
        if (between_words(text->data + i)) return i;
    /* no words: between characters, and not before what `skip` would take away */
    for (int64_t i = end; i > begin; i--)
        if (((unsigned char)text->data[i] & 0xC0) != 0x80 && !line_end(text->data[i])) return i;
    return end;
}

TextPiece text_piece(const Text *text, int64_t at, int64_t end) {
    TextPiece piece = {.begin = skip(text, at, end)};
    int64_t reach = min64(end, piece.begin + TEXT_PIECE_BYTES);
    int64_t separator = find_separator(text, piece.begin, reach);
    if (separator >= 0 && separator < end) {
        piece.end = separator;
        piece.ends_document = true;
    } else if (reach == end) {
        piece.end = end;
        piece.ends_document = true;
    } else {
        piece.end = text_cut(text, piece.begin, reach);
    }
    piece.next = skip(text, piece.end, end);
    /* a cut where something is skipped: the document ends there, or line ends fill a whole piece
     * and end it */
    piece.ends_document |= piece.next != piece.end;
    while (piece.ends_document && piece.end > piece.begin && line_end(text->data[piece.end - 1])) piece.end--;
    return piece;
}

int64_t text_split_at(const Text *text, int64_t bytes) {
    int64_t from = max64(0, text->bytes - bytes), to = min64(text->bytes, from + bytes / 2);
    int64_t separator = find_separator(text, from, to);
    if (separator >= 0) return separator + SEPARATOR_BYTES;
    const char *data = text->data, *paragraph = memmem(data + from, (size_t)(to - from), "\n\n", 2),
               *line = memchr(data + from, '\n', (size_t)(to - from));
    if (paragraph) return paragraph + 2 - data;
    if (line) return line + 1 - data;
    return text_cut(text, max64(0, from - bytes / 2), from);
}
