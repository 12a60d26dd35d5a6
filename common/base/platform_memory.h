/* platform_memory: memory that processes have in common (platform.c). */
#ifndef PLATFORM_MEMORY_H
#define PLATFORM_MEMORY_H

#include <stdint.h>

/* Memory that other processes of this machine can map: a file that lies in memory, outside /dev/shm, which is small in
 * a container. A new one holds zeros, which take no memory before they are touched or reserved. Others open it by its
 * path until its maker calls platform_memory_unname. The functions return a file, or -1 and errno. */
typedef struct {
    char text[64];
} MemoryPath;
int platform_memory_new(int64_t bytes, MemoryPath *path);
int platform_memory_open(const MemoryPath *path);
void platform_memory_unname(const MemoryPath *path);
/* From now on touching these bytes cannot fail. 0, or an errno: there is no room for them. */
int platform_memory_reserve(int file, int64_t offset, int64_t bytes);

#endif
