/* Memory of the device that kernels may touch, by allocation. */
#include "common/cuda/emulator/inside.h"

extern "C" {
#include "common/base/base.h"
}

#include <algorithm>
#include <map>
#include <mutex>

static std::recursive_mutex mutex; /* whoever ends the program may free memory on the way */
static std::map<uintptr_t, Area> areas;
uint32_t area_generation = 1;

void memory_lock(void) { mutex.lock(); }
void memory_unlock(void) { mutex.unlock(); }

Area *memory_find(uintptr_t p) {
    auto next = areas.upper_bound(p);
    if (next == areas.begin()) return NULL;
    Area *area = &std::prev(next)->second;
    return p - area->begin < area->bytes ? area : NULL;
}

Area *memory_near(uintptr_t p) {
    auto next = areas.upper_bound(p);
    Area *near = NULL;
    size_t shortly = 4096;
    if (next != areas.begin()) {
        Area *area = &std::prev(next)->second;
        size_t distance = p - area->begin - area->bytes;
        if (distance < shortly) near = area, shortly = distance;
    }
    return next != areas.end() && next->first - p < shortly ? &next->second : near;
}

void memory_forget_serials(void) {
    for (auto &each : areas) {
        Area *area = &each.second;
        for (size_t i = 0; i <= (area->bytes - 1) >> area->shift; i++)
            if (area->cells[i].writer | area->cells[i].reader[0])
                area->cells[i] = {area->cells[i].writer ? stamp_new(1, 0, 0) : 0, {0, 0}};
    }
}

void emulator_memory_add(void *open, size_t bytes, const char *name) {
    if (!emulator_checks() || !bytes) return;
    std::lock_guard<std::recursive_mutex> lock(mutex);
    area_start(&areas[(uintptr_t)open], (uintptr_t)open, bytes, name ? name : "memory", false);
    area_generation++;
}

void emulator_memory_remove(void *open) {
    if (!emulator_checks()) return;
    std::lock_guard<std::recursive_mutex> lock(mutex);
    auto found = areas.find((uintptr_t)open);
    if (found == areas.end()) return;
    area_end(&found->second);
    areas.erase(found);
    area_generation++;
}

void emulator_memory_rename(void *open, const char *name) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    Area *area = memory_find((uintptr_t)open);
    if (!area) return;
    area->name = name;
    area_forget(area);
}

/* The area, or NULL where the bytes are of none. */
static Area *whole_area(const void *open, size_t bytes, size_t *offset) {
    Area *area = memory_find((uintptr_t)open);
    if (!area) return NULL;
    *offset = (uintptr_t)open - area->begin;
    return bytes <= area->bytes - *offset ? area : NULL;
}

void emulator_memory_written(void *open, size_t bytes) {
    if (!emulator_checks() || !bytes) return;
    std::lock_guard<std::recursive_mutex> lock(mutex);
    size_t offset;
    Area *area = whole_area(open, bytes, &offset);
    CHECK(area, NULL, "%zu bytes are written, of which some are in no memory of the device", bytes);
    area_split(area, offset, offset + bytes);
    for (size_t i = offset >> area->shift; i <= (offset + bytes - 1) >> area->shift; i++)
        area->cells[i] = {stamp_new(1, 0, 0), {0, 0}};
}

void emulator_memory_read(const void *open, size_t bytes, const char *who) {
    if (!emulator_checks() || !bytes) return;
    std::lock_guard<std::recursive_mutex> lock(mutex);
    size_t offset;
    Area *area = whole_area(open, bytes, &offset);
    CHECK(area, "look at the sizes", "%s reads %zu bytes, of which some are in no memory of the device", who,
          bytes);
    for (size_t i = offset >> area->shift; i <= (offset + bytes - 1) >> area->shift; i++)
        CHECK(area->cells[i].writer, "write it first: what is new is not zero",
              "%s reads byte %zu of '%s', which nobody has written", who, std::max(offset, i << area->shift),
              area->name.c_str());
}
