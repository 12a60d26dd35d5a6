/* TEST variants: float, all: asan
 * Pictures: PNG and SVG of the size asked for, with the curves and labels in them, from the plainest to
 * hopeless data and names; a gnuplot that is missing, fails, dies or is slow stops nothing. */
#define _GNU_SOURCE
#include "common/draw/boxes.h"
#include "common/draw/gnuplot.h"
#include "common/draw/loss_plot.h"
#include "common/run/metrics.h"
#include "tests/expect_exit.h"
#include "tests/svg.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <errno.h>
#include <sys/stat.h>

static char *folder;

static char *in_folder(const char *name) { return xprintf("%s/%s", folder, name); }

static bool is_png(const char *path, int width, int height) {
    unsigned char head[24] = {0};
    FILE *f = fopen(path, "rb");
    bool whole = f && fread(head, 1, sizeof head, f) == sizeof head;
    if (f) fclose(f);
    int w = head[16] << 24 | head[17] << 16 | head[18] << 8 | head[19];
    int h = head[20] << 24 | head[21] << 16 | head[22] << 8 | head[23];
    return whole && !memcmp(head, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16) && w == width && h == height;
}

static int count_of(const char *text, const char *part) {
    int count = 0;
    for (; (text = strstr(text, part)); text++) count++;
    return count;
}

/* The picture as SVG text; "" when there is none. */
static char *svg_of(const Plot *plot) {
    char *path = in_folder("look.svg"), *text = NULL;
    remove(path);
    plot_draw(plot, path);
    text = file_exists(path) ? file_read(path, NULL) : xstrdup("");
    free(path);
    return text;
}

/* ---- ordinary pictures ---- */

static void test_pictures(void) {
    double x[50], up[50], down[50];
    for (int i = 0; i < 50; i++) x[i] = 10 + i, up[i] = i * i, down[i] = 100.0 / (1 + i);
    PlotSeries series[] = {{"rising", x, up, 50, PLOT_LINE, 0, NULL},
                           {"falling", x, down, 50, PLOT_LINE_POINTS, 0, NULL},
                           {NULL, x, down, 20, PLOT_DASHED, 1, NULL}};
    PlotLevel levels[] = {{50, "a level"}, {NAN, "no level"}};
    Plot plot = {.title = "Title <&> {x_2} é",
                 .x_label = "steps",
                 .y_label = "'y'",
                 .series = series,
                 .series_count = 3,
                 .levels = levels,
                 .level_count = 2};
    char *png = in_folder("a picture.png");
    ok(plot_draw(&plot, png) && is_png(png, 960, 540), "a PNG of 960 x 540");
    plot.width = 480, plot.height = 320;
    ok(plot_draw(&plot, png) && is_png(png, 480, 320), "a PNG of 480 x 320 takes its place");
    char *svg = svg_of(&plot);
    ok(strstr(svg, "width=\"480\" height=\"320\"") && strstr(svg, "</svg>"), "an SVG");
    ok(strstr(svg, "Title &lt;&amp;> {x_2} é") || strstr(svg, "Title &lt;&amp;&gt; {x_2} é"),
       "the title, literally");
    ok(strstr(svg, ">rising<") && strstr(svg, ">falling<") && strstr(svg, ">steps<") && strstr(svg, ">'y'<"),
       "the labels");
    ok(strstr(svg, ">a level<") && !strstr(svg, "no level"), "a level, and none that is not a number");
    ok(strstr(svg, "rgb(  0, 114, 178)") && strstr(svg, "rgb(213,  94,   0)"), "two colours");
    free(svg);
    plot.log_y = true;
    svg = svg_of(&plot);
    ok(strstr(svg, ">100<") && strstr(svg, ">1000<") && !strstr(svg, ">0<"), "a log scale marks decades");
    free(svg);
    const char *const texts[] = {"first", "a \"b\" \\n c", "left out"};
    const double one_to[] = {1, 10, -1}, hundred[] = {1, 100, 1};
    PlotSeries points = {"points", one_to, hundred, 3, PLOT_POINTS, 0, texts};
    Plot both = {.log_x = true, .log_y = true, .series = &points, .series_count = 1};
    svg = svg_of(&both);
    ok(strstr(svg, ">first<") && strstr(svg, ">a \"b\" \\n c<") && !strstr(svg, "left out"),
       "texts beside points");
    ok(count_of(svg, ">10<") == 2, "two log scales");
    free(svg);
    both.log_y = false, both.y_from_zero = true;
    points.y = (const double[]){90, 100, 95};
    svg = svg_of(&both);
    ok(strstr(svg, ">0<") && strstr(svg, ">100<"), "from zero");
    free(svg);
    const double devices[] = {1, 2, 4};
    PlotSeries few = {"few", devices, hundred, 3, PLOT_LINE, 0, NULL};
    svg = svg_of(&(Plot){.log_y = true, .series = &few, .series_count = 1});
    ok(strstr(svg, ">3<") && !strstr(svg, ">2.5<") && !strstr(svg, ">1.5<"), "no mark between whole numbers");
    free(svg);
    free(png);
}

