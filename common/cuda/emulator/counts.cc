/* What warps ask of memory. Lanes run one after another, so that their accesses are kept until the warp has met, and put side
 * by side then. */
#include "common/cuda/emulator/inside.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <stdlib.h>
#include <string.h>

/* ---- kernels ---- */

static std::mutex mutex; /* of the map; its counts change under the lock of memory */
static std::map<std::string, EmulatorCounts> kernels;

static std::string plain(const char *kernel) {
    kernel += strspn(kernel, "(");
    return std::string(kernel, strcspn(kernel, "<)"));
}

static void print_at_exit(void) { emulator_counts_print(stderr); }

EmulatorCounts *counts_of(const char *kernel) {
    std::lock_guard<std::mutex> lock(mutex);
    static const char *wanted = getenv("SHARD_EMULATOR_COUNTS");
    static const bool prints = wanted && strcmp(wanted, "0") != 0 && atexit(print_at_exit) == 0;
    (void)prints;
    return &kernels[plain(kernel)];
}

EmulatorCounts emulator_counts(const char *kernel) {
    std::lock_guard<std::mutex> lock(mutex);
    auto found = kernels.find(plain(kernel));
    return found == kernels.end() ? EmulatorCounts() : found->second;
}

void emulator_counts_reset(void) {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto &each : kernels) each.second = EmulatorCounts();
}

void emulator_counts_print(FILE *f) {
    std::lock_guard<std::mutex> lock(mutex);
    fprintf(f, "%-36s %8s %9s %12s %7s %12s %7s %6s %10s %9s\n", "kernel", "launches", "blocks", "sectors",
            "/needed", "shared", "turns/", "worst", "barriers", "atomics");
    for (auto &each : kernels) {
        const EmulatorCounts *c = &each.second;
        if (!c->launches) continue;
        fprintf(f, "%-36s %8lld %9lld %12lld %7.2f %12lld %7.2f %6d %10lld %9lld\n", each.first.c_str(),
                (long long)c->launches, (long long)c->blocks, (long long)c->sectors,
                (double)c->sectors / (double)std::max<int64_t>(1, c->sectors_needed),
                (long long)c->shared_accesses,
                (double)c->shared_turns / (double)std::max<int64_t>(1, c->shared_accesses), c->worst_turns,
                (long long)c->barriers, (long long)c->atomics);
    }
}

/* ---- the log ---- */

/* Of a site's accesses between two meetings of the warp, so many are looked at. */
static const size_t ROWS = 256;

void log_access(AccessLog *log, const Site *site, int lane, uintptr_t p, size_t bytes, bool shared) {
    if (!site->number) return;
    if (log->sites.size() <= site->number) log->sites.resize(site->number + 1);
    SiteLog *&s = log->sites[site->number];
    if (!s) s = new SiteLog();
    if (s->at.empty()) s->at.resize(32 * ROWS);
    if (!s->bytes) log->used.push_back(site->number);
    s->bytes = (uint16_t)bytes;
    s->shared = shared;
    if (s->rows[lane] < ROWS) s->at[(size_t)lane * ROWS + s->rows[lane]++] = p;
}

/* p: ascending, n of them. */
static void count_sectors(const uintptr_t *p, int n, size_t bytes, EmulatorCounts *counts) {
    uintptr_t next_sector = 0, end = 0, wanted = 0; /* what lies before is counted */
    for (int i = 0; i < n; i++) {
        uintptr_t first = std::max(p[i] / 32, next_sector), last = (p[i] + bytes - 1) / 32;
        if (last >= first) counts->sectors += (int64_t)(last - first + 1), next_sector = last + 1;
        uintptr_t begin = std::max(p[i], end);
        if (p[i] + bytes > begin) wanted += p[i] + bytes - begin, end = p[i] + bytes;
    }
    counts->sectors_needed += (int64_t)((wanted + 31) / 32);
}

/* One turn gives each bank one word; several lanes may take it. */
static void count_turns(const uintptr_t *p, int n, size_t bytes, EmulatorCounts *counts) {
    int in_bank[32] = {0}, turns = 1;
    uintptr_t next = 0; /* words before are counted */
    for (int i = 0; i < n; i++) {
        uintptr_t last = (p[i] + bytes - 1) / 4;
        for (uintptr_t word = std::max(p[i] / 4, next); word <= last; word++)
            turns = std::max(turns, ++in_bank[word % 32]);
        next = std::max(next, last + 1);
    }
    counts->shared_accesses++;
    counts->shared_turns += turns;
    counts->worst_turns = std::max(counts->worst_turns, turns);
}

static void count_row(uintptr_t *p, int n, const SiteLog *s, EmulatorCounts *counts) {
    if (!s->shared) {
        if (!std::is_sorted(p, p + n)) std::sort(p, p + n);
        count_sectors(p, n, s->bytes, counts);
        return;
    }
    int together =
        s->bytes <= 4 ? 32 : std::max(1, 128 / s->bytes); /* lanes that take a turn at once, at best */
    for (int i = 0; i < n; i += together) {
        int m = std::min(together, n - i);
        if (!std::is_sorted(p + i, p + i + m)) std::sort(p + i, p + i + m);
        count_turns(p + i, m, s->bytes, counts);
    }
}

void log_flush(AccessLog *log, EmulatorCounts *counts) {
    for (unsigned number : log->used) {
        SiteLog *s = log->sites[number];
        int rows = *std::max_element(s->rows, s->rows + 32);
        for (int r = 0; r < rows; r++) {
            uintptr_t p[32];
            int n = 0;
            for (int lane = 0; lane < 32; lane++)
                if (s->rows[lane] > r) p[n++] = s->at[(size_t)lane * ROWS + (size_t)r];
            count_row(p, n, s, counts);
        }
        memset(s->rows, 0, sizeof s->rows);
        s->bytes = 0;
    }
    log->used.clear();
}
