/* What a CPU lacks of what a program was built with, from the words in which it says what it has. */
#include "common/base/cpu.h"
#include "tests/tap.h"

#include <stddef.h>
#include <string.h>

static char names[256];

static int missing(const CpuFeature *needs, const uint32_t words[CPU_WORDS]) {
    return cpu_missing(needs, words, names, sizeof names);
}

/* Each need of this build, taken out of what this CPU has: it alone is named. */
static void check_each(const uint32_t have[CPU_WORDS]) {
    int wrong = 0, count = 0;
    for (const CpuFeature *f = cpu_needs; f->name; f++, count++) {
        uint32_t words[CPU_WORDS];
        memcpy(words, have, sizeof words);
        words[f->word] &= ~(f->bits & ~(f->bits - 1)); /* the lowest of its bits */
        int found = missing(cpu_needs, words);
        /* AVX and AVX-512 share bits of XCR0 */
        wrong += found < 1 || found > 2 || !strstr(names, f->name);
    }
    ok(wrong == 0, "%d needs, one gone at a time: %d not named", count, wrong);
}

int main(void) {
    uint32_t have[CPU_WORDS], nothing[CPU_WORDS] = {0}, all[CPU_WORDS];
    memset(all, -1, sizeof all);
    cpu_words(have);
    ok(missing(cpu_needs, have) == 0 && !*names, "this CPU has what this program was built with: '%s'",
       names);
    ok(missing(cpu_needs, all) == 0, "one that has everything lacks nothing");
    check_each(have);

    static const CpuFeature eight[] = {
        {"one", 0, 1}, {"two", 0, 2},    {"three", 1, 1},           {"four", 1, 2}, {"five", 1, 4},
        {"six", 1, 8}, {"seven", 1, 16}, {"both", 1, 1 | 1u << 31}, {NULL, 0, 0}};
    ok(missing(eight, nothing) == 8 && strcmp(names, "one, two, three, four, five, six and 2 more") == 0,
       "eight: %s", names);
    uint32_t most[CPU_WORDS] = {3, 1 | 2 | 4 | 8 | 16};
    ok(missing(eight, most) == 1 && strcmp(names, "both") == 0, "one of its two bits is not enough: %s",
       names);
    uint32_t old[CPU_WORDS] = {1, 0x7FFFFFFF};
    ok(missing(eight, old) == 2 && strcmp(names, "two, both") == 0, "bits of the right word: %s", names);
    for (int bytes = 1; bytes < 60; bytes++) {
        char text[64];
        memset(text, '#', sizeof text);
        cpu_missing(eight, nothing, text, bytes);
        if (!memchr(text, 0, (size_t)bytes) || text[bytes] != '#') ok(false, "%d bytes for the names", bytes);
    }
    return tap_done();
}