/* Points that lie close together: their texts do not (which places there are, test_labels.c knows). */
static void test_texts_apart(void) {
    enum { N = 5, LETTERS = 8 };
    static const char *const texts[N] = {"number_1", "number_2", "number_3", "number_4", "number_5"};
    const double x[N] = {10, 10.1, 10, 9.9, 10.2}, y[N] = {5, 5, 5.02, 5.01, 5}, low[] = {1, 20},
                 up[] = {1, 8};
    PlotSeries series[] = {{"points", x, y, N, PLOT_POINTS, 0, texts},
                           {NULL, low, up, 2, PLOT_LINE, 0, NULL}};
    Plot plot = {.series = series, .series_count = 2};
    char *svg = svg_of(&plot);
    double at_x[N], at_y[N];
    bool found = true, apart = true;
    for (int i = 0; i < N; i++) found &= svg_text_place(svg, texts[i], &at_x[i], &at_y[i]);
    for (int i = 0; found && i < N; i++)
        for (int j = 0; j < i; j++)
            apart &= fabs(at_x[i] - at_x[j]) > LETTERS * 6 || fabs(at_y[i] - at_y[j]) > 11;
    ok(found && apart, "the texts of five points that lie close together do not");
    free(svg);
}

/* ---- stacks ---- */

static void test_stacks(void) {
    const double x[] = {0, 1, 3}, all[] = {5, 9, 7}, part[] = {4, 3, 6};
    const PlotMark marks[] = {
        {0, 0, "a 'left' bar"}, {1, 0, "middle"}, {3, 0, "right"}, {0.5, 1, "both of them"}};
    PlotSeries bars[] = {{"all", x, all, 3, PLOT_BARS, 0, NULL}, {"part", x, part, 3, PLOT_BARS, 0, NULL}};
    Plot plot = {.series = bars, .series_count = 2, .marks = marks, .mark_count = COUNT_OF(marks)};
    double left_x, left_y, below_x, below_y, zero_x, zero_y;
    char *svg = svg_of(&plot);
    ok(svg_text_place(svg, "a 'left' bar", &left_x, &left_y) && strstr(svg, ">right<") &&
           !strstr(svg, ">0.5<"),
       "bars: texts in place of numbers");
    ok(svg_text_place(svg, "both of them", &below_x, &below_y) && below_x > left_x && below_y > left_y + 15,
       "... and a second line of them, between two bars and below the first");
    ok(svg_text_place(svg, "0", &zero_x, &zero_y) && strstr(svg, ">8<") && !strstr(svg, ">-"),
       "... from 0 on, though none is below 3");
    free(svg);
    /* the key does not fit above, and no corner is free of what is filled */
    double high[] = {9, 9, 9};
    PlotSeries many[] = {{"of the first series, whose name is long", x, high, 3, PLOT_AREA, 0, NULL},
                         {"2", x, all, 3, PLOT_AREA, 0, NULL},
                         {"3", x, part, 3, PLOT_AREA, 0, NULL},
                         {"four", x, part, 3, PLOT_LINE, 0, NULL}};
    svg = svg_of(&(Plot){.series = many, .series_count = COUNT_OF(many)});
    double key_x, key_y, top_x, top_y;
    ok(svg_text_place(svg, "four", &key_x, &key_y) && svg_text_place(svg, "8", &top_x, &top_y) &&
           key_y < top_y,
       "areas: the key does not stand on them");
    free(svg);
}

/* ---- boxes ---- */

