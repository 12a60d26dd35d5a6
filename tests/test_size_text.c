/* A number of bytes in print: three digits, at every size and at the borders of the units. */
#include "common/base/size_text.h"
#include "tests/tap.h"

#include <string.h>

int main(void) {
    static const struct {
        double bytes;
        const char *text;
    } cases[] = {{0, "0 B"},          {1, "1 B"},           {999, "999 B"},        {1000, "1.00 KB"},
                 {1024, "1.02 KB"},   {9994, "9.99 KB"},    {9995, "10.0 KB"},     {9996, "10.0 KB"},
                 {20480, "20.5 KB"},  {99960, "100 KB"},    {204800, "205 KB"},    {999499, "999 KB"},
                 {999500, "1.00 MB"}, {1 << 20, "1.05 MB"}, {64 << 20, "67.1 MB"}, {2.374e9, "2.37 GB"},
                 {1.5e12, "1.50 TB"}, {2e15, "2.00 PB"},    {0x1p62, "4612 PB"}};
    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
        SizeText got = size_text(cases[i].bytes);
        ok(!strcmp(got.text, cases[i].text), "%.0f bytes: %s, expected %s", cases[i].bytes, got.text,
           cases[i].text);
    }
    return tap_done();
}
