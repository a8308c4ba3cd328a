/* Block memory functions, which a compiler may also call by itself. Freestanding: no libc has to supply them. */
#ifndef PP_MEM_H
#define PP_MEM_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);

#endif