static void test_boxes(void) {
    const Box drawn[] = {{0, 0, 2, 1, 1, "a 'left' one", 0},
                         {2, 0, 2, 1, 8, "<right>", 14},
                         {0, 0, 4, 1, 0, NULL, 0},
                         {0, 1, 4, 1, -1, "words alone", 0}};
    Boxes picture = {"Boxes & words", drawn, COUNT_OF(drawn), 4, 2, 50};
    char *png = in_folder("boxes.png"), *path = in_folder("boxes.svg");
    ok(boxes_draw(&picture, png) && is_png(png, 200, 150), "boxes: a PNG of 4 x 3 units of 50 pixels");
    char *svg = boxes_draw(&picture, path) ? file_read(path, NULL) : xstrdup("");
    ok(strstr(svg, ">a 'left' one<") && strstr(svg, ">words alone<") && strstr(svg, "Boxes &amp; words"),
       "the words in them");
    ok(strstr(svg, "rgb(  0, 114, 178)") && strstr(svg, "rgb(240, 228,  66)"), "their colours");
    picture.title = NULL, picture.count = 0;
    ok(boxes_draw(&picture, png) && is_png(png, 200, 100), "no title, no boxes");
    ok(!strcmp(gnuplot_color(1), gnuplot_color(9)) && strcmp(gnuplot_color(1), gnuplot_color(8)) != 0,
       "eight colours, then over again");
    free(svg);
    free(png);
    free(path);
}

/* ---- hopeless data, hopeless names ---- */

static void test_hopeless_data(void) {
    double nothing[3] = {NAN, INFINITY, -INFINITY}, huge[3] = {1e308, -1e308, 1e-308}, zero[3] = {0, 0, 0};
    double negative[3] = {-1, 0, -5}, one[1] = {4}, gaps[7] = {1, NAN, 2, 3, INFINITY, NAN, 4},
           same[3] = {1e9, 1e9, 1e9};
    const struct {
        const char *what;
        PlotSeries series;
    } cases[] = {{"no number", {"s", NULL, nothing, 3, PLOT_LINE, 0, NULL}},
                 {"ends of the range", {"s", NULL, huge, 3, PLOT_POINTS, 0, NULL}},
                 {"zeros", {"s", NULL, zero, 3, PLOT_LINE, 0, NULL}},
                 {"negative", {"s", NULL, negative, 3, PLOT_THIN_LINE, 0, NULL}},
                 {"one point", {"s", NULL, one, 1, PLOT_LINE, 0, NULL}},
                 {"gaps", {"s", NULL, gaps, 7, PLOT_LINE, 99, NULL}},
                 {"equal", {"s", zero, same, 3, PLOT_LINE_POINTS, 0, NULL}},
                 {"empty", {"s", NULL, NULL, 0, PLOT_LINE, 0, NULL}},
                 {"x not finite", {"s", nothing, same, 3, PLOT_LINE, 0, NULL}}};
    char *png = in_folder("hopeless.png");
    for (int i = 0; i < COUNT_OF(cases); i++)
        for (int log_y = 0; log_y < 2; log_y++) {
            remove(png);
            Plot plot = {.log_y = log_y, .series = &cases[i].series, .series_count = 1};
            ok(plot_draw(&plot, png) && is_png(png, 960, 540), "%s%s", cases[i].what,
               log_y ? ", log scale" : "");
        }
    double mixed[4] = {-1, 0, 1, 1000};
    char *svg = svg_of(&(Plot){
        .log_y = true, .series = &(PlotSeries){NULL, NULL, mixed, 4, PLOT_LINE, 0, NULL}, .series_count = 1});
    ok(strstr(svg, ">1<") && strstr(svg, ">30<"), "a log scale shows what is above zero");
    free(svg);
    Plot empty = {.levels = &(PlotLevel){-INFINITY, "none"}, .level_count = 1};
    ok(plot_draw(&empty, png), "no curve at all");
    free(png);
}

static void test_hopeless_names(void) {
    static const char *const names[] = {"it's.png",
                                        "a \"b\".png",
                                        "`touch hacked`.png",
                                        "$(touch hacked).png",
                                        "back\\slash.png",
                                        "new\nline.png",
                                        "'; system 'touch hacked'; #.png",
                                        "-e.png",
                                        "é%d%%.png"};
    double y[2] = {1, 2};
    for (int i = 0; i < COUNT_OF(names); i++) {
        PlotSeries series = {names[i], NULL, y, 2, PLOT_LINE, 0, NULL};
        PlotLevel level = {1.5, names[i]};
        Plot plot = {.title = names[i],
                     .x_label = names[i],
                     .y_label = names[i],
                     .series = &series,
                     .series_count = 1,
                     .levels = &level,
                     .level_count = 1};
        char *path = in_folder(names[i]);
        ok(plot_draw(&plot, path) && is_png(path, 960, 540), "name %d", i);
        free(path);
    }
    PlotSeries series = {"END\nEND\n", NULL, y, 2, PLOT_LINE, 0, NULL};
    Plot plot = {.title = "a\nb", .series = &series, .series_count = 1};
    char *svg = svg_of(&plot);
    ok(strstr(svg, ">a b<"), "a title of two lines becomes one");
    ok(!file_exists("hacked"), "no name was obeyed");
    free(svg);
}

