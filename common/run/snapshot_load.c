/* Each rank reads what is its own out of the files of a checkpoint. */
#include "common/run/stored.h"
#include "common/run/snapshot.h"

#include <stdlib.h>
#include <string.h>

/* What of the tensors is meant, beside the weights. */
static const char *const moments[] = {"m.", "v."};

static bool is_moment(const char *name) {
    return strncmp(name, moments[0], 2) == 0 || strncmp(name, moments[1], 2) == 0;
}

static void read_tensor(Stored *stored, const char *prefix, const Param *p, Tensor *to) {
    if (!to->data) return; /* SGD has one moment */
    char *name = xprintf("%s%s", prefix, p->name);
    stored_read(stored, name, p, to);
    free(name);
}

/* The weights of params and, unless NULL, the optimizer's moments, which are of the same parameters. */
static void read_params(Stored *stored, const Params *params, Optimizer *optimizer) {
    for (int i = 0; i < params->count; i++) {
        Param *p = params->items[i];
        read_tensor(stored, "", p, &p->data);
        param_changed(p);
        if (!optimizer) continue;
        read_tensor(stored, moments[0], p, &optimizer->m[i]);
        read_tensor(stored, moments[1], p, &optimizer->v[i]);
    }
}

/* Refuses tensors that no rank has wanted. */
static void check_all_read(const Stored *stored, Comm *comm, bool weights_alone, const char *where) {
    int64_t count = stored_count(stored);
    int32_t *read = xcalloc((size_t)max64(count, 1), sizeof *read);
    for (int64_t i = 0; i < count; i++) read[i] = stored_was_read(stored, i);
    comm_all_reduce(comm, NULL, read, read, count, TYPE_I32, REDUCE_MAX);
    for (int64_t i = 0; i < count; i++) {
        NamedArray tensor = stored_tensor(stored, i);
        CHECK(read[i] || (weights_alone && is_moment(tensor.name)),
              "the file belongs to another model: give the flags it was made with",
              "'%s' has a tensor '%s' that this model lacks", where, tensor.name);
    }
    free(read);
}

/* The checkpoint that rank 0 has found, on every rank, verified by all of them together. */
static Checkpoint *share(const Checkpoint *checkpoint, Comm *comm) {
    int32_t count = checkpoint ? (int32_t)strlen(checkpoint->folder) + 1 : 0;
    comm_broadcast(comm, NULL, &count, 1, TYPE_I32, 0);
    int64_t words = ceil_div(count, sizeof(int32_t));
    char *folder = xcalloc((size_t)words, sizeof(int32_t));
    if (checkpoint) memcpy(folder, checkpoint->folder, (size_t)count);
    comm_broadcast(comm, NULL, folder, words, TYPE_I32, 0);
    Checkpoint *shared = checkpoint_find_again(folder);
    free(folder);
    checkpoint_verify_share(shared, comm->rank, comm->size);
    comm_barrier(comm, NULL); /* nobody reads before all of it is verified */
    return shared;
}

void snapshot_load_parts(const Checkpoint *checkpoint, const Parts *parts) {
    Checkpoint *shared = share(checkpoint, parts->comm);
    Stored *stored = stored_open(shared);
    read_params(stored, parts->optimizer->params, parts->optimizer);
    parts->optimizer->step = shared->step;
    check_all_read(stored, parts->comm, false, shared->folder);
    stored_close(stored);
    checkpoint_close(shared);
}

void snapshot_load_weights(const Checkpoint *checkpoint, Comm *comm, const Params *params) {
    Checkpoint *shared = share(checkpoint, comm);
    Stored *stored = stored_open(shared);
    read_params(stored, params, NULL);
    check_all_read(stored, comm, true, shared->folder);
    stored_close(stored);
    checkpoint_close(shared);
}

void snapshot_load(const Checkpoint *checkpoint, Model *model, Optimizer *optimizer,
                   const Tokenizer *tokenizer) {
    json_t *state = checkpoint_read_json(checkpoint, "state.json");
    snapshot_check_tokenizer(checkpoint, state, tokenizer);
    json_decref(state);
    Comm *alone = comm_self();
    if (optimizer)
        snapshot_load_parts(checkpoint, &(Parts){.comm = alone, .optimizer = optimizer});
    else
        snapshot_load_weights(checkpoint, alone, &model->params);
    comm_close(alone);
}

/* ---- weights of another run ---- */

static Checkpoint *open_named(const char *path) {
    if (file_exists_in(path, "manifest.json")) return checkpoint_find(path);
    Checkpoint *newest = checkpoint_find_latest(path);
    CHECK(newest, "name a checkpoint's folder, a run's, or a safetensors file",
          "--load-parameters-path: there is no checkpoint in '%s'", path);
    return newest;
}

static void warn_tokenizer(const Checkpoint *checkpoint, const Tokenizer *tokenizer) {
    if (!checkpoint_has(checkpoint, "state.json")) return;
    json_t *state = checkpoint_read_json(checkpoint, "state.json");
    if (!snapshot_same_tokenizer(state, tokenizer))
        warn("the weights of '%s' were trained with another tokenizer: a token of theirs is another one here",
             checkpoint->folder);
    json_decref(state);
}

static void load_from(const char *path, Comm *comm, const Params *params, const Tokenizer *tokenizer) {
    static const char end[] = ".safetensors";
    size_t length = strlen(path);
    if (length >= sizeof end && strcmp(path + length + 1 - sizeof end, end) == 0) {
        Stored *stored = stored_open_file(path);
        read_params(stored, params, NULL);
        check_all_read(stored, comm, true, path);
        stored_close(stored);
        return;
    }
    Checkpoint *checkpoint = comm->rank == 0 ? open_named(path) : NULL;
    if (checkpoint) warn_tokenizer(checkpoint, tokenizer);
    snapshot_load_weights(checkpoint, comm, params);
    checkpoint_close(checkpoint);
}

void snapshot_load_parameters(const char *path, Comm *comm, const Params *params,
                              const Tokenizer *tokenizer) {
    Comm *alone = comm ? NULL : comm_self();
    load_from(path, comm ? comm : alone, params, tokenizer);
    if (alone) comm_close(alone);
}
