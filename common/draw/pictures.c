#include "common/draw/pictures.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    char *path;
    bool drawn;
} Picture;

static Picture *pictures;
static int count;

static Picture *find(const char *path) {
    for (int i = 0; i < count; i++)
        if (!strcmp(pictures[i].path, path)) return &pictures[i];
    return NULL;
}

void pictures_note(const char *path, bool drawn) {
    Picture *picture = find(path);
    if (!picture) {
        pictures = xrealloc(pictures, (size_t)(count + 1) * sizeof *pictures);
        picture = &pictures[count++];
        picture->path = xstrdup(path);
    }
    picture->drawn = drawn;
}

/* "loss.png, timeline.png": those that are not there. */
static void list_missing(Str *names) {
    for (int i = 0; i < count; i++) {
        const char *slash = strrchr(pictures[i].path, '/');
        if (pictures[i].drawn) continue;
        str_printf(names, "%s%s", names->count ? ", " : "", slash ? slash + 1 : pictures[i].path);
    }
}

void pictures_print_place(const char *folder, const char *others, const char *first) {
    int drawn = 0;
    for (int i = 0; i < count; i++) drawn += pictures[i].drawn;
    if (!drawn && !others && !count) return;

    Str missing = {0};
    list_missing(&missing);
    if (drawn)
        printf("pictures%s%s are in %s", others ? " and " : "", others ? others : "", folder);
    else
        printf("in %s: %s", folder, others ? others : "nothing");
    char *path = first ? xprintf("%s/%s", folder, first) : NULL;
    const Picture *look = path ? find(path) : NULL;
    if (look && look->drawn) printf(": look at %s", path);
    if (missing.count) printf("; not drawn, as a warning says: %s", missing.data);
    printf("\n");
    free(path);
    str_free(&missing);
}