/* ---- loss curves ---- */

static void write_run(const char *name, int64_t steps, double scale) {
    char *path = in_folder(name);
    Metrics *metrics = metrics_create(path);
    for (int64_t s = 1; s <= steps; s++) {
        double loss = 1 + scale / (double)s;
        metrics_write(metrics, &(MetricsRow){s, s, s == 3 ? INFINITY : loss, s % 5 ? NAN : loss, 0, 0, 0, 0});
    }
    metrics_close(metrics);
    free(path);
}

static void write_losses(const char *name, const double *losses, int64_t steps) {
    char *path = in_folder(name);
    Metrics *metrics = metrics_create(path);
    for (int64_t s = 0; s < steps; s++)
        metrics_write(metrics, &(MetricsRow){s + 1, s + 1, losses[s], s % 2 ? NAN : losses[s], 0, 0, 0, 0});
    metrics_close(metrics);
    free(path);
}

static char *loss_svg(const LossCurve *runs, int count, bool log_y) {
    char *path = in_folder("loss.svg"), *text;
    remove(path);
    plot_loss(&(LossPlot){.title = "Loss", .runs = runs, .run_count = count, .log_y = log_y}, path);
    text = file_exists(path) ? file_read(path, NULL) : xstrdup("");
    free(path);
    return text;
}

static void test_loss(void) {
    write_run("a", 40, 5);
    write_run("b", 20, 3);
    write_run("empty", 0, 0);
    char *a = in_folder("a"), *b = in_folder("b"), *empty = in_folder("empty");
    LossCurve runs[] = {{"run a", a, 1.05, 2.5}, {"run b", b, 1.05, NAN}, {"run c", empty, NAN, NAN}};
    char *svg = loss_svg(runs, 1, false);
    ok(strstr(svg, ">training<") && strstr(svg, ">validation<") && strstr(svg, ">entropy floor 1.05<") &&
           strstr(svg, ">trigram model 2.5<"),
       "one run: both curves and both lines are named");
    free(svg);
    svg = loss_svg(runs, 3, true);
    ok(strstr(svg, ">run a<") && strstr(svg, ">run b<") && !strstr(svg, ">training<"),
       "several runs: the key has their names");
    ok(count_of(svg, ">entropy floor 1.05<") == 1, "a line that they share is drawn once");
    free(svg);
    svg = loss_svg(&runs[2], 1, true);
    ok(strstr(svg, "</svg>") && !strstr(svg, ">training<"), "a run without rows: an empty picture");
    free(svg);
    free(a);
    free(b);
    free(empty);
}

/* Curves that coincide: a second panel has their differences, on a line of its own where they are equal to the bit. */
static void test_difference(void) {
    enum { N = 6 };
    const double first[N] = {5, 4, 3, 2.5, 2.25, 2}, near[N] = {5, 4, 3 + 1e-7, 2.5 - 1e-6, 2.25, 2 + 1e-5};
    write_losses("first", first, N);
    write_losses("same", first, N);
    write_losses("near", near, N);
    char *folders[3] = {in_folder("first"), in_folder("same"), in_folder("near")};
    LossCurve runs[3] = {
        {"one", folders[0], NAN, NAN}, {"same", folders[1], NAN, NAN}, {"near", folders[2], NAN, NAN}};
    LossPlot plot = {.title = "Loss", .runs = runs, .run_count = 3, .log_y = true, .difference = true};
    char *path = in_folder("difference.svg"), *png = in_folder("difference.png");
    ok(plot_loss(&plot, png) && is_png(png, 960, 760), "differences: a picture that is higher");
    char *svg = plot_loss(&plot, path) ? file_read(path, NULL) : xstrdup("");
    ok(strstr(svg, ">|same - one|<") && strstr(svg, ">|near - one|<") && strstr(svg, ">difference<"),
       "differences: the key says of what");
    ok(strstr(svg, ">1e-07<") && strstr(svg, ">1e-06<") && strstr(svg, ">1e-05<"), "differences: a log axis");
    double x, zero, y;
    ok(count_of(svg, ">equal to the bit<") == 1 && svg_text_place(svg, "0", &x, &zero) &&
           svg_text_place(svg, "1e-07", &x, &y) && zero > y,
       "differences: a line for zero, below all numbers");
    ok(count_of(svg, ">step<") == 1, "differences: one x axis");
    free(svg);
    plot.run_count = 2;
    svg = plot_loss(&plot, path) ? file_read(path, NULL) : xstrdup("");
    ok(strstr(svg, ">equal to the bit<") && strstr(svg, ">|same - one|<"), "differences: nothing but zeros");
    free(svg);
    runs[1] = runs[2];
    write_losses("near", (const double[]){6, 5, 4, 3, 2.5, 1}, N);
    svg = plot_loss(&plot, path) ? file_read(path, NULL) : xstrdup("");
    ok(!strstr(svg, ">equal to the bit<") && strstr(svg, ">|near - one|<"),
       "differences: no zero, no line for it");
    free(svg);
    free(path);
    free(png);
    for (int i = 0; i < 3; i++) free(folders[i]);
}

