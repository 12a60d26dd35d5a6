#define PCRE2_CODE_UNIT_WIDTH 8
#include "common/data/pretokenize.h"

#include <pcre2.h>
#include <stdlib.h>

/* PCRE2's own \s has U+180E in it, which Unicode took out of White_Space in 2013. */
#define WHITE "\\t-\\r\\x{85}\\p{Z}"
#define GPT2_RULE                                                                                            \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WHITE "\\p{L}\\p{N}]+|[" WHITE "]+(?![^" WHITE        \
    "])|[" WHITE "]+"

int unicode_version(void) {
    char text[64];
    int major = 0, minor = 0;
    bool known = pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL) <= (int)sizeof text &&
                 pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, text) > 0 &&
                 sscanf(text, "%d.%d", &major, &minor) == 2;
    CHECK(known, "build PCRE2 with Unicode support", "PCRE2 does not say which Unicode it has");
    return 100 * major + minor;
}

const char *unicode_write(int version, char text[UNICODE_TEXT]) {
    snprintf(text, UNICODE_TEXT, "%d.%d", version / 100, version % 100);
    return text;
}

struct Splitter {
    pcre2_code *code;
    pcre2_match_data *match;
    const char *at, *end;
    const char *valid_end; /* the text from `at` to here is known to be UTF-8 */
};

Splitter *splitter_new(void) {
    Splitter *s = xcalloc(1, sizeof *s);
    int error;
    size_t where;
    s->code = pcre2_compile((PCRE2_SPTR)GPT2_RULE, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_ANCHORED, &error,
                            &where, NULL);
    CHECK(s->code, "build PCRE2 with Unicode support", "PCRE2 refuses GPT-2's rule: error %d at %zu", error,
          where);
    pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* where there is no JIT, pcre2_match interprets */
    s->match = pcre2_match_data_create(1, NULL);
    CHECK(s->match, NULL, "no memory for a match of PCRE2");
    return s;
}

void splitter_free(Splitter *s) {
    if (!s) return;
    pcre2_match_data_free(s->match);
    pcre2_code_free(s->code);
    free(s);
}

void splitter_start(Splitter *s, const char *text, size_t bytes) {
    s->at = s->valid_end = text;
    s->end = text + bytes;
}

static bool take(Splitter *s, size_t length, const char **piece, size_t *bytes) {
    *piece = s->at;
    *bytes = length;
    s->at += length;
    return true;
}

bool splitter_next_by_pattern(Splitter *s, const char **piece, size_t *bytes) {
    if (s->at == s->end) return false;
    PCRE2_SPTR at = (PCRE2_SPTR)s->at;
    int found;
    if (s->at >= s->valid_end) { /* checks the text on the way, up to its end or its first fault */
        s->valid_end = s->end;
        found = pcre2_match(s->code, at, (size_t)(s->end - s->at), 0, 0, s->match, NULL);
        if (found <= PCRE2_ERROR_UTF8_ERR1 && found >= PCRE2_ERROR_UTF8_ERR21) {
            s->valid_end = s->at + pcre2_get_startchar(s->match);
            if (s->valid_end == s->at) return take(s, 1, piece, bytes);
            found = pcre2_match(s->code, at, (size_t)(s->valid_end - s->at), 0, PCRE2_NO_UTF_CHECK, s->match,
                                NULL);
        }
    } else {
        found =
            pcre2_match(s->code, at, (size_t)(s->valid_end - s->at), 0, PCRE2_NO_UTF_CHECK, s->match, NULL);
    }
    CHECK(found > 0, NULL, "PCRE2 cannot cut the text: error %d", found);
    return take(s, pcre2_get_ovector_pointer(s->match)[1], piece, bytes);
}

/* ---- the same rule by hand, where a piece and the byte behind it are ASCII ---- */

enum { OTHER, LETTER, DIGIT, SPACE, WIDE };

static const unsigned char class_of[256] = {
    ['a' ... 'z'] = LETTER,  ['A' ... 'Z'] = LETTER, ['0' ... '9'] = DIGIT,
    ['\t' ... '\r'] = SPACE, [' '] = SPACE,          [0x80 ... 0xFF] = WIDE,
};

/* The length of a contraction without its apostrophe: s t m d re ve ll. 0: none. */
static size_t contraction(const unsigned char *p, size_t bytes) {
    if (bytes >= 1 && (p[0] == 's' || p[0] == 't' || p[0] == 'm' || p[0] == 'd')) return 1;
    if (bytes < 2) return 0;
    return ((p[0] == 'r' || p[0] == 'v') && p[1] == 'e') || (p[0] == 'l' && p[1] == 'l') ? 2 : 0;
}

/* The length of the piece at p; 0 where it takes more than ASCII to tell. */
static size_t ascii_piece(const unsigned char *p, size_t bytes) {
    if (p[0] == '\'') {
        size_t length = contraction(p + 1, bytes - 1);
        if (length) return 1 + length;
    }
    size_t first = p[0] == ' ' && bytes > 1;
    unsigned char class = class_of[p[first]];
    if (class == WIDE) return 0;
    size_t end = first + 1;
    while (end < bytes && class_of[p[end]] == class) end++;
    if (end < bytes && class_of[p[end]] == WIDE) return 0;
    /* white space leaves its last character to what follows, if that leaves something */
    return class == SPACE && end < bytes && end > 1 ? end - 1 : end;
}

bool splitter_next(Splitter *s, const char **piece, size_t *bytes) {
    if (s->at == s->end) return false;
    size_t length = ascii_piece((const unsigned char *)s->at, (size_t)(s->end - s->at));
    return length ? take(s, length, piece, bytes) : splitter_next_by_pattern(s, piece, bytes);
}
