#include "chapters/08_tensor_parallel/slices_picture.h"

#include "common/base/size_text.h"
#include "common/draw/boxes.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- in words ---- */

void slices_print(const Sliced *s) {
    const Params *params = &s->own->model->params;
    const int64_t *now = s->own->device->memory.now;
    printf("  %-30s %-13s %-13s\n", "of its first block and ends", "whole", "device 0 has");
    for (int i = 0; i < params->count; i++) {
        const Param *p = params->items[i];
        if (strncmp(p->name, "blocks.", 7) == 0 && strncmp(p->name, "blocks.0.", 9) != 0) continue;
        if (p->data.shape.rank < 2) continue; /* norms and biases: small */
        printf("  %-30s %-13s %-13s %s\n", p->name, shape_text(p->slice.whole).text,
               shape_text(p->data.shape).text, place_text(p->data.place[MESH_TENSOR]).text);
    }
    printf("  in all %s of weights, %s of gradients, %s of moments, --zero-stage %" PRId64 "\n",
           size_text((double)now[MEMORY_PARAMETERS]).text, size_text((double)now[MEMORY_GRADIENTS]).text,
           size_text((double)now[MEMORY_OPTIMIZER]).text, s->own->config.zero_stage);
}

/* ---- as a picture ---- */

enum { MOST_MATRICES = 8 };
static const double WIDE = 11, ROW_GAP = 2.2, GAP = 0.8, LEFT = 0.6, TOP = 1.1;

typedef struct {
    Box *boxes;
    int count, capacity, t;
    char *texts[MOST_MATRICES]; /* sizes in words: freed at the end */
    int text_count;
    double unit; /* of one model dimension */
} Drawing;

static void add_box(Drawing *d, Box box) {
    if (d->count == d->capacity) {
        d->capacity = 2 * d->capacity + 64;
        d->boxes = xrealloc(d->boxes, (size_t)d->capacity * sizeof *d->boxes);
    }
    d->boxes[d->count++] = box;
}

static const char *keep(Drawing *d, char *text) {
    ASSERT(d->text_count < (int)COUNT_OF(d->texts));
    return d->texts[d->text_count++] = text;
}

