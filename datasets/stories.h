/* stories: short children's stories by number, each with its exact probability.
 *
 * A story is a walk through a template:
 *   [a|b|c]        a choice, each alternative equally likely; alternatives may hold choices of their own
 *   {role}         the first time: draws a row of the role's table, each free row equally likely;
 *                  from then on: says the same row again, however far back it was drawn
 *   {role.column}  another word of that row: {hero.his}, {animal.food}, {weather.end}
 *   {^role}        with a capital letter
 * All randomness of a story is in these draws, and each draw shows in the text at once: at every draw no
 * alternative's text (up to the next draw) is the beginning of another's. So a text is made by one sequence
 * of draws only, and its probability is the product of theirs; tests/test_stories.c checks both. */
#ifndef STORIES_H
#define STORIES_H

#include "common/base/base.h"
#include "datasets/story_words.h"

enum { STORY_DEPTH = 8 };

/* Where a walk stands. Copying the struct forks the walk (give each fork a text of its own). */
typedef struct {
    const char *at[STORY_DEPTH]; /* what is left to say: of the story, of the row inside it, and so on */
    int depth;
    int row[STORY_ROLES]; /* the row drawn for each role, or -1 */
    bool capital;
    Str *text; /* gets what the walk says */
} StoryWalk;

StoryWalk story_begin(Str *text);
/* Says everything up to the next draw and returns the number of its options; 0 at the end of the story. */
int story_next(StoryWalk *walk);
/* Takes option 0 .. story_next() - 1 of the draw that the walk stands at. */
void story_take(StoryWalk *walk, int option);
/* Appends what an option would say, up to the next draw, without taking it. */
void story_option(const StoryWalk *walk, int option, Str *text);

/* Appends story `index` of `seed` to *text and returns -ln p of its draws, in nats. */
double story_make(uint64_t seed, uint64_t index, Str *text);

/* Finds the draws that make a text: true, and their -ln p, when it is a whole story. */
bool story_parse(const char *text, size_t bytes, double *minus_log_p);

#endif
