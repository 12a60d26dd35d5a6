/* save_and_fail FOLDER RANK: saves a checkpoint while its disk is slow; meanwhile rank RANK, or every one (-1), ends with an
 * error. tests/test_saver_kills.py looks at what is left. */
#define _GNU_SOURCE
#include "common/cpu/device_cpu.h"
#include "common/run/saver.h"
#include "tests/saved.h"

#include <stdlib.h>
#include <unistd.h>

int fsync(int fd) {
    (void)fd;
    usleep(50000);
    return 0;
}

int main(int argc, char **argv) {
    base_set_program(argv[0]);
    Comm *world = comm_world();
    CHECK(argc == 3, "save_and_fail FOLDER RANK", "two words are needed");
    Config config = *config_preset("tiny");
    config.output_dir = argv[1];
    Tokenizer *tokenizer = small_tokenizer();
    Params params = {.device = device_new_cpu(0)};
    char *name = xprintf("weight.%d", world->rank);
    param_start(params_add(&params, name, SHAPE(3000)), (Start){START_NORMAL, 1, 1});
    Parts parts = {world, optimizer_new(&params, &config), false};
    parts.optimizer->step = 1;
    Saver *saver = saver_new(&config, &parts, tokenizer);
    saver_save(saver, 8);
    int who = atoi(argv[2]);
    if (who < 0 || who == world->rank) fail(1, NULL, "the loss of step 2 is not a number");
    comm_barrier(world, NULL); /* the others wait for one that will not come */
    return 0;
}
