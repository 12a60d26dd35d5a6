/* Does what tests/test_fsdp_not_finite.sh asks for: fully sharded training in which one element of one weight, on the
 * device that keeps it, stops being a number after the first step.
 *     mpiexec -n 4 fsdp_not_finite STAGE PREFETCH SHARD_GROUP */
#include "tests/sharded_with.h"
#include "tests/records.h"

static void spoil(Sharded *s, const char *name) {
    Params *mine = fsdp_params(s->fsdp);
    for (int i = 0; i < mine->count; i++) {
        Param *p = mine->items[i];
        if (!strcmp(p->name, name) && p->slice.from == 0) set_real_at(&p->data, 0, (real)NAN);
    }
    fsdp_updated(s->fsdp);
}

int main(int argc, char **argv) {
    Comm *world = comm_world();
    if (argc != 4) fail(2, NULL, "usage: fsdp_not_finite STAGE PREFETCH SHARD_GROUP");
    ModelConfig model = awkward_model();
    model.T = 9;
    Config c = record_config(world, &model, 1, 2);
    c.recompute = true;
    c.zero_stage = atoi(argv[1]);
    RandomTokens tokens = random_tokens(&c, 1, 0.2);
    FsdpOptions options = {.stage = atoi(argv[1]), .prefetch = atoi(argv[2]), .overlap = true};
    Sharded *s = sharded_with(&c, &options, atoi(argv[3]), world, device_new_cpu(0), &tokens.dataset);
    MetricsRow row;
    sharded_step(s, 0, &row);
    spoil(s, "blocks.1.ffn_up.weight");
    sharded_step(s, 1, &row);
    fprintf(stderr, "the second step ended\n");
    return 0;
}
