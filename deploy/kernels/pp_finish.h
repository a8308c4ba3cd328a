/* What plain C kernels share: one weight of a row, and how an accumulator ends. See pp_kernels.h. */
#ifndef PP_FINISH_H
#define PP_FINISH_H

#include "pp_intrinsics.h"
#include "pp_kernels.h"

static inline int32_t pp_clamp(int32_t q, int32_t low, int32_t high)
{
    if (q < low) {
        return low;
    }
    return q > high ? high : q;
}

/* Weight `i` of a packed row: low bits first, two's complement; it may lie across two bytes. */
static inline int32_t pp_packed_weight(const uint8_t *row, uint32_t i, uint32_t bits)
{
    const uint32_t at = i * bits;
    const uint32_t two_bytes = row[at >> 3] | ((uint32_t)row[(at >> 3) + 1U] << 8);
    const uint32_t sign = UINT32_C(1) << (bits - 1U);
    const uint32_t raw = (two_bytes >> (at & 7U)) & (2U * sign - 1U);
    return (int32_t)(raw ^ sign) - (int32_t)sign;
}

static inline int32_t pp_whole_weight(const uint8_t *row, uint32_t i, uint32_t bits)
{
    (void)bits;
    return (int8_t)row[i];
}

/* The shift is proven not to overflow; multiplying says so without shifting a negative number. */
static inline int32_t pp_scaled(int32_t sum, uint32_t shift, int32_t multiplier)
{
    return pp_multiply_high_round(sum * (int32_t)(UINT32_C(1) << shift), multiplier);
}

static inline int32_t pp_requantize(const pp_requantize_t *by, uint32_t channel, int32_t sum)
{
    return pp_clamp(pp_scaled(sum, by->shift, by->multiplier[channel]) + by->zero_point, by->low, by->high);
}

static inline int8_t pp_finish_s8(const pp_requantize_t *by, uint32_t channel, int32_t sum)
{
    const int32_t q = pp_requantize(by, channel, sum);
    return by->table == NULL ? (int8_t)q : ((const int8_t *)by->table)[q];
}

static inline int16_t pp_finish_s16(const pp_requantize_t *by, uint32_t channel, int32_t sum)
{
    const int32_t q = pp_requantize(by, channel, sum);
    return by->table == NULL ? (int16_t)q : pp_interpolate_s16((const int16_t *)by->table, q);
}

#endif
