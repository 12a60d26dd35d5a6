/* config_json: a configuration in report.json and in checkpoints. Keys are the flags' names with underscores
 * (hidden_size), as Python's argparse has them; an enum is its name, a text that was not given is null. */
#ifndef CONFIG_JSON_H
#define CONFIG_JSON_H

#include "common/args.h"

#include <jansson.h>

/* The flags that the program uses, with its own: the `arguments` of report.json. A new reference. */
json_t *args_to_json(const Program *program, const Config *config);

/* All of a Config: what a checkpoint keeps. A new reference. */
json_t *config_to_json(const Config *config);

/* The model in what config_to_json made; every field is checked as a flag would be. `where` is the file that
 * it came from: what is missing or wrong there ends the program, exit 1. */
ModelConfig config_model_from_json(const json_t *json, const char *where);

/* Ends the program, exit 2, naming the first flag whose model differs from the one saved in `where`. */
void config_check_same_model(const ModelConfig *flags, const ModelConfig *saved, const char *where);

#endif
