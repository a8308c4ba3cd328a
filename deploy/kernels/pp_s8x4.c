/* Sums and clamps of int8_t, four at a time. See pp_s8x4.h. */
#include "pp_s8x4.h"

#include "pp_finish.h"
#include "pp_simd.h"

static inline uint32_t pp_repeated(int32_t value)
{
    return (uint8_t)value * UINT32_C(0x01010101);
}

void pp_clamp_s8(int8_t *values, size_t size, int8_t low, int8_t high)
{
    const uint32_t lows = pp_repeated(low);
    const uint32_t highs = pp_repeated(high);
    size_t i = 0;
    for (; i + 4 <= size; i += 4) {
        pp_store_s8x4(values + i, pp_min_s8x4(pp_max_s8x4(pp_load_s8x4(values + i), lows), highs));
    }
    for (; i < size; i++) {
        values[i] = (int8_t)pp_clamp(values[i], low, high);
    }
}

static inline int32_t pp_sum(uint32_t pair, uint32_t multipliers, int32_t constant, uint32_t shift)
{
    return pp_saturate_s8(pp_multiply_two(pair, multipliers, constant) >> shift);
}

void pp_sum_s8x4(const pp_weighted_sum_t *by, const int8_t *a, const int8_t *b, int8_t *output, size_t size)
{
    const uint32_t multipliers = pp_low_halves((uint32_t)by->multiplier_a, (uint32_t)by->multiplier_b);
    const uint32_t lows = pp_repeated(by->low);
    const uint32_t highs = pp_repeated(by->high);
    const int32_t constant = by->constant;
    const uint32_t shift = by->shift;
    size_t i = 0;
    for (; i + 4 <= size; i += 4) {
        const uint32_t bytes_a = pp_load_s8x4(a + i);
        const uint32_t bytes_b = pp_load_s8x4(b + i);
        const uint32_t even_a = pp_even(bytes_a);
        const uint32_t even_b = pp_even(bytes_b);
        const uint32_t odd_a = pp_odd(bytes_a);
        const uint32_t odd_b = pp_odd(bytes_b);
        const uint32_t sums = pp_join_bytes(pp_sum(pp_low_halves(even_a, even_b), multipliers, constant, shift),
                                            pp_sum(pp_low_halves(odd_a, odd_b), multipliers, constant, shift),
                                            pp_sum(pp_high_halves(even_a, even_b), multipliers, constant, shift),
                                            pp_sum(pp_high_halves(odd_a, odd_b), multipliers, constant, shift));
        pp_store_s8x4(output + i, pp_min_s8x4(pp_max_s8x4(sums, lows), highs));
    }
    for (; i < size; i++) {
        const int32_t total = a[i] * by->multiplier_a + b[i] * by->multiplier_b + by->constant;
        output[i] = (int8_t)pp_clamp(total >> by->shift, by->low, by->high);
    }
}
