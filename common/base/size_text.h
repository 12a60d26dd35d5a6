/* size_text: a number of bytes as people read it, with three digits and the unit that they fit: "0 B", "512 B", "20.5 KB",
 * "1.05 MB", "31.5 MB", "2.37 GB". A KB is 1000 bytes. */
#ifndef SIZE_TEXT_H
#define SIZE_TEXT_H

typedef struct {
    char text[16];
} SizeText;

/* For printf: size_text(bytes).text, which lives until the end of that statement. Not below 0. */
SizeText size_text(double bytes);

#endif
