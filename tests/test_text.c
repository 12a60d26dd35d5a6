/* TEST variants: float asan
 * A text as documents and pieces: what belongs to a document, where the validation split begins, and that the
 * tokens of the pieces are those of the document. */
#include "datasets/text.h"

#include "common/data/tokenizer.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

static char *path;

static Text open_text(const char *data, size_t bytes) {
    FILE *f = file_open(path, "wb");
    fwrite(data, 1, bytes, f);
    file_close(f, path);
    return text_open(path);
}

/* ---- documents ---- */

/* Its documents, each in brackets. */
static void test_documents(const char *what, const char *data, const char *expected) {
    Text text = open_text(data, strlen(data));
    Str s = {0};
    str_add(&s, "", 0);
    for (int64_t at = 0; at < text.bytes;) {
        TextPiece piece = text_piece(&text, at, text.bytes);
        if (piece.end > piece.begin)
            str_printf(&s, "[%.*s]", (int)(piece.end - piece.begin), text.data + piece.begin);
        at = piece.next;
    }
    ok(strcmp(s.data, expected) == 0, "%s", what);
    if (strcmp(s.data, expected) != 0) printf("# got %s\n", s.data);
    str_free(&s);
    text_close(&text);
}

static void test_all_documents(void) {
    test_documents("one document", "a bear", "[a bear]");
    test_documents("two documents", "a\n<|endoftext|>\nb\n", "[a][b]");
    test_documents("line ends inside stay", "a\n\nb\r\nc\n<|endoftext|>d", "[a\n\nb\r\nc][d]");
    test_documents("blanks stay", " a <|endoftext|> b ", "[ a ][ b ]");
    test_documents("empty documents are none", "<|endoftext|>\n\n<|endoftext|>a<|endoftext|><|endoftext|>\n",
                   "[a]");
    test_documents("nothing but separators", "\n<|endoftext|>\n", "");
    test_documents("half a separator is text", "a<|endoftext|b<|endoftext", "[a<|endoftext|b<|endoftext]");
    test_documents("a byte order mark",
                   "\xEF\xBB\xBF"
                   "a<|endoftext|>b",
                   "[a][b]");
}

/* ---- the validation split ---- */

static void test_split_at(const char *what, const char *unit, int units, const char *begins) {
    Str s = {0};
    for (int i = 0; i < units; i++) str_printf(&s, unit, i);
    Text text = open_text(s.data, s.count);
    int64_t part = (int64_t)s.count / 10, at = text_split_at(&text, part);
    ok(text.bytes - at <= part * 3 / 2 && text.bytes - at >= part / 2 &&
           !strncmp(text.data + at, begins, strlen(begins)),
       "split %s: the last %lld of %lld bytes", what, (long long)(text.bytes - at), (long long)text.bytes);
    text_close(&text);
    str_free(&s);
}

/* ---- pieces ---- */

/* The documents of a text in pieces, as make data sees them; `whole`: as they are. */
static void test_tokens(const Tokenizer *tokenizer, const char *what, const Str *s, bool same_tokens) {
    Text text = open_text(s->data, s->count);
    Tokens pieces = {0}, whole = {0};
    Str document = {0}, decoded = {0};
    int64_t longest = 0, count = 0;
    bool cut = false;
    for (int64_t at = 0; at < text.bytes;) {
        TextPiece piece = text_piece(&text, at, text.bytes);
        size_t bytes = (size_t)(piece.end - piece.begin);
        tokenizer_encode(tokenizer, text.data + piece.begin, bytes, &pieces);
        str_add(&document, text.data + piece.begin, bytes);
        longest = max64(longest, (int64_t)bytes), count++;
        cut |= !piece.ends_document && ((unsigned char)text.data[piece.end] & 0xC0) == 0x80;
        at = piece.next;
    }
    ok(document.count == s->count && memcmp(document.data, s->data, s->count) == 0 &&
           longest <= TEXT_PIECE_BYTES && count > 2 && !cut,
       "%s: %lld pieces are the text, none is cut inside a character", what, (long long)count);
    tokenizer_encode(tokenizer, s->data, s->count, &whole);
    bool same = whole.count > 0 && whole.count == pieces.count &&
                !memcmp(whole.data, pieces.data, (size_t)whole.count * sizeof *whole.data);
    tokenizer_decode(tokenizer, pieces.data, pieces.count, &decoded);
    ok(same_tokens ? same : decoded.count == s->count && !memcmp(decoded.data, s->data, s->count),
       same_tokens ? "%s: the tokens are those of the whole" : "%s: the tokens spell the text", what);
    free(pieces.data);
    free(whole.data);
    str_free(&document);
    str_free(&decoded);
    text_close(&text);
}

