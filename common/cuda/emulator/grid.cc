/* A grid: its limits, and its blocks one after another, or, where nothing is checked, on OpenMP's threads. */
#include "common/cuda/emulator/inside.h"

extern "C" {
#include "common/base/base.h"
}

#include <numeric>
#include <stdlib.h>
#include <string.h>

bool emulator_checks(void) {
    static const bool on =
        !getenv("SHARD_EMULATOR_CHECKS") || strcmp(getenv("SHARD_EMULATOR_CHECKS"), "0") != 0;
    return on;
}

static uint64_t seed(void) {
    static const char *text = getenv("SHARD_EMULATOR_SEED");
    static const uint64_t value = text ? strtoull(text, NULL, 10) : 0;
    return value;
}

static std::string text_of(dim3 d) {
    return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

/* Those of compute capability 8.0 and later; CUDA C++ Programming Guide, "Technical Specifications". */
static void check_limits(const EmulatorLaunch *l) {
    dim3 g = l->grid, b = l->block;
    uint64_t threads = (uint64_t)b.x * b.y * b.z;
    CHECK(threads >= 1 && threads <= 1024 && b.z <= 64, "1 to 1024 threads, of which z is at most 64",
          "kernel %s (launched at %s:%d): a block of %s is %llu threads", l->kernel, l->file, l->line,
          text_of(b).c_str(), (unsigned long long)threads);
    CHECK(g.x >= 1 && g.y >= 1 && g.z >= 1 && g.x <= 0x7fffffff && g.y <= 65535 && g.z <= 65535,
          "at least 1 each way, at most 65535 in y and z; launch nothing where there is nothing to do",
          "kernel %s (launched at %s:%d): a grid of %s blocks", l->kernel, l->file, l->line,
          text_of(g).c_str());
    CHECK(l->dynamic_bytes <= MOST_SHARED, "make tiles smaller",
          "kernel %s (launched at %s:%d): %zu bytes of shared memory, of at most %zu", l->kernel, l->file,
          l->line, l->dynamic_bytes, MOST_SHARED);
}

/* The block of this thread of the host, made ready for the launch. */
static Block *block_for(const EmulatorLaunch *launch, uint64_t number) {
    static thread_local Block *mine;
    if (!mine) mine = new Block();
    Block *b = mine;
    b->launch = launch;
    b->checks = emulator_checks();
    b->launch_number = (uint32_t)number;
    b->thread_count = (int)(launch->block.x * launch->block.y * launch->block.z);
    b->threads.resize((size_t)b->thread_count);
    b->order.resize((size_t)b->thread_count);
    b->warps.resize(((size_t)b->thread_count + 31) / 32);
    b->head.block_size = launch->block;
    b->head.grid_size = launch->grid;
    b->finding.clear();
    shared_launch(b);
    return b;
}

static void run_block(Block *b, uint64_t number, uint64_t random) {
    dim3 g = b->launch->grid;
    b->head.block = {(unsigned)(number % g.x), (unsigned)(number / g.x % g.y),
                     (unsigned)(number / g.x / g.y)};
    b->random = random;
    block_run(b);
}

/* Serials of all launches so far; begins again before they run out. */
static uint32_t last_serial = 1;

static void run_checked(const EmulatorLaunch *launch, uint64_t number, uint64_t blocks) {
    memory_lock();
    if (last_serial > MOST_SERIAL / 2) {
        memory_forget_serials();
        last_serial = 1;
    }
    Block *b = block_for(launch, number);
    b->serial = last_serial;
    b->launch_serial = last_serial + 1;
    b->serials.clear();
    b->counts = counts_of(launch->kernel);
    b->counts->launches++;
    b->counts->blocks += (int64_t)blocks;
    /* with a seed: from a random one on, in steps that come to each */
    uint64_t random = seed() ? seed() * 0x9e3779b97f4a7c15u + number : 0, first = 0, step = 1;
    if (random) {
        b->random = random;
        first = random_below(b, blocks);
        do step = 1 + random_below(b, blocks);
        while (std::gcd(step, blocks) != 1);
    }
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t block = (first + i * step) % blocks;
        b->serials.push_back({b->serial + 1, block});
        run_block(b, block, random ? random + (block + 1) * 0xbf58476d1ce4e5b9u : 0);
    }
    CHECK(b->serial < MOST_SERIAL, "run with SHARD_EMULATOR_CHECKS=0",
          "kernel %s has more barriers than the emulator can tell apart", launch->kernel);
    last_serial = b->serial;
    memory_unlock();
}

static void run_fast(const EmulatorLaunch *launch, uint64_t number, uint64_t blocks) {
    uint64_t threads = blocks * launch->block.x * launch->block.y * launch->block.z;
#pragma omp parallel if (blocks > 1 && threads > 4096)
    {
        Block *b = block_for(launch, number);
#pragma omp for schedule(dynamic, 4)
        for (uint64_t i = 0; i < blocks; i++)
            run_block(b, i, seed() ? (seed() + i) * 0x9e3779b97f4a7c15u + number : 0);
    }
}

void emulator_run_grid(const EmulatorLaunch *launch) {
    static uint64_t number; /* of launches */
    check_limits(launch);
    uint64_t n = __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED),
             blocks = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z;
    if (emulator_checks())
        run_checked(launch, n, blocks);
    else
        run_fast(launch, n, blocks);
}
