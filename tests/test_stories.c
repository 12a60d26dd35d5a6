/* The stories: each parses back to the draws that made it, and to no others; draws come as often as they
 * should; length and words.
 * TEST variants: float, all: asan */
#include "datasets/stories.h"
#include "tests/tap.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { STORIES = 6000, MAX_OPTIONS = 64, MAX_SITES = 1024 };

/* ---- one text, one sequence of draws ---- */

/* In how many ways a walk can go on and say exactly `text`. */
static int count_parses(const StoryWalk *walk, const char *text, size_t bytes) {
    int parses = 0;
    StoryWalk here = *walk;
    Str said = {0};
    here.text = &said;
    int options = story_next(&here);
    if (said.count <= bytes && (!said.count || !memcmp(said.data, text, said.count))) {
        if (options == 0) parses = said.count == bytes;
        for (int option = 0; option < options; option++) {
            StoryWalk fork = here;
            story_take(&fork, option);
            parses += count_parses(&fork, text + said.count, bytes - said.count);
        }
    }
    str_free(&said);
    return parses;
}

static void test_parsing(void) {
    int unequal = 0, ambiguous = 0;
    for (uint64_t i = 0; i < STORIES; i++) {
        Str text = {0};
        double made = story_make(11, i, &text), parsed;
        unequal += !story_parse(text.data, text.count, &parsed) || fabs(made - parsed) > 1e-9;
        if (i < 200) {
            Str said = {0};
            StoryWalk walk = story_begin(&said);
            ambiguous += count_parses(&walk, text.data, text.count) != 1;
        }
        str_free(&text);
    }
    ok(unequal == 0, "%d of %d stories do not parse back to their probability", unequal, STORIES);
    ok(ambiguous == 0, "%d of 200 stories have not exactly one parse, all walks tried", ambiguous);
}

/* Where draws happen, told apart by the place in the template; how often each option was taken. */
typedef struct {
    const char *at;
    int options, taken[MAX_OPTIONS];
} Site;
static Site sites[MAX_SITES];
static int site_count;

static Site *find_site(const StoryWalk *walk, int options) {
    const char *at = walk->at[walk->depth - 1];
    int i = 0;
    while (i < site_count && (sites[i].at != at || sites[i].options != options)) i++;
    if (i == site_count) sites[site_count++] = (Site){.at = at, .options = options};
    return &sites[i];
}

/* A walk with draws known only from the text that they leave: no option's text up to the next draw
 * may begin another's. Then the text decides each draw as soon as it is made, for every story and not
 * only those seen. */
static int count_overlaps(const StoryWalk *walk, int options) {
    Str said[MAX_OPTIONS] = {0};
    int overlaps = 0;
    for (int i = 0; i < options; i++) story_option(walk, i, &said[i]);
    for (int i = 0; i < options; i++)
        for (int j = 0; j < options; j++)
            if (i != j && said[i].count <= said[j].count)
                overlaps += !said[i].count || !memcmp(said[i].data, said[j].data, said[i].count);
    for (int i = 0; i < options; i++) str_free(&said[i]);
    return overlaps;
}

/* Walks by the draws of made stories, found again by their text. */
static void test_draws(void) {
    int overlaps = 0, lost = 0, unequal = 0;
    for (uint64_t i = 0; i < STORIES; i++) {
        Str text = {0}, said = {0};
        double stated = story_make(12, i, &text), minus_log_p = 0;
        StoryWalk walk = story_begin(&said);
        for (int options; (options = story_next(&walk)) > 0;) {
            Site *site = find_site(&walk, options);
            if (i < 300) overlaps += count_overlaps(&walk, options);
            int option = 0;
            for (; option < options; option++) {
                Str head = {0};
                story_option(&walk, option, &head);
                bool found = !strncmp(head.data, text.data + said.count, head.count);
                str_free(&head);
                if (found) break;
            }
            if (option == options) {
                lost++;
                break;
            }
            site->taken[option]++;
            minus_log_p += log(options);
            story_take(&walk, option);
        }
        unequal += fabs(stated - minus_log_p) > 1e-9;
        str_free(&text);
        str_free(&said);
    }
    ok(overlaps == 0 && lost == 0, "at every draw each option's text is its own: %d overlaps, %d draws lost",
       overlaps, lost);
    ok(unequal == 0, "-ln p is the sum of ln(options): %d differ", unequal);

    double worst = 0; /* chi-square of each site as a normal deviate (Wilson and Hilferty 1931) */
    int never = 0;
    for (int s = 0; s < site_count; s++) {
        double total = 0, chi = 0, k = sites[s].options - 1;
        for (int i = 0; i < sites[s].options; i++) total += sites[s].taken[i];
        double expected = total / sites[s].options;
        for (int i = 0; i < sites[s].options; i++) {
            chi += pow(sites[s].taken[i] - expected, 2) / expected;
            never += sites[s].taken[i] == 0;
        }
        if (k > 0) worst = worse(worst, (cbrt(chi / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k)));
    }
    ok(site_count >= 60 && never == 0, "%d places of a draw; %d options never taken", site_count, never);
    ok(worst < 5, "options come equally often: the worst place deviates by %.1f sigma", worst);
}

