/* story_words: the roles of a story and the words that can fill them. Data for stories.c, nothing else. */
#ifndef STORY_WORDS_H
#define STORY_WORDS_H

/* Rows of related words, as templates (see stories.h). cells[0 .. columns-1] names the columns. */
typedef struct {
    const char *const *cells;
    int columns, rows;
} StoryTable;

/* A part that a story fills by drawing one row of the table; two roles never hold the same row
 * of one table. */
typedef struct {
    const char *name;
    const StoryTable *table;
} StoryRole;

enum { STORY_ROLES = 24 };
extern const StoryRole story_roles[STORY_ROLES];
/* story_plots.c */
extern const StoryTable story_plots;
extern const char story_root[]; /* the template of every story: an opening, then {plot} */

#endif
