/* memcpy, memmove and memset for firmware without libc, and the names that the ARM ABI gives them (RTABI 4.3.4).
 * The empty asm keeps compilers from recognising each loop and replacing it by a call to itself. */
#include <stdint.h>

#include "pp_mem.h"

void *memcpy(void *to, const void *from, size_t count) {
    uint8_t *target = to;
    const uint8_t *source = from;
    while (count-- > 0u) {
        *target++ = *source++;
        __asm volatile("" ::: "memory");
    }
    return to;
}

void *memmove(void *to, const void *from, size_t count) {
    uint8_t *target = to;
    const uint8_t *source = from;
    if (target < source) {
        return memcpy(to, from, count);
    }
    while (count-- > 0u) {
        target[count] = source[count];
        __asm volatile("" ::: "memory");
    }
    return to;
}

void *memset(void *to, int value, size_t count) {
    uint8_t *target = to;
    while (count-- > 0u) {
        *target++ = (uint8_t)value;
        __asm volatile("" ::: "memory");
    }
    return to;
}

#if defined(__arm__)
void __aeabi_memcpy(void *to, const void *from, size_t count);
void __aeabi_memcpy4(void *to, const void *from, size_t count);
void __aeabi_memcpy8(void *to, const void *from, size_t count);
void __aeabi_memmove(void *to, const void *from, size_t count);
void __aeabi_memset(void *to, size_t count, int value);
void __aeabi_memset4(void *to, size_t count, int value);
void __aeabi_memset8(void *to, size_t count, int value);
void __aeabi_memclr(void *to, size_t count);
void __aeabi_memclr4(void *to, size_t count);
void __aeabi_memclr8(void *to, size_t count);

void __aeabi_memcpy(void *to, const void *from, size_t count) { (void)memcpy(to, from, count); }
void __aeabi_memcpy4(void *to, const void *from, size_t count) { (void)memcpy(to, from, count); }
void __aeabi_memcpy8(void *to, const void *from, size_t count) { (void)memcpy(to, from, count); }
void __aeabi_memmove(void *to, const void *from, size_t count) { (void)memmove(to, from, count); }
void __aeabi_memset(void *to, size_t count, int value) { (void)memset(to, value, count); }
void __aeabi_memset4(void *to, size_t count, int value) { (void)memset(to, value, count); }
void __aeabi_memset8(void *to, size_t count, int value) { (void)memset(to, value, count); }
void __aeabi_memclr(void *to, size_t count) { (void)memset(to, 0, count); }
void __aeabi_memclr4(void *to, size_t count) { (void)memset(to, 0, count); }
void __aeabi_memclr8(void *to, size_t count) { (void)memset(to, 0, count); }
#endif
