/* TEST variants: float asan
 * Rows of steps: each row's curve goes level and then straight up or down, all rows have one scale, and a level stands where its
 * value is, with its label beside the rows. */
#include "common/draw/steps.h"
#include "tests/svg.h"
#include "tests/tap.h"

/* The lowest and the highest corner of what is filled, in that colour; place 0 is the key's. False: there is none. */
static bool filled(const char *svg, int which, double *bottom, double *top) {
    const char *at = svg;
    for (int i = 0; i <= which; i++, at++)
        if (!(at = strstr(at, "<polygon fill = 'rgb(153,"))) return false;
    const char *points = strstr(at, "points = '"), *end = points ? strstr(points, "'/>") : NULL;
    if (!end) return false;
    *bottom = 0;
    *top = 1e9;
    double x, y;
    int read, corners = 0;
    for (points += strlen("points = '"); points < end && sscanf(points, "%lf,%lf%n", &x, &y, &read) == 2;
         points += read, corners++) {
        if (y > *bottom) *bottom = y;
        if (y < *top) *top = y;
    }
    return corners > 0;
}

/* How high the dashed lines stand, of which there are two. */
static bool levels(const char *svg, double *y) {
    const char *at = svg;
    double x;
    for (int i = 0; i < 2; i++, at++)
        if (!(at = strstr(at, "stroke-dasharray=")) || !(at = strstr(at, "d='M")) ||
            sscanf(at, "d='M%lf,%lf", &x, &y[i]) != 2)
            return false;
    return true;
}

int main(void) {
    char *folder = file_temp_folder("shard-steps"), *path = xprintf("%s/steps.svg", folder);
    const double x[] = {0, 1, 2, 5}, high[] = {0, 4, 2, 0}, low[] = {0, 1, 1, 0};
    const StepsRow rows[] = {{"stage 0", {{x, high, 4}, {x, low, 4}}, 4, "4 by formula"},
                             {"stage 1", {{x, low, 4}}, 2, "2 by formula"},
                             {"stage 2", {{0}}, NAN, NULL}};
    Steps steps = {"a title", "seconds", {"micro-batches in flight", "others"}, 5, rows, 3};
    ok(steps_draw(&steps, path), "drawn");
    char *svg = file_read(path, NULL);
    double bottom[2] = {0}, top[2] = {0}, place, y, level[2] = {0}, note[2] = {0};
    ok(filled(svg, 1, &bottom[0], &top[0]) && filled(svg, 2, &bottom[1], &top[1]) &&
           !filled(svg, 3, &place, &y),
       "one filled curve in each row that has one");
    ok(fabs((bottom[0] - top[0]) - 4 * (bottom[1] - top[1])) < 0.1 && bottom[0] - top[0] > 30,
       "on one scale");
    ok(bottom[1] - bottom[0] > bottom[0] - top[0], "... one row below the other");
    ok(levels(svg, level) && fabs(level[0] - top[0]) < 0.1 &&
           fabs(bottom[1] - level[1] - (bottom[0] - top[0]) / 2) < 0.1,
       "levels stand at their values");
    ok(svg_text_place(svg, "4 by formula", &place, &note[0]) &&
           svg_text_place(svg, "2 by formula", &place, &note[1]) && fabs(note[0] - level[0]) < 8 &&
           fabs(note[1] - level[1]) < 8 && place > 1100 - 120,
       "... their labels on the right of the rows");
    ok(strstr(svg, ">a title<") && strstr(svg, ">seconds<") && strstr(svg, ">stage 2<") &&
           strstr(svg, ">others<"),
       "title, axis, names, key");
    free(svg);
    file_remove(folder);
    free(folder);
    free(path);
    return tap_done();
}
