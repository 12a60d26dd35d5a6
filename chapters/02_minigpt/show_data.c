#include "chapters/02_minigpt/show_data.h"

#include "common/run/progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static void show_window(const Dataset *data, int64_t T, const int32_t *tokens) {
    Str text = {0};
    for (int64_t t = 0; t < T; t++) {
        if (t > 0) str_printf(&text, "·");
        tokenizer_decode(data->tokenizer, tokens + t, 1, &text);
    }
    Progress *progress = progress_start(stdout, 0, 0, 0);
    progress_text(progress, "the first training window, a dot between tokens", text.data, text.count);
    progress_end(progress);
    str_free(&text);
}

void show_data(const Dataset *data, int64_t T) {
    int32_t *tokens = xmalloc((size_t)(2 * T) * sizeof *tokens), *targets = tokens + T;
    printf("%s, a vocabulary of %" PRId64 "\n", data->name, data->vocab_size);
    data->window(data, SPLIT_TRAIN, 0, T, tokens, targets);
    show_window(data, T, tokens);

    int64_t windows = data->validation_windows(data, T), counted = 0;
    for (int64_t w = 0; w < windows; w++) {
        data->window(data, SPLIT_VALIDATION, w, T, tokens, targets);
        for (int64_t t = 0; t < T; t++) counted += targets[t] != TARGET_MASKED;
    }
    printf("validation: %" PRId64 " windows of %" PRId64 " tokens, %" PRId64 " targets count\n", windows, T,
           counted);
    printf("bytes per token %.3f\n", data_bytes_per_token(data, 0, T));
    if (isfinite(data->trigram_loss)) printf("trigram model %.4f nats per token\n", data->trigram_loss);
    if (isfinite(data->entropy_floor)) printf("entropy floor %.4f nats per token\n", data->entropy_floor);
    free(tokens);
}