/* ---- texts that are no stories ---- */

static bool parses(const char *text, size_t bytes) {
    double minus_log_p;
    return story_parse(text, bytes, &minus_log_p);
}

static void test_refusals(void) {
    int accepted = 0, tried = 0;
    for (uint64_t i = 0; i < 60; i++) {
        Str text = {0};
        story_make(13, i, &text);
        for (size_t cut = 0; cut < text.count; cut += 7, tried++) accepted += parses(text.data, cut);
        for (size_t at = 0; at < text.count; at += 13, tried++) {
            text.data[at] ^= 1;
            accepted += parses(text.data, text.count);
            text.data[at] ^= 1;
        }
        str_add(&text, " ", 1);
        accepted += parses(text.data, text.count);
        tried++;
        str_free(&text);
    }
    ok(accepted == 0, "%d of %d damaged stories accepted", accepted, tried);
    ok(!parses("", 0) && !parses("The", 3) && !parses("{hero}", 6), "no story: nothing, a word, a template");
}

/* ---- what stories are like ---- */

static int by_word(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void test_words(void) {
    Str all = {0};
    int64_t shortest = INT64_MAX, longest = 0;
    for (uint64_t i = 0; i < STORIES; i++) {
        size_t before = all.count;
        story_make(14, i, &all);
        int64_t words = 1;
        for (size_t at = before; at < all.count; at++) words += isspace((unsigned char)all.data[at]) != 0;
        shortest = min64(shortest, words), longest = max64(longest, words);
        str_add(&all, "\n", 1);
    }
    ok(shortest >= 60 && longest <= 180, "stories have %d to %d words", (int)shortest, (int)longest);
    char **words = xmalloc(all.count * sizeof *words);
    int64_t count = 0;
    for (char *p = all.data; *p; p++) {
        if (!isalpha((unsigned char)*p)) continue;
        words[count++] = p;
        while (isalpha((unsigned char)*p)) p++;
        *p = 0;
        if (p == all.data + all.count) break;
    }
    qsort(words, (size_t)count, sizeof *words, by_word);
    int64_t distinct = 0, rarest = INT64_MAX, run = 1;
    for (int64_t i = 1; i <= count; i++, run++) {
        if (i < count && !strcmp(words[i], words[i - 1])) continue;
        distinct++;
        rarest = min64(rarest, run);
        run = 0;
    }
    ok(distinct >= 400, "%d different words", (int)distinct);
    double per_million = 1e6 * (double)rarest / (double)count;
    ok(per_million > 80, "the rarest comes %.0f times in a million words", per_million);
    free(words);
    str_free(&all);
}

/* Who a story is about, drawn anew for each: "The tale of HERO, FRIEND, a ..." */
static void test_independence(void) {
    int same = 0, again = 0;
    char hero[16] = "", friend[16] = "", friend_before[16] = "";
    for (uint64_t i = 0; i < STORIES; i++) {
        Str text = {0};
        story_make(15, i, &text);
        if (sscanf(text.data, "%*s %*s of %15[^,], %15[^,],", hero, friend) != 2) same = STORIES;
        same += !strcmp(hero, friend);
        again += !strcmp(hero, friend_before);
        memcpy(friend_before, friend, sizeof friend);
        str_free(&text);
    }
    ok(same == 0, "hero and friend are two: %d times one", same);
    double share = (double)again / STORIES;
    ok(share > 0.03 && share < 0.07, "one in 20 stories is about the friend of the one before: %.3f", share);
}

static void test_determinism(void) {
    Str a = {0}, b = {0}, c = {0};
    double p = story_make(1, 77, &a), q = story_make(1, 77, &b);
    ok(p == q && !strcmp(a.data, b.data), "the same seed and index make the same story");
    story_make(1, 78, &c);
    ok(strcmp(a.data, c.data) != 0, "another index makes another");
    size_t first = a.count;
    story_make(1, 78, &a);
    ok(!strcmp(a.data + first, c.data), "a story is appended to what is there");
    c.count = 0;
    story_make(2, 77, &c);
    ok(strcmp(b.data, c.data) != 0, "another seed makes another");
    str_free(&a);
    str_free(&b);
    str_free(&c);
}

int main(void) {
    test_parsing();
    test_draws();
    test_refusals();
    test_words();
    test_independence();
    test_determinism();
    return tap_done();
}