/* A key of any length leaves room for the curves. */
static void test_long_keys(void) {
    enum { MOST = 200 };
    static const int counts[] = {2, 6, 20, MOST};
    const double up[2] = {1, 2}, down[2] = {2, 1};
    PlotSeries series[MOST];
    char *png = in_folder("keys.png");
    for (int i = 0; i < MOST; i++)
        series[i] = (PlotSeries){i % 2 ? "a run of a name that is long" : "another",
                                 NULL,
                                 i % 3 ? up : down,
                                 2,
                                 PLOT_LINE,
                                 0,
                                 NULL};
    for (int c = 0; c < COUNT_OF(counts); c++)
        for (int panels = 1; panels <= 2; panels++) {
            Plot below = {.series = series, .series_count = counts[c]};
            Plot plot = {.series = series, .series_count = counts[c], .below = panels == 2 ? &below : NULL};
            remove(png);
            ok(plot_draw(&plot, png) && is_png(png, 960, panels == 2 ? 760 : 540),
               "%d curves in the key, panels: %d", counts[c], panels);
        }
    free(png);
}

/* The pieces of the line that is drawn at this width, in an SVG of gnuplot's. */
static int pieces_of_width(const char *svg, const char *width) {
    char *start = xprintf("stroke-width=\"%s\"", width);
    const char *at = NULL, *end;
    for (const char *p = svg; (p = strstr(p, start)); p++) at = p;
    int count = 0;
    for (end = at ? strstr(at, "'/>") : NULL; end && at < end; at++) count += *at == 'L';
    free(start);
    return count;
}

/* A curve that a later one lies over is drawn again, wider, below both, there and nowhere else. */
static void test_hidden(void) {
    enum { N = 100 };
    double up[N], part[N], apart[N], across[N];
    for (int i = 0; i < N; i++)
        up[i] = i, part[i] = i < 20 ? i : 0, apart[i] = i + 5, across[i] = i + 0.2 * (i - 50);
    PlotSeries series[] = {{"under", NULL, up, N, PLOT_LINE, 0, NULL},
                           {"over", NULL, up, N, PLOT_LINE, 0, NULL}};
    Plot plot = {.series = series, .series_count = 2};
    const struct {
        const char *what;
        const double *over;
        int pieces;
    } cases[] = {
        {"hidden", up, 99}, {"hidden in part", part, 19}, {"not hidden", apart, 0}, {"crossed", across, 0}};
    for (int i = 0; i < COUNT_OF(cases); i++) {
        series[1].y = cases[i].over;
        char *svg = svg_of(&plot);
        int pieces = pieces_of_width(svg, "4.00");
        ok(pieces == cases[i].pieces, "a curve that is %s: %d pieces of it wider", cases[i].what, pieces);
        free(svg);
    }
}

static void plot_missing_run(void *path) {
    LossCurve run = {"x", "/nowhere", NAN, NAN};
    exit(plot_loss(&(LossPlot){.title = "Loss", .runs = &run, .run_count = 1}, path) ? 0 : 9);
}

/* ---- other gnuplots ---- */

typedef struct {
    const char *script; /* what gnuplot is; NULL: there is none */
    const char *png;
} Gnuplot;

/* PATH leads to `gnuplot`, and to nothing else. */
static void install(const char *script) {
    char *bin = in_folder("bin"), *program = in_folder("bin/gnuplot");
    file_remove(bin);
    file_make_folder(bin);
    if (script) {
        file_write(program, script, strlen(script));
        chmod(program, 0755);
    }
    setenv("PATH", bin, 1);
    free(bin);
    free(program);
}