static const char *digit(int device) {
    static const char *const digits[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    return device < (int)COUNT_OF(digits) ? digits[device] : NULL;
}

/* A rectangle in t strips, side by side (columns) or below each other (rows). `sharing` neighbours have the same strip,
 * which is then cut among them the other way. */
static void add_strips(Drawing *d, double x, double y, double width, double height, bool columns,
                       int sharing) {
    int strips = d->t / sharing;
    for (int device = 0; device < d->t; device++) {
        int strip = device / sharing, place = device % sharing;
        double w = columns ? width / strips : width / sharing,
               h = columns ? height / sharing : height / strips;
        add_box(d, (Box){columns ? x + strip * w : x + place * w, columns ? y + place * h : y + strip * h, w,
                         h, device + 1, digit(device), fmin(w, h) < 0.35 ? 7 : 10});
    }
    add_box(d, (Box){x, y, width, height, 0, NULL, 0});
}

/* One weight: some fused matrices of the same number of rows. */
typedef struct {
    const char *name;
    int64_t rows, parts[3];
    int part_count;
    const char *part_names[3];
    bool columns;   /* cut by columns; otherwise by rows */
    int sharing[3]; /* neighbours that have the same slice of a part; 0: none do */
    double height;  /* as drawn; 0: as its rows say */
    const char *caption;
} Matrix;

static double side(const Drawing *d, int64_t size) { return d->unit * sqrt((double)size); }

/* Its name above, how it is cut below. Returns where the next one begins. */
static double add_matrix(Drawing *d, double x, double y, const Matrix *m) {
    int64_t all = 0;
    for (int i = 0; i < m->part_count; i++) all += m->parts[i];
    double width = side(d, all), height = m->height > 0 ? m->height : side(d, m->rows);
    double room = fmax(width, 2.6), left = x + (room - width) / 2, below = y + height + 0.05;
    for (int i = 0; i < m->part_count; i++) {
        double w = width * (double)m->parts[i] / (double)all;
        add_strips(d, left, y, w, height, m->columns, m->sharing[i] ? m->sharing[i] : 1);
        if (m->part_names[i]) add_box(d, (Box){left, below, w, 0.4, -1, m->part_names[i], 10});
        left += w;
    }
    add_box(d, (Box){x, y - 0.85, room, 0.45, -1, m->name, 12});
    const char *size = keep(d, xprintf("%" PRId64 " x %" PRId64, m->rows, all));
    add_box(d, (Box){x, y - 0.42, room, 0.4, -1, size, 10});
    add_box(d, (Box){x, below + (m->part_names[0] ? 0.38 : 0), room, 0.4, -1, m->caption, 10});
    return x + room + GAP;
}

void slices_draw(const ModelConfig *m, int t, const char *folder) {
    static const char before[] = "by columns, f before", behind[] = "by rows, g behind";
    Drawing d = {.t = t};
    int64_t D = m->C / m->H, gated = m->activation == ACTIVATION_SWIGLU, V = ceil_div(m->V, t) * t;
    int shared = (int)max64(t / m->K, 1);
    /* sides are drawn as the roots of their sizes, so that long and short ones can both be seen */
    d.unit = WIDE / (sqrt((double)(m->C + 2 * m->K * D)) + 2 * sqrt((double)m->C) +
                     sqrt((double)((gated + 1) * m->F)));
    double first = side(&d, m->C), highest = fmax(side(&d, m->F), first),
           table = fmin(side(&d, V), 1.3 * highest);
    const char *words = V > m->V ? "by rows, padding last" : "by rows: words";
    Matrix qkv = {"qkv", m->C,  {m->C, m->K * D, m->K * D}, 3, {"q", "k", "v"}, true, {1, shared, shared},
                  0,     before},
           out = {"attention out", m->C, {m->C}, 1, {0}, false, {0}, 0, behind},
           up = {"ffn up", m->C, {m->F}, 1, {0}, true, {0}, 0, before},
           gate_up = {"ffn up", m->C, {m->F, m->F}, 2, {"gate", "up"}, true, {0}, 0, before},
           down = {"ffn down", m->F, {m->C}, 1, {0}, false, {0}, 0, behind},
           token = {m->tied ? "token, and head" : "token", V, {m->C}, 1, {0}, false, {0}, table, words},
           head = {"head", V, {m->C}, 1, {0}, false, {0}, table, words};

    double x = LEFT, y = TOP;
    x = add_matrix(&d, x, y, &qkv);
    x = add_matrix(&d, x, y, &out);
    x = add_matrix(&d, x, y, gated ? &gate_up : &up);
    double end = add_matrix(&d, x, y, &down);
    y += highest + ROW_GAP;
    x = add_matrix(&d, LEFT, y, &token);
    if (!m->tied) x = add_matrix(&d, x, y, &head);
    add_box(&d, (Box){x, y, 5.4, 0.9, 0, "norms, biases of rows, positions", 11});
    add_box(&d, (Box){x, y + 0.95, 5.4, 0.4, -1, "whole on every device", 10});
    if (shared > 1)
        add_box(&d, (Box){x, y + 1.5, 5.4, 0.4, -1, "k and v: those in one strip have the same head", 10});
    char *title = xprintf("A block and the tables of words, cut over %d devices", t);
    char *path = xprintf("%s/slices.png", folder);
    Boxes picture = {title, d.boxes, d.count, fmax(end, x + 6), y + table + 0.8, 62};
    boxes_draw(&picture, path);
    free(title);
    free(path);
    for (int i = 0; i < d.text_count; i++) free(d.texts[i]);
    free(d.boxes);
}
