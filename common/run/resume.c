#include "common/run/resume.h"

#include "common/config/config_json.h"
#include "common/run/snapshot.h"

#include <stdlib.h>

/* The learning rate is what a loss curve shows at once: the rate of the next step, by the schedule of these flags and by
 * the saved one, where the two differ. */
static void print_rates(const Config *config, const json_t *saved, int64_t step, Str *text) {
    Config before = config_with_saved(config, saved);
    double is = schedule_lr(config, step), was = schedule_lr(&before, step);
    if (step >= config->max_steps || is == was) return;
    str_printf(text, "; the learning rate of step %lld is %.4g, as saved it would have been %.4g",
               (long long)step + 1, is, was);
}

static void warn_differences(const Config *config, const json_t *saved, int64_t step) {
    char *differences = config_differences(config, saved);
    if (!differences) return;
    Str text = {0};
    str_printf(&text, "the run goes on with other flags than it was saved with: %s", differences);
    print_rates(config, saved, step, &text);
    warn("%s", text.data);
    str_free(&text);
    free(differences);
}

static int64_t saved_position(const json_t *state, const char *where, int64_t T) {
    const json_t *value = json_object_get(state, "next_window");
    int64_t windows = json_integer_value(value);
    CHECK(json_is_integer(value) && windows >= 0 && windows <= INT64_MAX / 4 / T,
          "the file is damaged or not a checkpoint's; take another checkpoint",
          "'%s' does not say how many windows were consumed (next_window)", where);
    return windows;
}

Checkpoint *resume_open(const Config *config, const Tokenizer *tokenizer, int64_t *next_window) {
    Checkpoint *checkpoint = checkpoint_find_latest(config->output_dir);
    CHECK(checkpoint, "run once without --resume", "there is no checkpoint in '%s' to resume",
          config->output_dir);
    char *path = checkpoint_path(checkpoint, "state.json");
    json_t *state = checkpoint_read_json(checkpoint, "state.json");
    const json_t *saved = json_object_get(state, "config");
    snapshot_check_tokenizer(checkpoint, state, tokenizer);
    ModelConfig saved_model = config_model_from_json(saved, path);
    config_check_same_model(&config->model, &saved_model, checkpoint->folder);
    config_check_same_optimizer(config, saved, checkpoint->folder);
    *next_window = saved_position(state, path, config->model.T);
    warn_differences(config, saved, checkpoint->step);
    json_decref(state);
    free(path);
    return checkpoint;
}

int64_t resume_newest(const Config *config, Model *model, Optimizer *optimizer, const Tokenizer *tokenizer) {
    int64_t windows;
    Checkpoint *checkpoint = resume_open(config, tokenizer, &windows);
    snapshot_load(checkpoint, model, optimizer, tokenizer);
    checkpoint_close(checkpoint);
    return windows;
}