static Plot large_plot(void) {
    enum { N = 100000 };
    static double y[N];
    static PlotSeries series = {"s", NULL, y, N, PLOT_LINE, 0, NULL};
    return (Plot){.series = &series, .series_count = 1};
}

/* Exit status 20 + what the two calls returned. */
static void draw_twice(void *argument) {
    const Gnuplot *gnuplot = argument;
    Plot plot = large_plot();
    install(gnuplot->script);
    bool first = plot_draw(&plot, gnuplot->png), second = plot_draw(&plot, gnuplot->png);
    exit(20 + first + 2 * second);
}

static void draw_behind(void *argument) {
    const Gnuplot *gnuplot = argument;
    Plot plot = large_plot();
    install(gnuplot->script);
    if (!plot_draw_behind(&plot, gnuplot->png)) exit(30);
    if (!plot_draw_behind(&plot, gnuplot->png)) exit(31); /* left out: the first has not ended */
    char *go = in_folder("go"), *calls = in_folder("calls");
    if (file_exists(gnuplot->png)) exit(32);
    file_write(go, "", 0); /* only now may it end: a call that waited for it would have hung */
    plot_wait();
    char *text = file_read(calls, NULL);
    if (strcmp(text, "call\n")) exit(33);
    if (waitpid(-1, NULL, 0) != -1 || errno != ECHILD) exit(34); /* a zombie */
    exit(35);
}

static void test_other_gnuplots(void) {
    char *png = in_folder("other.png"), *temporary = in_folder("other.png.tmp"), *calls = in_folder("calls"),
         *go = in_folder("go");
    static const struct {
        const char *what, *script, *says;
    } failures[] = {{"none", NULL, "there is no gnuplot"},
                    {"one that fails", "#!/bin/sh\necho half\necho broken >&2\nexit 1\n", "gnuplot failed"},
                    {"one that draws nothing", "#!/bin/sh\nexit 0\n", "gnuplot failed"},
                    {"one that dies half-way", "#!/bin/sh\necho half\nkill -9 $$\n", "gnuplot failed"},
                    {"one that meets a full disk", "#!/bin/sh\necho half\n", "gnuplot left half of it"}};
    for (int i = 0; i < COUNT_OF(failures); i++) {
        file_write(png, "old", 3);
        Exit e = expect_exit(draw_twice, &(Gnuplot){failures[i].script, png});
        char *left = file_read(png, NULL);
        ok(e.status == 20 && strstr(e.text, "warning: no picture '") && strstr(e.text, failures[i].says) &&
               !strchr(e.text, '\n'),
           "%s: one warning, and on it goes: %s", failures[i].what, e.text);
        ok(!strcmp(left, "old") && !file_exists(temporary), "the old picture stays, nothing else is left");
        free(left);
    }
    Exit e = expect_exit(draw_twice, &(Gnuplot){NULL, "/nowhere/x.png"});
    ok(e.status == 20 && strstr(e.text, "'/nowhere/x.png': No such file or directory"),
       "a folder that is missing: %s", e.text);

    char *script = xprintf("#!/bin/sh\necho call >> %s\nwhile [ ! -e %s ]; do /bin/sleep 0.01; done\nprintf "
                           "'IEND\\256B`\\202\\n'\n",
                           calls, go);
    remove(png);
    e = expect_exit(draw_behind, &(Gnuplot){script, png});
    char *drawn = file_exists(png) ? file_read(png, NULL) : xstrdup("");
    ok(e.status == 35 && !*e.text && !strcmp(drawn, "IEND\xae\x42\x60\x82\n"),
       "a slow one holds nobody up, and leaves no zombie: %d %s", e.status, e.text);
    e = expect_exit(plot_missing_run, png);
    ok(e.status == 0 && strstr(e.text, "warning: '/nowhere/loss.csv': No such file"),
       "a run that is missing: %s", e.text);
    free(drawn);
    free(script);
    free(png);
    free(temporary);
    free(calls);
    free(go);
}

int main(void) {
    folder = file_temp_folder("shard-test");
    test_pictures();
    test_texts_apart();
    test_stacks();
    test_boxes();
    test_hopeless_data();
    test_hopeless_names();
    test_loss();
    test_difference();
    test_hidden();
    test_long_keys();
    test_other_gnuplots();
    file_remove(folder);
    free(folder);
    return tap_done();
}
