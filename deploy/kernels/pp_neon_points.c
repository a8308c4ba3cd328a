/* Sums, changes of scale and functions, sixteen activations at a time. See pp_neon_points.h. */
#include "pp_neon_points.h"

#include "pp_finish.h"

static inline int8_t sum_of_one(const pp_weighted_sum_t *by, int8_t a, int8_t b)
{
    const int32_t total = a * by->multiplier_a + b * by->multiplier_b + by->constant;
    return (int8_t)pp_clamp(total >> by->shift, by->low, by->high);
}

#if defined(__ARM_NEON) && defined(__aarch64__)

#include "pp_neon_finish.h"

typedef struct {
    int32x4_t constant;
    int32x4_t shift; /* to the left, negative */
    int16_t a;
    int16_t b;
} sum_t;

/* Eight sums as halfwords; beyond those they saturate, as a clamp to eight bits leaves them. */
PP_INLINE int16x8_t sums(const sum_t *by, int16x8_t a, int16x8_t b)
{
    int32x4_t low = vmlal_n_s16(by->constant, vget_low_s16(a), by->a);
    int32x4_t high = vmlal_high_n_s16(by->constant, a, by->a);
    low = vmlal_n_s16(low, vget_low_s16(b), by->b);
    high = vmlal_high_n_s16(high, b, by->b);
    return vqmovn_high_s32(vqmovn_s32(vshlq_s32(low, by->shift)), vshlq_s32(high, by->shift));
}

PP_INLINE size_t sums_by_16(const pp_weighted_sum_t *given, const int8_t *a, const int8_t *b, int8_t *output, size_t size)
{
    const sum_t by = {vdupq_n_s32(given->constant), vdupq_n_s32(-(int32_t)given->shift), given->multiplier_a,
                      given->multiplier_b};
    const int8x16_t low = vdupq_n_s8((int8_t)given->low);
    const int8x16_t high = vdupq_n_s8((int8_t)given->high);
    size_t i = 0;
    for (; i + 16u <= size; i += 16u) {
        const int8x16_t x = vld1q_s8(a + i);
        const int8x16_t y = vld1q_s8(b + i);
        const int16x8_t first = sums(&by, vmovl_s8(vget_low_s8(x)), vmovl_s8(vget_low_s8(y)));
        const int16x8_t second = sums(&by, vmovl_high_s8(x), vmovl_high_s8(y));
        const int8x16_t q = vqmovn_high_s16(vqmovn_s16(first), second);
        vst1q_s8(output + i, vminq_s8(vmaxq_s8(q, low), high));
    }
    return i;
}

/* The table in sixteen registers, sixty-four entries for each look-up. */
static size_t lookups_by_16(const int8_t *table, const int8_t *input, int8_t *output, size_t size)
{
    const int8x16x4_t a = vld1q_s8_x4(table - 128);
    const int8x16x4_t b = vld1q_s8_x4(table - 64);
    const int8x16x4_t c = vld1q_s8_x4(table);
    const int8x16x4_t d = vld1q_s8_x4(table + 64);
    const uint8x16_t step = vdupq_n_u8(64);
    size_t i = 0;
    for (; i + 16u <= size; i += 16u) {
        uint8x16_t entry = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(input + i)), vdupq_n_u8(128));
        int8x16_t q = vqtbl4q_s8(a, entry);
        entry = vsubq_u8(entry, step);
        q = vqtbx4q_s8(q, b, entry);
        entry = vsubq_u8(entry, step);
        q = vqtbx4q_s8(q, c, entry);
        entry = vsubq_u8(entry, step);
        vst1q_s8(output + i, vqtbx4q_s8(q, d, entry));
    }
    return i;
}

#else

static size_t sums_by_16(const pp_weighted_sum_t *by, const int8_t *a, const int8_t *b, int8_t *output, size_t size)
{
    const size_t whole = size / 16u * 16u;
    for (size_t i = 0; i < whole; i++) {
        output[i] = sum_of_one(by, a[i], b[i]);
    }
    return whole;
}

static size_t lookups_by_16(const int8_t *table, const int8_t *input, int8_t *output, size_t size)
{
    const size_t whole = size / 16u * 16u;
    for (size_t i = 0; i < whole; i++) {
        output[i] = table[input[i]];
    }
    return whole;
}

#endif

void pp_neon_sum_s8(const pp_weighted_sum_t *by, const int8_t *a, const int8_t *b, int8_t *output, size_t size)
{
    for (size_t i = sums_by_16(by, a, b, output, size); i < size; i++) {
        output[i] = sum_of_one(by, a[i], b[i]);
    }
}

void pp_neon_rescale_s8(const pp_weighted_sum_t *by, const int8_t *a, int8_t *output, size_t size)
{
    pp_weighted_sum_t alone = *by;
    alone.multiplier_b = 0;
    pp_neon_sum_s8(&alone, a, a, output, size);
}

void pp_neon_lookup_s8(const int8_t *table, const int8_t *input, int8_t *output, size_t size)
{
    for (size_t i = lookups_by_16(table, input, output, size); i < size; i++) {
        output[i] = table[input[i]];
    }
}
