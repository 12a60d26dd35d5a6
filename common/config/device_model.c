#include "common/config/device_model.h"

#include <math.h>
#include <string.h>

#define TERA  1e12
#define GIGA  1e9
#define MICRO 1e-6

/* Peaks are those of dense 16-bit products. Latencies of NVIDIA's links are one step of a ring in NCCL's own model of
 * itself (protocol Simple: src/graph/tuning.cc, table hwLat: NVLink 3.4, network 9.6 microseconds). */
static const DeviceModel models[] = {
    /* Round figures near those that `make ch03` and `make ch04` measure on one core of a laptop, whose ranks share
     * memory; across: 10 gigabit Ethernet. */
    {"laptop-core",
     "one core of a laptop, f32",
     100e9,
     25 * GIGA,
     4 * GIGA,
     64,
     {5 * MICRO, 5 * GIGA},
     {50 * MICRO, 1.25 * GIGA}},

    /* NVIDIA A100 80GB SXM datasheet: 312 TFLOPS bf16, 2039 GB/s, NVLink 600 GB/s both ways together. DGX A100
     * datasheet: 8 GPUs, each with a network port of 200 Gb/s. */
    {"a100",
     "NVIDIA A100 SXM 80 GB, bf16",
     312 * TERA,
     2039 * GIGA,
     80 * GIGA,
     8,
     {3.4 * MICRO, 300 * GIGA},
     {9.6 * MICRO, 25 * GIGA}},

    /* NVIDIA H100 SXM datasheet: 1979 TFLOPS bf16 with sparsity, half of it without, 3.35 TB/s, NVLink 900 GB/s both
     * ways together. DGX H100 datasheet: 8 GPUs, each with a port of 400 Gb/s. */
    {"h100",
     "NVIDIA H100 SXM 80 GB, bf16",
     989.5 * TERA,
     3350 * GIGA,
     80 * GIGA,
     8,
     {3.4 * MICRO, 450 * GIGA},
     {9.6 * MICRO, 50 * GIGA}},

    /* NVIDIA H200 datasheet: an H100 with 141 GB at 4.8 TB/s. */
    {"h200",
     "NVIDIA H200 SXM 141 GB, bf16",
     989.5 * TERA,
     4800 * GIGA,
     141 * GIGA,
     8,
     {3.4 * MICRO, 450 * GIGA},
     {9.6 * MICRO, 50 * GIGA}},

    /* Jouppi et al. 2023 (TPU v4), table 4: 275 TFLOPS bf16, 1200 GB/s, 32 GB, 6 links; How to Scale Your Model
     * (Austin et al. 2025), chapter 2: 45 GB/s one way a link, about 1 microsecond a hop, and a ring along one axis of
     * the torus uses the links of both directions; data-centre network 6.25 GB/s a chip, as it has it for later ones.
     * The latency across is our guess. */
    {"tpu-v4",
     "Google TPU v4, bf16",
     275 * TERA,
     1200 * GIGA,
     32 * GIGA,
     4096,
     {1 * MICRO, 90 * GIGA},
     {20 * MICRO, 6.25 * GIGA}},

    /* For formulas: only products take time, messages none. */
    {"ideal",
     "1 TFLOP/s, endless memory, free messages",
     1 * TERA,
     INFINITY,
     INFINITY,
     1 << 30,
     {0, INFINITY},
     {0, INFINITY}},
};

const DeviceModel *device_model(const char *name) {
    for (int i = 0; i < COUNT_OF(models); i++)
        if (strcmp(models[i].name, name) == 0) return &models[i];
    return NULL;
}

char *device_model_names(const char *separator) {
    Str s = {0};
    for (int i = 0; i < COUNT_OF(models); i++) str_printf(&s, "%s%s", i ? separator : "", models[i].name);
    return s.data;
}

void device_model_print(FILE *out) {
    fprintf(out, "%-12s %8s %8s %6s %5s %18s %18s  %s\n", "device", "TFLOP/s", "GB/s", "GB", "node",
            "inside us, GB/s", "across us, GB/s", "what");
    for (int i = 0; i < COUNT_OF(models); i++) {
        const DeviceModel *m = &models[i];
        fprintf(out, "%-12s %8.4g %8.4g %6.4g %5.4g %10.4g %7.4g %10.4g %7.4g  %s\n", m->name,
                m->flops / TERA, m->memory_bandwidth / GIGA, m->memory / GIGA,
                m->per_node < 1 << 30 ? (double)m->per_node : INFINITY, m->inside.latency / MICRO,
                m->inside.bandwidth / GIGA, m->across.latency / MICRO, m->across.bandwidth / GIGA, m->about);
    }
}