static void test_all_tokens(void) {
    Str english = {0}, lines = {0}, letters = {0}, hearts = {0};
    for (int i = 0; english.count < 900000; i++)
        str_printf(&english, "%s bear%s,%s it's %d o'clock.%s", i % 7 ? "the" : "The  big", i % 3 ? "" : "s",
                   i % 5 ? "" : "\n", i,
                   i % 11  ? " "
                   : i % 2 ? "\n\n"
                           : "   \n");
    while (english.data[english.count - 1] != '.') english.count--;
    for (int i = 0; lines.count < 700000; i++) str_printf(&lines, "熊在%d睡觉\n", i);
    lines.count--;
    for (int i = 0; letters.count < 600000; i++) str_printf(&letters, "a");
    for (int i = 0; hearts.count < 600000; i++) str_printf(&hearts, "\u2665\U0001F43B");
    Tokenizer *tokenizer = tokenizer_train(english.data, 100000, 600);
    test_tokens(tokenizer, "English", &english, true);
    test_tokens(tokenizer, "lines without blanks", &lines, true);
    test_tokens(tokenizer, "one letter", &letters, false);
    test_tokens(tokenizer, "no blanks, four bytes a character", &hearts, false);
    tokenizer_free(tokenizer);
    str_free(&english);
    str_free(&lines);
    str_free(&letters);
    str_free(&hearts);
}

/* A quarter of a million line ends in a row: nothing is lost but they, and the documents keep their ends. */
static void test_line_ends(void) {
    Str s = {0};
    str_add(&s, "one", 3);
    for (int i = 0; i < 2 * TEXT_PIECE_BYTES; i++) str_add(&s, "\n", 1);
    str_printf(&s, "<|endoftext|>two");
    Text text = open_text(s.data, s.count);
    Str seen = {0};
    for (int64_t at = 0; at < text.bytes;) {
        TextPiece piece = text_piece(&text, at, text.bytes);
        for (int64_t i = piece.begin; i < piece.end; i++)
            if (text.data[i] != '\n') str_add(&seen, text.data + i, 1);
        if (piece.ends_document) str_add(&seen, "|", 1);
        at = piece.next;
    }
    ok(strcmp(seen.data, "one|two|") == 0, "half a million line ends: %s", seen.data);
    str_free(&seen);
    str_free(&s);
    text_close(&text);
}

/* Documents about as long as a piece: each ends once, and nothing else is lost than the line end. */
static void test_borders(const char *last) {
    bool good = true;
    for (int more = -3; more <= 3; more++) {
        Str s = {0};
        while (s.count < (size_t)(TEXT_PIECE_BYTES + more) - strlen(last))
            str_add(&s, &"a b"[s.count % 3], 1);
        int64_t bytes = 0, expected = (int64_t)s.count + (last[0] != '\n') + 3;
        str_printf(&s, "%s<|endoftext|>two", last);
        Text text = open_text(s.data, s.count);
        int ends = 0;
        for (int64_t at = 0; at < text.bytes;) {
            TextPiece piece = text_piece(&text, at, text.bytes);
            bytes += piece.end - piece.begin;
            ends += piece.ends_document;
            at = piece.next;
        }
        good &= ends == 2 && bytes == expected;
        text_close(&text);
        str_free(&s);
    }
    ok(good, "documents about as long as a piece that end with %s", last[0] == 'x' ? "a letter" : "a line");
}

int main(void) {
    char *folder = file_temp_folder("shard-test");
    path = xprintf("%s/text.txt", folder);
    test_all_documents();
    test_split_at("at a document", "story %d\n\nends\n<|endoftext|>\n", 1000, "\nstory");
    test_split_at("at a paragraph", "line %d\nends here\n\n", 1000, "line");
    test_split_at("at a line", "line %d ends here\n", 1000, "line");
    test_split_at("at a word", "word%d ", 3000, " word");
    test_split_at("anywhere", "x", 3000, "x");
    test_all_tokens();
    test_line_ends();
    test_borders("x");
    test_borders("\n");
    file_remove(folder);
    free(folder);
    free(path);
    return tap_done();
}
