#include "common/cuda/emulator/streams.h"

extern "C" {
#include "common/base/base.h"
}

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <set>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

using std::chrono::steady_clock;

/* With so much work waiting it is begun, although nobody waits for it. */
static const size_t MANY = 4096;

struct Wait {
    cudaStream_t stream;
    uint64_t number;
};

/* Never freed: the worker may be at it when the program ends. */
struct Scheduler {
    std::mutex mutex;
    std::condition_variable more, less; /* for the worker; for those who wait for it */
    std::vector<cudaStream_t> streams;
    std::vector<Wait *> waits;
    Clock host; /* what the host has waited for */
    uint64_t issued = 0, random = 0;
    size_t waiting = 0; /* pieces of work */
    steady_clock::time_point last_issue;
    steady_clock::duration late;
    std::set<std::string> texts;

    bool started = false, ending = false;
    pthread_t worker, ended_by;
    cudaStream_t running = NULL;
    const Work *running_work = NULL;
};
static Scheduler *sched;

/* ---- the host's threads, and processes ---- */

static std::unique_lock<std::mutex> locked() { return std::unique_lock<std::mutex>(sched->mutex); }

void wait_if_ending(void) {
    if (!sched || !sched->ending || pthread_equal(sched->ended_by, pthread_self())) return;
    for (;;) pause();
}

/* What others destroy at the program's end, kernels do not touch then. */
static void end() {
    auto lock = locked();
    sched->ending = true;
    sched->ended_by = pthread_self();
    if (sched->started && pthread_equal(sched->worker, pthread_self())) return;
    sched->less.wait_for(lock, std::chrono::seconds(2), [] { return !sched->running; });
}

/* A child has the streams, but nobody who does their work. */
static void before_fork() { sched->mutex.lock(); }
static void parent_of_fork() { sched->mutex.unlock(); }
static void child_of_fork() {
    sched->mutex.unlock();
    new (&sched->more) std::condition_variable;
    new (&sched->less) std::condition_variable;
    sched->started = false;
}

static void start() {
    if (sched) return;
    sched = new Scheduler;
    const char *seed = getenv("SHARD_EMULATOR_SEED"), *late = getenv("SHARD_EMULATOR_LATE");
    sched->random = seed ? strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u : 0;
    sched->late = std::chrono::milliseconds(late ? atoi(late) : 20);
    pthread_atfork(before_fork, parent_of_fork, child_of_fork);
    atexit(end);
}

const char *kept_text(const char *text) {
    auto lock = locked();
    return sched->texts.insert(text).first->c_str();
}

/* ---- the worker ---- */

static bool is_wanted() {
    for (const Wait *w : sched->waits)
        if (w->stream->done < w->number) return true;
    for (cudaStream_t stream : sched->streams)
        if (stream->done < stream->wanted) return true;
    return false;
}

/* The stream whose turn it is; NULL: all wait for something. */
static cudaStream_t choose() {
    std::vector<cudaStream_t> ready;
    for (cudaStream_t stream : sched->streams)
        if (!stream->work.empty() && !stream->stuck) ready.push_back(stream);
    if (ready.empty()) return NULL;
    if (!sched->random)
        return *std::min_element(ready.begin(), ready.end(), [](cudaStream_t a, cudaStream_t b) {
            return a->work.front().issued < b->work.front().issued;
        });
    sched->random = sched->random * 6364136223846793005u + 1442695040888963407u;
    return ready[(size_t)(sched->random >> 33) % ready.size()];
}

static void try_all_again() {
    for (cudaStream_t stream : sched->streams) stream->stuck = false;
}

/* Until there is work whose time has come. */
static void await_work(std::unique_lock<std::mutex> &lock) {
    for (;;) {
        if (sched->ending || !sched->waiting)
            sched->more.wait(lock);
        else if (is_wanted() || sched->waiting >= MANY ||
                 steady_clock::now() >= sched->last_issue + sched->late)
            return;
        else
            sched->more.wait_until(lock, sched->last_issue + sched->late);
    }
}

