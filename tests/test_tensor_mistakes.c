/* Each mistake that chapter 08 can plant is found, and by what the chapter says: replicas that differ after an update, or
 * gradients that are not those of one device. (Those that an op refuses: test_tensor_refused.c.)
 *
 * TEST np: 4, all: 2 8
 * TEST variants: double */
#include "tests/ranks.h"
#include "tests/tensor_parallel.h"

#include <stdlib.h>
#include <string.h>

static Comm *world;

/* The loss and the norm of the gradient of one device's first step. */
static void alone(const Config *c, double *loss, double *norm) {
    Training t = training_new(c, c->model.T, 1, 0.2);
    start_anywhere(&t.model->params);
    *loss = training_gradient(&t, 0);
    *norm = optimizer_grad_norm(t.optimizer);
    training_delete(&t);
}

static void test_mistake(const Mesh *mesh, Mistake mistake, int which, bool sequence_parallel) {
    const char *kind;
    ModelConfig model = model_of(which, mesh->size[MESH_TENSOR], &kind);
    Config c = config_of(&model, 1);
    RandomTokens tokens = random_tokens(&c, 1, 0.2);
    double loss, norm;
    alone(&c, &loss, &norm);
    Slot s = slot_new(&c, mesh, (TensorParallelOptions){.sequence_parallel = sequence_parallel}, mistake);
    double loss_off = fabs(slot_gradient(&s, &tokens.dataset, 0) / loss - 1),
           norm_off = fabs(slot_update(&s, 0) / norm - 1);
    int32_t equal = replicas_are_equal(&s), is_one = loss_off <= 1e-10 && norm_off <= 1e-10;
    comm_all_reduce(world, NULL, &equal, &equal, 1, TYPE_I32, REDUCE_SUM);
    equal = equal == world->size;
    MistakeFound want = mistake_texts[mistake].found;
    ok_on_all(world,
              mistake == MISTAKE_NONE  ? equal && is_one
              : want == FOUND_REPLICAS ? !equal
                                       : equal && !is_one,
              "%s: %s: replicas %s, loss off by %.1g, norm by %.1g", kind, mistake_texts[mistake].what,
              equal ? "equal" : "differ", loss_off, norm_off);
    slot_delete(&s);
}

int main(void) {
    world = ranks_world();
    Mesh mesh = mesh_new(world, (int[MESH_AXES]){1, 1, world->size});
    for (int which = 0; which < MODELS; which++) {
        bool shared_heads = which == 1 || which > 2;
        test_mistake(&mesh, MISTAKE_NONE, which, false);
        test_mistake(&mesh, MISTAKE_COPY_UNCHECKED, which, false);
        test_mistake(&mesh, MISTAKE_REDUCE_UNCHECKED, which, false);
        test_mistake(&mesh, MISTAKE_PADDING, which, false);
        test_mistake(&mesh, MISTAKE_UNSUMMED, which, true);
        if (shared_heads) test_mistake(&mesh, MISTAKE_UNSUMMED, which, false);
        if (!shared_heads) test_mistake(&mesh, MISTAKE_FUSED, which, false);
    }
    mesh_close(&mesh);
    comm_close(world);
    return tap_done();
}
