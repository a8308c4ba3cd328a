/* int8_t as int16_t, and back. See pp_kernels.h. */
#include "pp_kernels.h"
#include "pp_simd.h"

#if defined(__ARM_FEATURE_DSP)

/* The lower halves of both, and the upper halves. */
static inline uint32_t pp_lower(uint32_t first, uint32_t second)
{
    uint32_t word;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(word) : "r"(first), "r"(second));
    return word;
}

static inline uint32_t pp_upper(uint32_t first, uint32_t second)
{
    uint32_t word;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(word) : "r"(first), "r"(second));
    return word;
}

static inline void pp_store(int16_t *to, uint32_t word)
{
    __builtin_memcpy(to, &word, sizeof word);
}

static inline uint32_t pp_load(const int16_t *from)
{
    uint32_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
}

static inline void pp_widen_s8x4(const int8_t *input, int16_t *output)
{
    const uint32_t bytes = pp_load_s8x4(input);
    uint32_t even, odd;
    __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(bytes));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(bytes));
    pp_store(output, pp_lower(even, odd));
    pp_store(output + 2, pp_upper(even, odd));
}

/* Two int16_t as two int8_t in the lower half. */
static inline uint32_t pp_bytes(uint32_t halves)
{
    const uint32_t bytes = halves & 0x00FF00FFU;
    return bytes | (bytes >> 8);
}

static inline void pp_narrow_s8x4(const int16_t *input, int8_t *output)
{
    pp_store_s8x4(output, pp_lower(pp_bytes(pp_load(input)), pp_bytes(pp_load(input + 2))));
}

#endif

void pp_widen_s8(const int8_t *input, int16_t *output, size_t size, size_t padded)
{
    const int8_t *const end = input + size;
    const int16_t *const padded_end = output + padded;
#if defined(__ARM_FEATURE_DSP)
    for (; end - input >= 4; input += 4, output += 4) {
        pp_widen_s8x4(input, output);
    }
#endif
    while (output != padded_end) {
        *output++ = input != end ? *input++ : 0;
    }
}

void pp_narrow_s8(const int16_t *input, int8_t *output, size_t size)
{
    size_t i = 0;
#if defined(__ARM_FEATURE_DSP)
    for (; i + 8 <= size; i += 8) {
        pp_narrow_s8x4(input + i, output + i);
        pp_narrow_s8x4(input + i + 4, output + i + 4);
    }
#endif
    for (; i < size; i++) {
        output[i] = (int8_t)input[i];
    }
}
