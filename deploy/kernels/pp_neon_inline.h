/* Loops that compilers unroll, and functions that they inline, whatever they think. */
#ifndef PP_NEON_INLINE_H
#define PP_NEON_INLINE_H

#if defined(__clang__)
#define PP_UNROLL _Pragma("unroll")
#else
#define PP_UNROLL _Pragma("GCC unroll 16")
#endif

#define PP_INLINE static inline __attribute__((always_inline))

#endif
