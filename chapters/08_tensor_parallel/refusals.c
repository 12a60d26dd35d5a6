/* What cannot be cut over the devices of the axis `tensor`, and the nearest sizes that can. */
#include "chapters/08_tensor_parallel/tensor_parallel.h"

#include <stdlib.h>
#include <string.h>

/* What the answer depends on, by the flags that set it. */
typedef struct {
    ModelConfig model;
    int64_t t;
    bool sequence_parallel;
} Sizes;
typedef enum { SIZE_T, SIZE_HEADS, SIZE_KEY_HEADS, SIZE_FFN, SIZE_SEQUENCE } Size;
static const char *const size_flags[] = {"tensor-parallel-size", "num-attention-heads", "num-key-value-heads",
                                         "intermediate-size", "max-seq-length"};

static int64_t *value_of(Sizes *s, Size which) {
    int64_t *values[] = {&s->t, &s->model.H, &s->model.K, &s->model.F, &s->model.T};
    return values[which];
}

/* Which size t does not fit; SIZE_T: it fits all. */
static Size misfit(const Sizes *s) {
    const ModelConfig *m = &s->model;
    if (m->H % s->t) return SIZE_HEADS;
    if (m->K % s->t && s->t % m->K) return SIZE_KEY_HEADS;
    if (m->F % s->t) return SIZE_FFN;
    if (s->sequence_parallel && m->T % s->t) return SIZE_SEQUENCE;
    return SIZE_T;
}

static bool fits(Sizes s, Size which, int64_t value) {
    *value_of(&s, which) = value;
    if (misfit(&s) != SIZE_T) return false;
    char *hint,
        *problem = config_model_problem(&s.model, &hint); /* other heads must suit the model as well */
    bool fine = !problem;
    free(problem);
    free(hint);
    return fine;
}

/* Adds "--flag LOW or HIGH": the nearest values with which everything fits. */
static void offer(Str *text, const Sizes *s, Size which) {
    Sizes asked = *s;
    int64_t value = *value_of(&asked, which), low = value - 1, high = value + 1, end = 2 * value + 2 * s->t;
    while (low > 0 && !fits(*s, which, low)) low--;
    while (high <= end && !fits(*s, which, high)) high++;
    bool has_high = high <= end;
    if (low < 1 && !has_high) return;
    str_printf(text, "%s--%s %lld", text->count ? ", or " : "use ", size_flags[which],
               (long long)(low > 0 ? low : high));
    if (low > 0 && has_high) str_printf(text, " or %lld", (long long)high);
}

char *tensor_parallel_problem(const ModelConfig *model, int t, const TensorParallelOptions *options,
                              char **hint) {
    if (options->sequence_parallel && options->overlap_chunks) {
        *hint = xstrdup("leave one of them out");
        return xstrdup(
            "--overlap-tensor cuts all-reduces into pieces, and with --sequence-parallel there are none");
    }
    Sizes s = {*model, t, options->sequence_parallel};
    Size which = misfit(&s);
    if (which == SIZE_T) return NULL;
    Str help = {0};
    offer(&help, &s, SIZE_T);
    offer(&help, &s, which);
    *hint = help.data;
    long long value = *value_of(&s, which);
    if (which == SIZE_KEY_HEADS)
        return xprintf("--num-key-value-heads %lld and --tensor-parallel-size %d: neither divides the other",
                       value, t);
    return xprintf("--tensor-parallel-size %d does not divide --%s %lld%s", t, size_flags[which], value,
                   which == SIZE_SEQUENCE ? ", which --sequence-parallel needs" : "");
}
