/* TEST variants: float, all: asan
 * What a device holds over a step: every change is seen, also those that free; of several at one moment the last counts;
 * what is before and after the step is not drawn. */
#include "common/comm/clock.h"
#include "common/cpu/device_cpu.h"
#include "common/draw/memory_plot.h"
#include "tests/svg.h"
#include "tests/tap.h"

#include <math.h>

static char *drawing(const MemoryPlot *plot, const char *folder, double level) {
    char *path = xprintf("%s/memory.svg", folder);
    file_remove(path);
    memory_plot_draw(plot, "a title", level, "a limit", path);
    char *svg = file_exists(path) ? file_read(path, NULL) : xstrdup("");
    free(path);
    return svg;
}

int main(void) {
    enum { MB = 1000 * 1000 };
    char *folder = file_temp_folder("shard-memory");
    Device *device = device_new_cpu(0);
    Clock clock;
    clock_attach(device, &clock, device_model("a100"));
    MemoryPlot *plot = memory_plot_new(device);
    void *weights = device_alloc(device, MEMORY_PARAMETERS, 3 * MB, "weights");
    ok(memory_plot_most(plot) == 0, "before the step nothing is written down");

    memory_plot_begin(plot);
    ok(memory_plot_most(plot) == 3 * MB, "it begins with what is there");
    clock.now += 1e-3;
    void *a = device_alloc(device, MEMORY_COMMUNICATION, 2 * MB, "a"),
         *short_lived = device_alloc(device, MEMORY_ACTIVATIONS, 90 * MB, "short-lived");
    device_free(device, MEMORY_ACTIVATIONS, short_lived, 90 * MB);
    clock.now += 1e-3;
    ok(memory_plot_most(plot) == 5 * MB, "what no clock sees is not drawn");
    device_free(device, MEMORY_COMMUNICATION, a, 2 * MB);
    device_count(device, MEMORY_GRADIENTS, 4 * MB, "b");
    clock.now += 1e-3;
    memory_plot_hold(plot);
    ok(memory_plot_most(plot) == 7 * MB, "freed memory is no longer there");
    clock.now += 1e-3;
    device_count(device, MEMORY_OPTIMIZER, 50 * MB, "after");
    ok(memory_plot_most(plot) == 7 * MB, "after the step nothing is written down");

    double spans[6];
    memory_plot_class(plot, MEMORY_COMMUNICATION, -1e-3, 5e-3, 6, spans);
    ok(spans[0] == 0 && spans[1] == 0 && spans[2] == 2 * MB && spans[3] == 0 && spans[5] == 0,
       "a class by spans of time: it holds something in one of six");
    memory_plot_class(plot, MEMORY_COMMUNICATION, -1e-3, 5e-3, 1, spans);
    ok(spans[0] == 2 * MB, "... the most of a span");
    memory_plot_class(plot, MEMORY_PARAMETERS, -2e-3, 10e-3, 2, spans);
    ok(spans[0] == 3 * MB && spans[1] == 3 * MB,
       "... what is there when the step begins, and stays behind it");
    char *svg = drawing(plot, folder, NAN);
    double x, low, high;
    ok(svg_text_place(svg, "0", &x, &low) && svg_text_place(svg, "7", &x, &high) && high < low &&
           !strstr(svg, ">8<"),
       "the picture goes from 0 to 7 MB");
    ok(strstr(svg, ">milliseconds of the step<") && strstr(svg, ">3<") && !strstr(svg, "a limit"),
       "... over 3 milliseconds");
    bool all = true;
    for (int c = 0; c < MEMORY_CLASSES; c++) {
        char *name = xprintf(">%s<", memory_class_names[c]);
        all &= strstr(svg, name) != NULL;
        free(name);
    }
    ok(all, "... with every class");
    free(svg);
    svg = drawing(plot, folder, 12 * MB);
    ok(strstr(svg, ">a limit<") && strstr(svg, ">12<"), "a level, which the picture reaches up to");
    free(svg);

    memory_plot_begin(plot);
    clock.now += 1e-6;
    memory_plot_hold(plot);
    ok(memory_plot_most(plot) == 57 * MB, "a new step begins anew");
    memory_plot_delete(plot);
    device_free(device, MEMORY_PARAMETERS, weights, 3 * MB);
    clock_detach(&clock);
    device_delete(device);
    file_remove(folder);
    free(folder);
    return tap_done();
}