static void *work(void *) {
    auto lock = locked();
    useconds_t nap = 20;
    for (;;) {
        await_work(lock);
        cudaStream_t stream = choose();
        if (!stream) { /* for other processes, then */
            try_all_again();
            lock.unlock();
            usleep(nap);
            nap = std::min<useconds_t>(2 * nap, 500);
            lock.lock();
            continue;
        }
        Work *now = &stream->work.front();
        sched->running = stream;
        sched->running_work = now;
        lock.unlock();
        bool done = now->step();
        order_look_at_kernel();
        lock.lock();
        sched->running = NULL;
        stream->stuck = !done;
        if (done) {
            stream->done = now->number;
            stream->work.pop_front();
            sched->waiting--;
            nap = 20;
            try_all_again();
        }
        sched->less.notify_all();
    }
    return NULL;
}

static void start_worker() {
    if (sched->started) return;
    sched->started = true;
    sigset_t all, before; /* signals are the host's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    CHECK(pthread_create(&sched->worker, NULL, work, NULL) == 0, "close other programs",
          "no thread for the work of streams");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(sched->worker);
}

const Work *work_running(cudaStream_t *stream) {
    if (!sched || !sched->running || !pthread_equal(sched->worker, pthread_self())) return NULL;
    if (stream) *stream = sched->running;
    return sched->running_work;
}

/* ---- what the host does with streams ---- */

static void join(Clock *to, const Clock &from) {
    to->resize(std::max(to->size(), from.size()));
    for (size_t i = 0; i < from.size(); i++) (*to)[i] = std::max((*to)[i], from[i]);
}

cudaStream_t stream_new(int device) {
    start();
    auto lock = locked();
    cudaStream_t stream = new CUstream_st{(int)sched->streams.size(), device, false, 0, {0}, {}, {}, 0};
    sched->streams.push_back(stream);
    return stream;
}

void emulator_enqueue(cudaStream_t stream, const char *what, std::function<bool()> step) {
    CHECK(stream, "issue it to a queue of the device", "'%s' is given to the stream of all streams", what);
    wait_if_ending();
    const char *kept = kept_text(what);
    auto lock = locked();
    start_worker();
    join(&stream->clock, sched->host);
    stream->clock.resize(std::max(stream->clock.size(), (size_t)stream->number + 1));
    stream->clock[(size_t)stream->number] = ++stream->issued;
    stream->work.push_back({kept, std::move(step), stream->issued, ++sched->issued, stream->clock});
    sched->last_issue = steady_clock::now();
    if (++sched->waiting == 1 || sched->waiting >= MANY) sched->more.notify_one();
}

Mark stream_mark(cudaStream_t stream) {
    auto time = std::make_shared<double>(0);
    emulator_enqueue(stream, "an event", [=] { return *time = now_seconds(), true; });
    Mark mark = stream_last(stream);
    mark.time = time;
    return mark;
}

Mark stream_last(cudaStream_t stream) {
    auto lock = locked();
    return {stream, stream->issued, stream->clock, NULL};
}

bool mark_passed(const Mark &mark) { return !mark.stream || mark.stream->done >= mark.number; }

void stream_after(cudaStream_t stream, const Mark &mark) {
    if (!mark.stream) return;
    {
        auto lock = locked();
        join(&stream->clock, mark.clock);
    }
    emulator_enqueue(stream, "an event waited for", [=] { return mark_passed(mark); });
}

bool mark_asked(const Mark &mark) {
    if (!mark.stream) return true;
    wait_if_ending();
    auto lock = locked();
    bool passed = mark_passed(mark);
    if (passed)
        join(&sched->host, mark.clock);
    else if (mark.stream->wanted < mark.number) {
        mark.stream->wanted = mark.number;
        sched->more.notify_one();
    }
    return passed;
}

void mark_wait(const Mark &mark) {
    if (!mark.stream) return;
    wait_if_ending();
    auto lock = locked();
    Wait wait = {mark.stream, mark.number};
    sched->waits.push_back(&wait);
    sched->more.notify_one();
    sched->less.wait(lock, [&] { return mark_passed(mark); });
    sched->waits.erase(std::find(sched->waits.begin(), sched->waits.end(), &wait));
    join(&sched->host, mark.clock);
}

void streams_wait(void) {
    if (!sched) return;
    std::vector<Mark> marks;
    {
        auto lock = locked();
        for (cudaStream_t stream : sched->streams)
            marks.push_back({stream, stream->issued, stream->clock, NULL});
    }
    for (const Mark &mark : marks) mark_wait(mark);
}
