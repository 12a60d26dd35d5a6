/* pretokenize: cuts text into the pieces inside which merges happen, by GPT-2's rule (Radford et al. 2019,
 * encoder.py):
 *
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * A word, a number or a run of signs takes one space in front of it; other white space stays by itself. The
 * Unicode classes are PCRE2's; \s is Unicode's White_Space. A byte that is no part of valid UTF-8 is a piece
 * of its own, and the text on either side of it is cut as if it stood alone. */
#ifndef PRETOKENIZE_H
#define PRETOKENIZE_H

#include "common/base/base.h"

/* Which characters are letters, numbers and white space is said by a version of Unicode, and each PCRE2 has one:
 * 100 * major + minor, so that 1400 is Unicode 14.0. By an older one, the characters that came later are signs. */
int unicode_version(void);
/* "14.0" in `text`. */
enum { UNICODE_TEXT = 16 };
const char *unicode_write(int version, char text[UNICODE_TEXT]);

/* Walks over one text; not shared between threads. */
typedef struct Splitter Splitter;

Splitter *splitter_new(void);
void splitter_free(Splitter *splitter);

/* Begins with a text, which must stay where it is until the last piece. */
void splitter_start(Splitter *splitter, const char *text, size_t bytes);
/* The next piece: its place in the text and its length, at least 1. False at the end. */
bool splitter_next(Splitter *splitter, const char **piece, size_t *bytes);
/* The same, by the regular expression alone: what the fast path of splitter_next is tested against. */
bool splitter_next_by_pattern(Splitter *splitter, const char **piece, size_t *bytes);

#endif
