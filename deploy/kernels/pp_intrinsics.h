/* The one multiply that requantization is made of: SMMULR on cores that have it, and its twins in C. */
#ifndef PP_INTRINSICS_H
#define PP_INTRINSICS_H

#include <stdint.h>

/* Cores that multiply to 32 bits only (Cortex-M0, M0+) would call a library routine for a 64-bit product. */
#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
#define PP_NO_LONG_MULTIPLY
#endif

/* C99 leaves the right shift of a negative number to the compiler; the kernels need it to keep the sign. */
_Static_assert((INT32_C(-3) >> 1) == INT32_C(-2), "right shift of signed integers must be arithmetic");

/* (a * m + 2^31) >> 32, exactly. m is not negative. */
static inline int32_t pp_multiply_high_round(int32_t a, int32_t m)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t high;
    __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(a), "r"(m));
    return high;
#elif defined(PP_NO_LONG_MULTIPLY)
    /* By halves: a = ah * 2^16 + al, m = mh * 2^16 + ml. Both sums of middle terms stay inside int32:
     * 32767 * 65535 + 65534 + 32768 is INT32_MAX. */
    const int32_t ah = a >> 16;
    const int32_t mh = m >> 16;
    const uint32_t al = (uint32_t)a & 0xFFFFU;
    const uint32_t ml = (uint32_t)m & 0xFFFFU;
    const int32_t s = ah * (int32_t)ml + (int32_t)((al * ml) >> 16) + 0x8000;
    const int32_t t = (int32_t)(al * (uint32_t)mh);
    return ah * mh + (s >> 16) + (t >> 16) + (((s & 0xFFFF) + (t & 0xFFFF)) >> 16);
#else
    return (int32_t)(((int64_t)a * m + INT64_C(0x80000000)) >> 32);
#endif
}

#endif
