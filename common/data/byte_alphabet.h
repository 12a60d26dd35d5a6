/* byte_alphabet: how tokenizer files write bytes. GPT-2 (Radford et al. 2019, encoder.py) gives each byte a
 * character that can be seen: a printable Latin-1 character stands for itself, and the 68 others become the
 * characters from U+0100 on, in order; so a space is written as U+0120 and a line feed as U+010A. */
#ifndef BYTE_ALPHABET_H
#define BYTE_ALPHABET_H

#include "common/base/base.h"

/* Appends the characters that stand for `count` bytes, in UTF-8. */
void byte_alphabet_write(const char *bytes, size_t count, Str *out);
/* Appends the bytes that the characters of `text` stand for; false at the first that stands for none. */
bool byte_alphabet_read(const char *text, size_t count, Str *out);
/* The place 0 .. 255 of a byte when all are ordered by their characters: the ids that GPT-2 gives them. */
int byte_alphabet_order(int byte);

#endif
