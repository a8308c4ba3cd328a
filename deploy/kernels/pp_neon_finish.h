/* How sums in vectors become activations. See pp_neon.h. */
#ifndef PP_NEON_FINISH_H
#define PP_NEON_FINISH_H

#include <arm_neon.h>
#include <string.h>

#include "pp_neon.h"

#if defined(__clang__)
#define PP_UNROLL _Pragma("unroll")
#else
#define PP_UNROLL _Pragma("GCC unroll 16")
#endif

#define PP_INLINE static inline __attribute__((always_inline))

/* What is the same for all outputs. */
typedef struct {
    int64x2_t zero_point; /* times 2^32 */
    int32x4_t shift;
    int16x8_t low;
    int16x8_t high;
    uint32_t bytes;       /* of an output */
    uint32_t share;
} pp_neon_ending_t;

PP_INLINE pp_neon_ending_t pp_neon_ending(const pp_neon_t *layer)
{
    const pp_neon_ending_t ending = {
        vld1q_dup_s64(&layer->zero_point), vld1q_dup_s32(&layer->shift), vld1q_dup_s16(&layer->low),
        vld1q_dup_s16(&layer->high),       layer->output_bytes,         layer->share,
    };
    return ending;
}

/* (((int64_t)(sum << shift) * multiplier + 2^31) >> 32) + zero_point: the narrowing addition rounds. */
PP_INLINE int32x4_t pp_neon_requantize(int32x4_t sum, int32x4_t multiplier, const pp_neon_ending_t *ending)
{
    const int32x4_t scaled = vshlq_s32(sum, ending->shift);
    const int64x2_t low = vmull_s32(vget_low_s32(scaled), vget_low_s32(multiplier));
    const int64x2_t high = vmull_high_s32(scaled, multiplier);
    return vraddhn_high_s64(vraddhn_s64(low, ending->zero_point), high, ending->zero_point);
}

/* Eight to halfwords, which saturate beyond what a clamp leaves. */
PP_INLINE int16x8_t pp_neon_clamp(int32x4_t a, int32x4_t b, const pp_neon_ending_t *ending)
{
    const int16x8_t q = vqmovn_high_s32(vqmovn_s32(a), b);
    return vminq_s16(vmaxq_s16(q, ending->low), ending->high);
}

/* The first outputs of a few. */
PP_INLINE void pp_neon_store_some(int16x8_t q, const pp_neon_ending_t *ending, int8_t *to, uint32_t count)
{
    int16_t wide[8];
    int8_t narrow[8];
    if (ending->bytes == 1u) {
        vst1_s8(narrow, vmovn_s16(q));
        memcpy(to, narrow, count);
    } else {
        vst1q_s16(wide, q);
        memcpy(to, wide, 2u * count);
    }
}

/* Four, eight or sixteen sums to the outputs from row `first` on; of four or eight only those that there are. */
PP_INLINE void pp_neon_store(const int32x4_t *sums, const int32x4_t *multipliers, int vectors,
                             const pp_neon_ending_t *ending, int8_t *to, uint32_t first)
{
    const uint32_t left = ending->share - first;
    int32x4_t q[4];
    PP_UNROLL
    for (int v = 0; v < vectors; v++) {
        q[v] = pp_neon_requantize(sums[v], multipliers[v], ending);
    }
    to += first * ending->bytes;
    const int16x8_t low = pp_neon_clamp(q[0], q[vectors > 1 ? 1 : 0], ending);
    if (vectors == 1) {
        if (left >= 4u) {
            pp_neon_store_some(low, ending, to, 4);
        } else {
            pp_neon_store_some(low, ending, to, left);
        }
    } else if (vectors == 2) {
        if (left < 8u) {
            pp_neon_store_some(low, ending, to, left);
        } else if (ending->bytes == 1u) {
            vst1_s8(to, vmovn_s16(low));
        } else {
            vst1q_s16((int16_t *)(void *)to, low);
        }
    } else {
        const int16x8_t high = pp_neon_clamp(q[vectors - 2], q[vectors - 1], ending);
        if (ending->bytes == 1u) {
            vst1q_s8(to, vmovn_high_s16(vmovn_s16(low), high));
        } else {
            vst1q_s16((int16_t *)(void *)to, low);
            vst1q_s16((int16_t *)(void *)to + 8, high);
        }
    }
}

#endif
