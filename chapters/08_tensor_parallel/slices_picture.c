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
    printf("  %-28s %-13s %-13s\n", "of its first block and ends", "whole", "device 0 has");
    for (int i = 0; i < params->count; i++) {
        const Param *p = params->items[i];
        if (strncmp(p->name, "blocks.", 7) == 0 && strncmp(p->name, "blocks.0.", 9) != 0) continue;
        if (p->data.shape.rank < 2) continue; /* norms and biases: small */
        printf("  %-28s %-13s %-13s %s\n", p->name, shape_text(p->slice.whole).text,
               shape_text(p->data.shape).text, place_text(p->data.place[MESH_TENSOR]).text);
    }
    printf("  in all %s of weights, %s of gradients, %s of moments, --zero-stage %" PRId64 "\n",
           size_text((double)now[MEMORY_PARAMETERS]).text, size_text((double)now[MEMORY_GRADIENTS]).text,
           size_text((double)now[MEMORY_OPTIMIZER]).text, s->own->config.zero_stage);
}

/* ---- as a picture ---- */

enum { MOST_MATRICES = 8 };
static const double WIDE = 12, ROW_GAP = 2.6, GAP = 1.2, LEFT = 0.8, TOP = 0.9;

typedef struct {
    Box *boxes;
    int count, capacity, t;
    char *texts[4 * MOST_MATRICES]; /* of captions: freed at the end */
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

/* One weight: its name above, how it is cut below. Returns its right end. */
static double add_matrix(Drawing *d, double x, double y, const char *name, int64_t rows, const int64_t *parts,
                         const char *const *part_names, int part_count, bool columns, const int *sharing) {
    int64_t all = 0;
    for (int i = 0; i < part_count; i++) all += parts[i];
    double width = d->unit * sqrt((double)all), height = d->unit * sqrt((double)rows), left = x;
    for (int i = 0; i < part_count; i++) {
        double w = width * (double)parts[i] / (double)all;
        add_strips(d, left, y, w, height, columns, sharing ? sharing[i] : 1);
        if (part_names) add_box(d, (Box){left, y + height, w, 0.45, -1, part_names[i], 9});
        left += w;
    }
    double label = fmax(width, 3.2), at = x + width / 2 - label / 2;
    add_box(d, (Box){at, y - 0.85, label, 0.45, -1, name, 12});
    add_box(d, (Box){at, y - 0.42, label, 0.4, -1, keep(d, xprintf("%" PRId64 " x %" PRId64, rows, all)), 9});
    return x + fmax(width, 2.2) + GAP;
}

static double height_of(const Drawing *d, int64_t rows) { return d->unit * sqrt((double)rows); }

void slices_draw(const ModelConfig *m, int t, const char *folder) {
    Drawing d = {.t = t};
    int64_t D = m->C / m->H, up = m->activation == ACTIVATION_SWIGLU ? 2 : 1;
    int64_t qkv[] = {m->H * D, m->K * D, m->K * D}, gate_up[] = {m->F, m->F};
    static const char *const qkv_names[] = {"q", "k", "v"}, *const gate_names[] = {"gate", "up"};
    int head_sharing = (int)max64(t / m->K, 1), sharing[] = {1, head_sharing, head_sharing};
    /* sides are drawn as the roots of their sizes, so that long and short ones can both be seen */
    double sides = sqrt((double)(m->H + 2 * m->K) * (double)D) + sqrt((double)m->C) +
                   sqrt((double)(up * m->F)) + sqrt((double)m->C);
    d.unit = (WIDE - 3 * GAP) / sides;

    double x = LEFT, y = TOP + 0.3;
    double first = height_of(&d, m->C), second = fmax(height_of(&d, m->F), first);
    double after_qkv = add_matrix(&d, x, y, "qkv", m->C, qkv, qkv_names, 3, true, sharing);
    double after_out = add_matrix(&d, after_qkv, y, "attention out", m->H * D, &m->C, NULL, 1, false, NULL);
    double after_up = add_matrix(&d, after_out, y, "ffn up", m->C, up == 2 ? gate_up : &m->F,
                                 up == 2 ? gate_names : NULL, (int)up, true, NULL);
    double end = add_matrix(&d, after_up, y, "ffn down", m->F, &m->C, NULL, 1, false, NULL);
    double words = y + 0.55;
    add_box(&d, (Box){x, words + first, after_qkv - x - GAP, 0.4, -1, "by columns, f before", 10});
    add_box(&d, (Box){after_qkv - 0.4, words + first, after_out - after_qkv - GAP + 0.8, 0.4, -1,
                      "by rows, g behind", 10});
    add_box(&d,
            (Box){after_out, words + first, after_up - after_out - GAP, 0.4, -1, "by columns, f before", 10});
    add_box(&d, (Box){after_up - 0.4, y + second + 0.1, end - after_up - GAP + 0.8, 0.4, -1,
                      "by rows, g behind", 10});

    double y2 = y + fmax(second, first) + ROW_GAP, x2 = LEFT;
    int64_t V = ceil_div(m->V, t) * t;
    double after_token =
        add_matrix(&d, x2, y2, m->tied ? "token, and head" : "token", V, &m->C, NULL, 1, false, NULL);
    double at = after_token;
    if (!m->tied) at = add_matrix(&d, at, y2, "head", V, &m->C, NULL, 1, false, NULL);
    add_box(&d, (Box){LEFT - 0.4, y2 + height_of(&d, V) + 0.1, at - LEFT - GAP + 0.8, 0.4, -1,
                      V > m->V ? "by rows, the last ones padding" : "by rows: words", 10});
    add_box(&d, (Box){at + 0.6, y2, 6, 1.1, 0, "norms, biases of rows, positions", 11});
    add_box(&d, (Box){at + 0.6, y2 + 1.2, 6, 0.4, -1, "whole on every device", 10});
    const char *key = head_sharing > 1 ? "a strip with two numbers: both devices have the same" : NULL;
    if (key) add_box(&d, (Box){at + 0.6, y2 + 1.8, 6, 0.4, -1, key, 10});
    char *title = xprintf("A block and the tables of words, cut over %d devices", t);
    char *path = xprintf("%s/slices.png", folder);
    Boxes picture = {title, d.boxes, d.count, fmax(end, at + 7.5), y2 + height_of(&d, V) + 0.9, 62};
    boxes_draw(&picture, path);
    free(title);
    free(path);
    for (int i = 0; i < d.text_count; i++) free(d.texts[i]);
    free(d.boxes);
}
