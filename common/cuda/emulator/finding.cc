/* What is said of a mistake. */
#include "common/cuda/emulator/inside.h"

extern "C" {
#include "common/base/base.h"
}

#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

std::string thread_text(Block *b, int linear) {
    dim3 size = b->launch->block;
    unsigned i = (unsigned)linear;
    return "(" + std::to_string(i % size.x) + "," + std::to_string(i / size.x % size.y) + "," +
           std::to_string(i / (size.x * size.y)) + ")";
}

std::string waiting_text(const Thread *t) {
    if (t->state == AT_WARP_OPERATION) return std::string(" in ") + t->where;
    std::string place = place_text(t->return_address);
    return place.empty() ? std::string(" at ") + t->where + ":" + std::to_string(t->line) : place;
}

/* "FILE:LINE" of a line of addr2line, from this folder; empty: it does not know. */
static std::string plain_place(char *line) {
    line[strcspn(line, " \n")] = 0; /* without "(discriminator 2)" */
    if (!line[0] || strchr(line, '?')) return "";
    char folder[1000];
    size_t length = getcwd(folder, sizeof folder) ? strlen(folder) : 0;
    if (length && strncmp(line, folder, length) == 0 && line[length] == '/') line += length + 1;
    if (strncmp(line, "./", 2) == 0) line += 2;
    return line;
}

std::string place_text(const void *return_address) {
    Dl_info info;
    if (!return_address || !dladdr(return_address, &info) || !info.dli_fbase) return "";
    uintptr_t at = (uintptr_t)return_address - 1; /* in the call, not behind it */
    if (((const Elf64_Ehdr *)info.dli_fbase)->e_type == ET_DYN) at -= (uintptr_t)info.dli_fbase;
    char *command =
        xprintf("addr2line -i -e /proc/%d/exe %#lx 2>/dev/null", (int)getpid(), (unsigned long)at);
    FILE *f = popen(command, "r");
    free(command);
    if (!f) return "";
    std::string inner, outer; /* a function that was put into another has a line for each */
    for (char line[1000]; fgets(line, sizeof line, f);) {
        std::string place = plain_place(line);
        if (place.find("common/cuda/emulator/") != std::string::npos) continue;
        (inner.empty() ? inner : outer) = place;
    }
    pclose(f);
    if (inner.empty()) return "";
    return outer.empty() ? " at " + inner : " in " + inner + " from " + outer;
}

void finding(const char *hint, const char *format, ...) {
    Block *b = emulator_block;
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) text = NULL;
    va_end(arguments);
    b->finding = text ? text : "?";
    free(text);
    b->hint = hint;
    finding_pending(b);
    fiber_switch(b->threads[(size_t)b->current].fiber, &b->scheduler);
    abort(); /* a thread with a finding does not go on */
}

bool finding_pending(Block *b) {
    if (b->pending.empty()) return false;
    b->finding = b->pending;
    b->hint = b->pending_hint;
    return true;
}

void finding_end(Block *b) {
    if (b->finding.empty()) return;
    uint3 at = b->head.block;
    fail(1, b->hint.c_str(), "kernel %s (launched at %s:%d), block (%u,%u,%u): %s", b->launch->kernel,
         b->launch->file, b->launch->line, at.x, at.y, at.z, b->finding.c_str());
}
