#include "chapters/02_minigpt/prompt.h"

#include "common/run/machine.h"
#include "common/run/progress.h"
#include "common/run/snapshot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

void print_continuation(const Str *text, const Generated *g, double seconds, int64_t T) {
    if (isatty(STDOUT_FILENO))
        print_harmless(stdout, text->data, text->count);
    else /* a file gets every byte */
        fwrite(text->data, 1, text->count, stdout);
    printf("\n\n%" PRId64 " new tokens in %.2f s (%.0f a second)%s\n", g->new_tokens, seconds,
           (double)g->new_tokens / seconds, g->ended ? ", ended by the model" : "");
    if (g->slides || g->prompt_tokens >= T)
        printf("the text is longer than the window of %" PRId64 " tokens: it went on from the last %" PRId64
               " of them\n",
               T, max64(T / 2, 1));
}

void continue_prompt(const Config *c) {
    Checkpoint *checkpoint = checkpoint_find_latest(c->output_dir);
    CHECK(checkpoint, "train first, or name the run with --output-dir", "there is no checkpoint in '%s'",
          c->output_dir);
    char *path = checkpoint_path(checkpoint, "tokenizer.json");
    Tokenizer *tokenizer = tokenizer_load(path);
    ModelConfig config = snapshot_model_config(checkpoint);
    config.dtype = c->model.dtype;
    Device *device = machine_device(c);
    Model *model = model_new(device, &config, c->seed, &layers_serial);
    snapshot_load(checkpoint, model, NULL, tokenizer);

    Sampling sampling = {c->temperature, c->top_k, c->top_p, c->max_new_tokens, c->seed, 0};
    Str text = {0};
    double began = now_seconds();
    Generated g = generate(model, tokenizer, c->prompt, &sampling, &text);
    double seconds = now_seconds() - began;
    print_continuation(&text, &g, seconds, config.T);

    str_free(&text);
    model_delete(model);
    device_delete(device);
    tokenizer_free(tokenizer);
    checkpoint_close(checkpoint);
    free(path);
}
