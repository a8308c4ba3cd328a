/* Four int8_t or two int16_t in a word: instructions of the DSP extension, and their twins in C. */
#ifndef PP_SIMD_H
#define PP_SIMD_H

#include <stdint.h>

/* Unaligned, in the order of the memory. */
static inline uint32_t pp_load_s8x4(const int8_t *from)
{
    uint32_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
}

static inline void pp_store_s8x4(int8_t *to, uint32_t word)
{
    __builtin_memcpy(to, &word, sizeof word);
}

static inline int32_t pp_low_half(uint32_t word)
{
    return (int16_t)(word & 0xFFFFU);
}

static inline int32_t pp_high_half(uint32_t word)
{
    return (int32_t)word >> 16;
}

static inline int32_t pp_half(uint32_t word, uint32_t is_high)
{
    return is_high ? pp_high_half(word) : pp_low_half(word);
}

#if defined(__ARM_FEATURE_DSP)

/* SSUB8 leaves in GE which differences are not negative; SEL takes those bytes from its first operand. */
static inline uint32_t pp_max_s8x4(uint32_t a, uint32_t b)
{
    uint32_t larger;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(larger) : "r"(a), "r"(b));
    return larger;
}

static inline uint32_t pp_min_s8x4(uint32_t a, uint32_t b)
{
    uint32_t smaller;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %2, %1" : "=&r"(smaller) : "r"(a), "r"(b));
    return smaller;
}

/* Bytes 0 and 2 added to the halves of a sum, which must not overflow; bytes 1 and 3. */
static inline uint32_t pp_add_even(uint32_t sum, uint32_t bytes)
{
    __asm__("sxtab16 %0, %0, %1" : "+r"(sum) : "r"(bytes));
    return sum;
}

static inline uint32_t pp_add_odd(uint32_t sum, uint32_t bytes)
{
    __asm__("sxtab16 %0, %0, %1, ror #8" : "+r"(sum) : "r"(bytes));
    return sum;
}

/* Bytes 0 and 2, or 1 and 3, as halves. */
static inline uint32_t pp_even(uint32_t bytes)
{
    uint32_t halves;
    __asm__("sxtb16 %0, %1" : "=r"(halves) : "r"(bytes));
    return halves;
}

static inline uint32_t pp_odd(uint32_t bytes)
{
    uint32_t halves;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(bytes));
    return halves;
}

/* The low halves of two words as one, a's below; the high halves. */
static inline uint32_t pp_low_halves(uint32_t a, uint32_t b)
{
    uint32_t halves;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(halves) : "r"(a), "r"(b));
    return halves;
}

static inline uint32_t pp_high_halves(uint32_t a, uint32_t b)
{
    uint32_t halves;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(halves) : "r"(a), "r"(b));
    return halves;
}

/* Four values, their low bytes in a word, a's lowest. */
static inline uint32_t pp_join_bytes(int32_t a, int32_t b, int32_t c, int32_t d)
{
    uint32_t bytes = (uint32_t)a;
    __asm__("bfi %0, %1, #8, #8\n\tbfi %0, %2, #16, #8\n\tbfi %0, %3, #24, #8"
            : "+&r"(bytes) : "r"(b), "r"(c), "r"(d));
    return bytes;
}

/* Both halves times both multipliers. */
static inline int32_t pp_multiply_two(uint32_t values, uint32_t multipliers, int32_t sum)
{
    int32_t total;
    __asm__("smlad %0, %1, %2, %3" : "=r"(total) : "r"(values), "r"(multipliers), "r"(sum));
    return total;
}

static inline int32_t pp_saturate_s8(int32_t value)
{
    int32_t saturated;
    __asm__("ssat %0, #8, %1" : "=r"(saturated) : "r"(value));
    return saturated;
}

#else

static inline int32_t pp_byte(uint32_t bytes, uint32_t i)
{
    return (int8_t)(bytes >> (8 * i) & 0xFFU);
}

static inline uint32_t pp_select_s8x4(uint32_t a, uint32_t b, int larger)
{
    uint32_t selected = 0;
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t from = (pp_byte(a, i) >= pp_byte(b, i)) == larger ? a : b;
        selected |= from & (UINT32_C(0xFF) << (8 * i));
    }
    return selected;
}

static inline uint32_t pp_max_s8x4(uint32_t a, uint32_t b)
{
    return pp_select_s8x4(a, b, 1);
}

static inline uint32_t pp_min_s8x4(uint32_t a, uint32_t b)
{
    return pp_select_s8x4(a, b, 0);
}

static inline uint32_t pp_low_halves(uint32_t a, uint32_t b)
{
    return (a & 0xFFFFU) | b << 16;
}

static inline uint32_t pp_high_halves(uint32_t a, uint32_t b)
{
    return a >> 16 | (b & 0xFFFF0000U);
}

static inline uint32_t pp_add_even(uint32_t sum, uint32_t bytes)
{
    const uint32_t high = (uint32_t)(pp_high_half(sum) + pp_byte(bytes, 2));
    return pp_low_halves((uint32_t)(pp_low_half(sum) + pp_byte(bytes, 0)), high);
}

static inline uint32_t pp_add_odd(uint32_t sum, uint32_t bytes)
{
    return pp_add_even(sum, bytes >> 8);
}

static inline uint32_t pp_even(uint32_t bytes)
{
    return pp_add_even(0, bytes);
}

static inline uint32_t pp_odd(uint32_t bytes)
{
    return pp_add_odd(0, bytes);
}

static inline uint32_t pp_join_bytes(int32_t a, int32_t b, int32_t c, int32_t d)
{
    return (uint8_t)a | (uint32_t)(uint8_t)b << 8 | (uint32_t)(uint8_t)c << 16 | (uint32_t)(uint8_t)d << 24;
}

static inline int32_t pp_multiply_two(uint32_t values, uint32_t multipliers, int32_t sum)
{
    return sum + pp_low_half(values) * pp_low_half(multipliers) + pp_high_half(values) * pp_high_half(multipliers);
}

static inline int32_t pp_saturate_s8(int32_t value)
{
    return value < INT8_MIN ? INT8_MIN : value > INT8_MAX ? INT8_MAX : value;
}

#endif

#endif
