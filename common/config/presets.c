/* presets: a name for a model with its batch, optimizer and schedule. `tiny` is the default. */
#include "common/config/config.h"

#include <string.h>

/* Devices. Buckets: large enough that latency does not count, small enough that the first is full long before backward
 * ends (chapter 05 looks for the best size). */
#define DEVICES                                                                                              \
    .data_parallel = 1, .tensor_parallel = 1, .pipeline_parallel = 1, .device_model = "laptop-core",         \
    .overlap = OVERLAP_BACKWARD, .bucket_size = 1 << 20, .prefetch = 1, .gather_again = true,                \
    .overlap_tensor = 1

/* How a run is watched, whatever the model. */
#define WATCHED                                                                                              \
    .seed = 1, .log_interval = 10, .eval_windows = 64, .keep_checkpoints = 2, .async_save = true, DEVICES
#define SAMPLED .max_new_tokens = 200, .temperature = 0.8, .top_p = 0.95

/* The optimizer of GPT-3: Brown et al. 2020, appendix B. */
#define ADAMW_GPT3                                                                                           \
    .optimizer = OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1,             \
    .grad_clip = 1

/* The larger models: the blocks of Llama (RoPE, RMSNorm, SwiGLU) in GPT-2's sizes. With F = 4C and three
 * matrices in the feed-forward part they are larger than GPT-2's models of the same names. */
#define LLAMA_BLOCKS(NAME, WIDTH, LAYERS, HEADS, RATE)                                                       \
    {                                                                                                        \
        .preset = NAME,                                                                                      \
        .model = {.V = 50257,                                                                                \
                  .C = WIDTH,                                                                                \
                  .F = 4 * WIDTH,                                                                            \
                  .L = LAYERS,                                                                               \
                  .H = HEADS,                                                                                \
                  .T = 1024,                                                                                 \
                  .norm = NORM_RMSNORM,                                                                      \
                  .positions = POSITIONS_ROPE,                                                               \
                  .activation = ACTIVATION_SWIGLU,                                                           \
                  .norm_eps = 1e-6,                                                                          \
                  .init_deviation = 0.02},                                                                   \
        .micro_batch = 4, .global_batch = 64, .max_steps = 100000, .optimizer = OPTIMIZER_ADAMW,             \
        .learning_rate = RATE, .min_lr = 3e-5, .warmup_ratio = 0.05, .beta1 = 0.9, .beta2 = 0.95,            \
        .eps = 1e-8, .weight_decay = 0.01, .grad_clip = 1, .eval_interval = 500, .sample_interval = 1000,    \
        .save_interval = 1000, WATCHED, SAMPLED                                                              \
    }

static const Config presets[] = {
    /* a minute on two cores, on the stories. Updates count more than their batch here: with 32 windows a step
     * the same tokens closed 69% of the gap between trigram and floor, with 8 windows 93%. */
    {.preset = "tiny",
     .model = {.V = 0, /* the data's: the stories have 1024 */
               .C = 128,
               .F = 512,
               .L = 4,
               .H = 4,
               .T = 256,
               .norm = NORM_LAYERNORM,
               .norm_place = NORM_PRE,
               .positions = POSITIONS_LEARNED,
               .activation = ACTIVATION_GELU,
               .tied = true,
               .norm_eps = 1e-5,
               .init = INIT_GPT2,
               .init_deviation = 0.06},
     .micro_batch = 4,
     .global_batch = 8,
     .max_steps = 700,
     .learning_rate = 6e-3,
     .min_lr = 1e-4,
     .warmup_ratio = 0.1,
     .eval_interval = 50,
     .sample_interval = 175,
     .save_interval = 175,
     .optimizer = OPTIMIZER_ADAMW,
     .beta1 = 0.9,
     .beta2 = 0.98,
     .eps = 1e-8,
     .weight_decay = 0.1,
     .grad_clip = 1,
     WATCHED,
     SAMPLED},

    /* the MiniGPT of the JAX tutorial jax_for_llm_pretraining (jax-ml/jax-ai-stack); it declares dropout 0.1
     * and never applies it. Adam at a constant rate, no decay, no clipping. */
    {.preset = "minigpt",
     .model = {.V = 50257,
               .C = 256,
               .F = 256,
               .L = 4,
               .H = 8,
               .T = 256,
               .norm = NORM_LAYERNORM,
               .norm_place = NORM_POST,
               .positions = POSITIONS_LEARNED,
               .activation = ACTIVATION_RELU,
               .bias = true,
               .norm_eps = 1e-6,
               .init = INIT_XAVIER,
               .init_deviation = 0.02},
     .micro_batch = 8,
     .global_batch = 256,
     .max_steps = 8200,
     .optimizer = OPTIMIZER_ADAMW,
     .learning_rate = 1e-3,
     .min_lr = 1e-3,
     .beta1 = 0.9,
     .beta2 = 0.999,
     .eps = 1e-8,
     .eval_interval = 200,
     .sample_interval = 200,
     .save_interval = 200,
     .temperature = 1,
     .top_k = 10,
     .top_p = 1,
     .max_new_tokens = 256,
     WATCHED},

    /* GPT-2 with 124 M parameters (Radford et al. 2019), trained as GPT-3 of that size: batch and rates of
     * Brown et al. 2020, table 2.1 and appendix B, warm-up over 375 M of 10 B tokens. */
    {.preset = "gpt2",
     .model = {.V = 50257,
               .C = 768,
               .F = 3072,
               .L = 12,
               .H = 12,
               .T = 1024,
               .norm = NORM_LAYERNORM,
               .norm_place = NORM_PRE,
               .positions = POSITIONS_LEARNED,
               .activation = ACTIVATION_GELU,
               .bias = true,
               .tied = true,
               .norm_eps = 1e-5,
               .init = INIT_GPT2,
               .init_deviation = 0.02},
     .micro_batch = 4,
     .global_batch = 512,
     .max_steps = 19073,
     .learning_rate = 6e-4,
     .min_lr = 6e-5,
     .warmup_ratio = 0.0375,
     .eval_interval = 250,
     .sample_interval = 1000,
     .save_interval = 1000,
     ADAMW_GPT3,
     WATCHED,
     SAMPLED},

    LLAMA_BLOCKS("small", 768, 12, 12, 6e-4),
    LLAMA_BLOCKS("medium", 1024, 24, 16, 3e-4),
    LLAMA_BLOCKS("large", 1280, 36, 20, 2.5e-4),
    LLAMA_BLOCKS("xl", 1600, 48, 25, 2e-4),
};

const Config *config_preset(const char *name) {
    for (int i = 0; i < COUNT_OF(presets); i++)
        if (strcmp(presets[i].preset, name) == 0) return &presets[i];
    return NULL;
}

char *config_preset_names(const char *separator) {
    Str s = {0};
    for (int i = 0; i < COUNT_OF(presets); i++) str_printf(&s, "%s%s", i ? separator : "", presets[i].preset);
    return s.data;
}
