/* When all ranks wait for each other, none of them can say so: a rank that waits in an all_reduce does not know that
 * another one waits in a recv. So rank 0, when it has waited for a while, asks the others what they wait for. Those that
 * wait answer; one that works does not, and is waited for. When all have answered a few times and none has moved in
 * between, nobody ever will. */
#include "common/comm/group.h"

#include "common/comm/transport.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_ASK = 0, TAG_ANSWER = 1, ENOUGH = 5, MOST_NAMED = 8 };
static int questions; /* that rank 0 has asked each of the others; that another one has answered */
static int missing;   /* answers, on rank 0 */
static const double PAUSE_SECONDS = 0.5; /* between questions: time for what is on its way to arrive */

typedef struct {
    int64_t moves;
    CommHeader waits_for;
    char group[32];
} Answer;

static Answer answer_now(int64_t moves, const GroupRequest *waits_for) {
    Answer a = {.moves = moves, .waits_for = request_header(waits_for)};
    snprintf(a.group, sizeof a.group, "%s", waits_for->group->comm.name);
    return a;
}

/* Rank r, which is not 0, shares memory with rank 0. */
static bool hears_bell(int r) { return r > 0 && world.machine[r] == world.machine[0]; }

bool stall_rings(void) { return hears_bell(world.rank); }

static bool there(int from, int tag) {
    int yes;
    MPI_Iprobe(from, tag, MPI_COMM_WORLD, &yes, MPI_STATUS_IGNORE);
    return yes;
}

_Noreturn static void everyone_waits(const Answer *answers) {
    Str text = {0};
    for (int r = 0; r < world.size && r < MOST_NAMED; r++) {
        const CommHeader *h = &answers[r].waits_for;
        CommCall call = {.kind = (CommKind)h->kind,
                         .type = (ElementType)h->type,
                         .reduction = (Reduction)h->reduction,
                         .peer = h->peer,
                         .count = h->count};
        str_printf(&text, "%srank %d in %s (call %lld of group '%s')", r ? ", " : "", r,
                   comm_call_text(&call).text, (long long)h->number, answers[r].group);
    }
    fail(1, "every rank of a group makes the same calls in the same order, and every send has its recv",
         "every rank waits for another, for ever: %s%s", text.data, world.size > MOST_NAMED ? " ..." : "");
}

static void ask_and_judge(Answer mine) {
    static Answer *answers; /* to the question that is open */
    static int unmoved;
    static double asked_at;
    if (!answers) answers = xcalloc((size_t)world.size, sizeof *answers);
    if (missing > 0) {
        for (int r = 1; r < world.size; r++) {
            if (!there(r, TAG_ANSWER)) continue;
            Answer a;
            MPI_Recv(&a, sizeof a, MPI_BYTE, r, TAG_ANSWER, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (a.moves != answers[r].moves) unmoved = 0;
            answers[r] = a;
            missing--;
        }
        if (missing > 0) return;
        if (++unmoved > ENOUGH) everyone_waits(answers);
    }
    if (now_seconds() < asked_at + PAUSE_SECONDS) return;
    if (mine.moves != answers[0].moves) unmoved = 0;
    answers[0] = mine;
    asked_at = now_seconds();
    missing = world.size - 1;
    questions++;
    for (int r = 1; r < world.size; r++) {
        MPI_Send(NULL, 0, MPI_BYTE, r, TAG_ASK, MPI_COMM_WORLD);
        if (hears_bell(r)) bell_ring(world.seat[r]);
    }
}

static void answer(const Answer *mine) {
    MPI_Recv(NULL, 0, MPI_BYTE, 0, TAG_ASK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Send(mine, sizeof *mine, MPI_BYTE, 0, TAG_ANSWER, MPI_COMM_WORLD);
    questions++;
}

void stall_look(int64_t moves, const GroupRequest *waits_for) {
    Answer mine = answer_now(moves, waits_for);
    if (world.rank == 0)
        ask_and_judge(mine);
    else if (there(0, TAG_ASK))
        answer(&mine);
}

void stall_close(void) {
    int asked = questions;
    MPI_Request request;
    MPI_Ibcast(&asked, 1, MPI_INT, 0, MPI_COMM_WORLD, &request);
    wait_for_mpi(&request);
    Answer nothing = {0};
    while (world.rank > 0 && questions < asked) answer(&nothing);
    for (; world.rank == 0 && missing > 0; missing--)
        MPI_Recv(&nothing, sizeof nothing, MPI_BYTE, MPI_ANY_SOURCE, TAG_ANSWER, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
}
