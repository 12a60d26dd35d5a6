/* config: everything that a run can be told, in one struct; args fills it from a preset and the flags.
 *
 * One alphabet everywhere: B batch, T sequence, C hidden, H heads, K key/value heads, D head size C / H,
 * F feed-forward, V vocabulary, L layers, N parameters. */
#ifndef CONFIG_H
#define CONFIG_H

#include "common/base/base.h"

typedef enum { NORM_LAYERNORM, NORM_RMSNORM } NormKind;
typedef enum { NORM_PRE, NORM_POST } NormPlace;
typedef enum { POSITIONS_LEARNED, POSITIONS_ROPE } Positions;
typedef enum { ACTIVATION_RELU, ACTIVATION_GELU, ACTIVATION_SWIGLU } Activation;
typedef enum { INIT_GPT2, INIT_XAVIER } Init;
typedef enum { OPTIMIZER_ADAMW, OPTIMIZER_SGD } OptimizerKind;
typedef enum { GEMM_OWN, GEMM_OPENBLAS } GemmKind;
typedef enum { DEVICE_CPU, DEVICE_CUDA } DeviceKind;
typedef enum { DTYPE_F32, DTYPE_BF16 } Dtype;
typedef enum { CLOCK_WALL, CLOCK_MODEL } ClockKind;
typedef enum { OVERLAP_NONE, OVERLAP_BUCKET, OVERLAP_BACKWARD } Overlap;

typedef struct {
    int64_t V, C, F, L, H, K, T;
    NormKind norm;
    NormPlace norm_place;
    Positions positions;
    Activation activation;
    bool bias; /* of the linears and of layer norms; an rmsnorm has none */
    bool tied; /* the head is the token embedding */
    double dropout;
    double norm_eps;
    Init
        init; /* gpt2: normal, residual projections / sqrt(2L); xavier: uniform, embeddings N(0, 1/sqrt(C)) */
    double init_deviation; /* of gpt2's normal; 0.02 suits a width of 768, a narrow model wants more */
    Dtype dtype; /* of activations and of what products read: how it is computed, which no checkpoint fixes */
} ModelConfig;

typedef struct {
    const char *preset;
    ModelConfig model;

    /* batch, in windows of T tokens: global = data_parallel x num_microbatches x micro_batch */
    int64_t micro_batch, global_batch, num_microbatches;
    int data_parallel;    /* what tensor and pipeline leave of the devices; 0 counts as 1 */
    int64_t max_steps;    /* also the horizon of the schedule */
    int64_t stop_at_step; /* end early, as if interrupted; 0: at max_steps */

    OptimizerKind optimizer;
    double learning_rate, min_lr, warmup_ratio;
    double beta1, beta2, eps; /* sgd: beta1 is the momentum */
    double weight_decay, grad_clip;

    uint64_t seed;
    bool recompute; /* keep a block's input only, and run it again in backward */
    DeviceKind device;
    bool share_gpu;        /* by several processes */
    int64_t device_memory; /* bytes; 0: no budget */
    GemmKind gemm;         /* which products a CPU uses (cpu/gemm.c) */

    ClockKind clock;          /* the time of this machine, or that of a device_model */
    const char *device_model; /* its name */
    int64_t tensor_parallel, pipeline_parallel;
    Overlap
        overlap; /* when gradients are all-reduced: one by one after backward, in buckets, while it runs */
    int64_t bucket_size;                       /* bytes */
    int64_t zero_stage, prefetch, shard_group; /* what each device keeps of the state (chapter 07) */
    const char *keep_gathered;                 /* NULL: nothing */
    bool reduce_once;
    bool sequence_parallel; /* between the products of a layer (chapter 08) */
    bool gather_again;      /* ... and their inputs, in backward */
    int64_t overlap_tensor;
    unsigned pipeline_schedule; /* one of the kinds of chapter 09 */
    int64_t virtual_stages;
    const char *schedule_file; /* NULL: one of a kind */

    const char *data_dir;  /* NULL: the stories */
    bool pad;              /* one document a window, padding masked */
    int64_t train_windows; /* different ones; 0: no limit */
    bool print_data;
    const char *output_dir;
    int64_t log_interval, eval_interval, save_interval, sample_interval; /* in steps; 0: never */
    int64_t keep_checkpoints;                                            /* the last ones stay */
    bool async_save;                  /* beside the training (run/saver.h) */
    const char *load_parameters_path; /* a new run begins with these weights; NULL: with random ones */
    int64_t eval_windows;             /* 0: the whole validation split */
    bool resume, print_model, print_memory, trace;

    const char *prompt; /* generate from a checkpoint instead of training */
    double temperature, top_p;
    int64_t top_k, max_new_tokens;
} Config;

/* A preset by name (presets.c); NULL: no such preset. Its output_dir is still NULL. */
const Config *config_preset(const char *name);
/* All their names in one string; the caller frees it. */
char *config_preset_names(const char *separator);

/* Fills in what follows from the rest (config_check.c): model.K when 0; whichever of
 * global_batch, num_microbatches and micro_batch is 0. Then refuses, exit 2, what cannot work,
 * and names values that can. */
void config_check(Config *config);
/* The model's part of that. NULL, or what is wrong, with *hint; the caller frees both. */
char *config_model_problem(ModelConfig *model, char **hint);

#endif
