/* Does what tests/test_fsdp_not_finite.sh asks for: fully sharded training in which after the first step one element stops
 * being a number: of one weight, on the device that keeps it, or of that weight's gradient, on the last device.
 *     mpiexec -n 4 fsdp_not_finite STAGE PREFETCH SHARD_GROUP weight|gradient */
#include "common/tensor/kernels.h"
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

/* dW of "blocks.1.ffn_up": no other product that reads its first factor transposed has this shape, and backward comes to
 * the second block of three as the second. */
static const Kernels *plain;
static Shape of_gradient;
static int times;
static void spoil_product(Queue *q, const Tensor *A, bool a_t, const Tensor *B, bool b_t, const Tensor *bias,
                          Tensor *C, bool add) {
    plain->matmul(q, A, a_t, B, b_t, bias, C, add);
    if (a_t && shape_equal(C->shape, of_gradient) && times++ % 3 == 1) set_real_at(C, 0, (real)NAN);
}

int main(int argc, char **argv) {
    Comm *world = comm_world();
    if (argc != 5) fail(2, NULL, "usage: fsdp_not_finite STAGE PREFETCH SHARD_GROUP weight|gradient");
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
    Kernels spies = *s->device->kernels;
    if (strcmp(argv[4], "weight") == 0) {
        spoil(s, "blocks.1.ffn_up.weight");
    } else if (world->rank == world->size - 1) {
        plain = s->device->kernels;
        of_gradient = SHAPE(model.C, 2 * model.F);
        spies.matmul = spoil_product;
        s->device->kernels = &spies;
    }
    sharded_step(s, 1, &row);
    fprintf(stderr, "the second step ended\n");
    return 0;
}
