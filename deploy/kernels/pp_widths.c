/* int8_t as int16_t, and back. See pp_kernels.h. */
#include "pp_kernels.h"
#include "pp_simd.h"

#if defined(__ARM_FEATURE_DSP)

static inline void pp_store_s16x2(int16_t *to, uint32_t word)
{
    __builtin_memcpy(to, &word, sizeof word);
}

static inline uint32_t pp_load_s16x2(const int16_t *from)
{
    uint32_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
}

static inline void pp_widen_s8x4(const int8_t *input, int16_t *output)
{
    const uint32_t bytes = pp_load_s8x4(input);
    const uint32_t even = pp_even(bytes), odd = pp_odd(bytes);
    pp_store_s16x2(output, pp_low_halves(even, odd));
    pp_store_s16x2(output + 2, pp_high_halves(even, odd));
}

/* Two int16_t as two int8_t in the lower half. */
static inline uint32_t pp_bytes(uint32_t halves)
{
    const uint32_t bytes = halves & 0x00FF00FFU;
    return bytes | (bytes >> 8);
}

static inline void pp_narrow_s8x4(const int16_t *input, int8_t *output)
{
    pp_store_s8x4(output, pp_low_halves(pp_bytes(pp_load_s16x2(input)), pp_bytes(pp_load_s16x2(input + 2))));
}

#endif

void pp_widen_s8(const int8_t *input, int16_t *output, size_t size, size_t padded)
{
    const int8_t *const end = input + size;
    const int16_t *const padded_end = output + padded;
#if defined(__ARM_FEATURE_DSP)
    for (const int8_t *const fours = input + size / 4 * 4; input != fours; input += 4, output += 4) {
        pp_widen_s8x4(input, output);
    }
#endif
    for (; output != padded_end; input++, output++) {
        *output = input < end ? *input : 0;
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
