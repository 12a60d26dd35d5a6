/* temp_folder: an empty folder for the files of a test; the test removes it with file_remove. */
#ifndef TEMP_FOLDER_H
#define TEMP_FOLDER_H

#include "common/base.h"

#include <stdlib.h>

char *mkdtemp(char *pattern); /* POSIX, which -std=c17 hides */

static char *temp_folder(void) {
    const char *parent = getenv("TMPDIR");
    char *folder = xprintf("%s/shard-test-XXXXXX", parent ? parent : "/tmp");
    CHECK(mkdtemp(folder), NULL, "cannot make '%s'", folder);
    return folder;
}

#endif
