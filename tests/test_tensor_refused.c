/* TEST variants: float asan
 * Models that cannot be cut over so many devices are refused in one line, with the nearest sizes that can. And mistakes that
 * a placement gives away are refused by an op, before they do harm. */
#define _GNU_SOURCE
#include "tests/expect_exit.h"
#include "tests/tap.h"
#include "tests/tensor_parallel.h"

static const ModelConfig fine = {.V = 307, .C = 48, .F = 96, .L = 1, .H = 8, .K = 2, .T = 64};

static void is_refused(ModelConfig m, int t, TensorParallelOptions options, const char *what,
                       const char *help) {
    char *hint = NULL, *problem = tensor_parallel_problem(&m, t, &options, &hint);
    ok(problem && strstr(problem, what) == problem && !strchr(problem, '\n'), "%s", problem ? problem : what);
    ok(hint && !strcmp(hint, help), "... %s", hint ? hint : "no hint");
    free(problem);
    free(hint);
}

static void is_taken(ModelConfig m, int t, bool sequence_parallel, const char *name) {
    char *hint = NULL, *problem = tensor_parallel_problem(
                           &m, t, &(TensorParallelOptions){.sequence_parallel = sequence_parallel}, &hint);
    ok(!problem, "%s: %s", name, problem ? problem : "is taken");
    free(problem);
}

/* One step with a planted mistake. */
static void step_with(void *mistake) {
    Mesh mesh = mesh_new(comm_self(), (int[MESH_AXES]){1, 1, 1});
    const char *kind;
    ModelConfig model = model_of(2, 1, &kind);
    Config c = config_of(&model, 1);
    RandomTokens tokens = random_tokens(&c, 1, 0.2);
    Slot s = slot_new(&c, &mesh, (TensorParallelOptions){0}, *(Mistake *)mistake);
    slot_gradient(&s, &tokens.dataset, 0);
    exit(0);
}

static void is_given_away(Mistake mistake, const char *line) {
    Exit e = expect_exit(step_with, &mistake);
    ok(mistake_texts[mistake].found == FOUND_REFUSED && refused(&e, 1, line), "%s: %s",
       mistake_texts[mistake].what, e.text);
}

int main(void) {
    const TensorParallelOptions plain = {0}, sequence = {.sequence_parallel = true};
    is_taken(fine, 1, true, "one device");
    is_taken(fine, 4, true, "fewer key heads than devices");
    is_taken(fine, 8, true, "a head each");
    ModelConfig m = fine;
    m.V = 5;
    is_taken(m, 8, true, "fewer words than devices");
    m.T = 63;
    is_taken(m, 8, false, "any sequence without sequence parallel");
    is_refused(
        m, 8, sequence,
        "--tensor-parallel-size 8 does not divide --max-seq-length 63, which --sequence-parallel needs",
        "use --tensor-parallel-size 1, or --max-seq-length 56 or 64");
    is_refused(fine, 3, plain, "--tensor-parallel-size 3 does not divide --num-attention-heads 8",
               "use --tensor-parallel-size 2 or 4");
    m = fine;
    m.K = 1;
    is_refused(m, 3, plain, "--tensor-parallel-size 3 does not divide --num-attention-heads 8",
               "use --tensor-parallel-size 2 or 4, or --num-attention-heads 6 or 12");
    m = fine;
    m.F = 100;
    is_refused(m, 8, plain, "--tensor-parallel-size 8 does not divide --intermediate-size 100",
               "use --tensor-parallel-size 4, or --intermediate-size 96 or 104");
    m = fine;
    m.H = m.K = 12;
    m.K = 6;
    is_refused(m, 4, plain, "--num-key-value-heads 6 and --tensor-parallel-size 4: neither divides the other",
               "use --tensor-parallel-size 3 or 6, or --num-key-value-heads 4 or 12");
    is_refused(fine, 2, (TensorParallelOptions){.sequence_parallel = true, .overlap_chunks = 4},
               "--overlap-tensor cuts all-reduces into pieces, and with --sequence-parallel there are none",
               "leave one of them out");
    Mistake none = MISTAKE_NONE;
    Exit e = expect_exit(step_with, &none);
    ok(e.status == 0, "without a mistake nothing is refused");
    is_given_away(MISTAKE_COPY,
                  "op_linear: 'position.weight' is Replicate on the mesh axis 'tensor', must be Private");
    is_given_away(MISTAKE_REDUCE, "op_add: ");
    is_given_away(MISTAKE_BIAS,
                  "op_linear: 'blocks.0.attention_out.bias' would be added once for each device");
    return tap_done();
}
