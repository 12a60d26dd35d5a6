/* config_json: a configuration in checkpoints. Keys are the flags' names with underscores
 * (hidden_size), as Python's argparse has them; an enum is its name, a text that was not given is null. */
#ifndef CONFIG_JSON_H
#define CONFIG_JSON_H

#include "common/config/args.h"

#include <jansson.h>

/* All of a Config: what a checkpoint keeps. A new reference. */
json_t *config_to_json(const Config *config);

/* The model in what config_to_json made; every field is checked as a flag would be. `where` is the file that
 * it came from: what is missing or wrong there ends the program, exit 1. */
ModelConfig config_model_from_json(const json_t *json, const char *where);

/* Ends the program, exit 2, naming the first flag whose model differs from the one saved in `where`. */
void config_check_same_model(const ModelConfig *flags, const ModelConfig *saved, const char *where);

/* The same for --optimizer, whose moments could not be loaded: against a whole saved configuration. One that does not
 * say which it was passes. */
void config_check_same_optimizer(const Config *flags, const json_t *saved, const char *where);

/* The flags, but with the batch and the training settings that were saved, where they are there and sound. */
Config config_with_saved(const Config *flags, const json_t *saved);

/* What differs between the flags of a run and the saved ones of the run that it resumes, of all that shapes its numbers:
 * "--seed 2 (was 1), ..."; NULL: nothing. The caller frees it. */
char *config_differences(const Config *flags, const json_t *saved);

#endif
