/* How sums in vectors become activations. See pp_neon.h. */
#ifndef PP_NEON_FINISH_H
#define PP_NEON_FINISH_H

#include <arm_neon.h>
#include <string.h>

#include "pp_neon.h"
#include "pp_neon_inline.h"

/* A vector that stays whole in its register: else compilers keep a half of it in another one, and run out of them. */
#define PP_WHOLE(vector) __asm__("" : "+w"(vector))

/* What is the same for all outputs. */
typedef struct {
    int16x8_t zero_point;
    int8x16_t low_s8;     /* the clamp */
    int8x16_t high_s8;
    int32_t shift;
    int16_t low;
    int16_t high;
    bool plain;           /* outputs are bytes, and sums not shifted */
    uint32_t bytes;       /* of an output */
    uint32_t share;
} pp_neon_ending_t;

PP_INLINE pp_neon_ending_t pp_neon_ending(const pp_neon_t *layer)
{
    const pp_neon_ending_t ending = {
        .zero_point = vdupq_n_s16(layer->zero_point),
        .low_s8 = vdupq_n_s8((int8_t)layer->low),
        .high_s8 = vdupq_n_s8((int8_t)layer->high),
        .shift = layer->shift,
        .low = layer->low,
        .high = layer->high,
        .plain = layer->output_bytes == 1u && layer->shift == 0,
        .bytes = layer->output_bytes,
        .share = layer->share,
    };
    return ending;
}

/* Eight sums to halfwords: (((int64_t)sum * multiplier + 2^31) >> 32) + zero_point, saturated. The product is taken twice, less
 * its lower 32 bits (SQDMULH), and halved, which rounds (SQRSHRN): floor((floor(2 p) + 1) / 2) = floor(p + 1/2). What
 * saturates lies beyond any clamp: the zero point of halfwords is 0. */
PP_INLINE int16x8_t pp_neon_requantize(int32x4_t a, int32x4_t b, const int32x4_t *multipliers,
                                       const pp_neon_ending_t *ending)
{
    const int16x4_t low = vqrshrn_n_s32(vqdmulhq_s32(a, multipliers[0]), 1);
    const int16x8_t q = vqrshrn_high_n_s32(low, vqdmulhq_s32(b, multipliers[1]), 1);
    return vqaddq_s16(q, ending->zero_point);
}

/* The same of sums that may be shifted, clamped. */
PP_INLINE int16x8_t pp_neon_clamped(int32x4_t a, int32x4_t b, const int32x4_t *multipliers,
                                    const pp_neon_ending_t *ending)
{
    const int32x4_t shift = vdupq_n_s32(ending->shift);
    const int16x8_t q = pp_neon_requantize(vshlq_s32(a, shift), vshlq_s32(b, shift), multipliers, ending);
    return vminq_s16(vmaxq_s16(q, vdupq_n_s16(ending->low)), vdupq_n_s16(ending->high));
}

PP_INLINE int8x16_t pp_neon_clamped_s8(int16x8_t low, int16x8_t high, const pp_neon_ending_t *ending)
{
    const int8x16_t q = vqmovn_high_s16(vqmovn_s16(low), high);
    return vminq_s8(vmaxq_s8(q, ending->low_s8), ending->high_s8);
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

/* Sixteen outputs. */
PP_INLINE void pp_neon_store_16(const int32x4_t *sums, const int32x4_t *multipliers, const pp_neon_ending_t *ending,
                                int8_t *to)
{
    if (ending->plain) {
        const int16x8_t low = pp_neon_requantize(sums[0], sums[1], multipliers, ending);
        const int16x8_t high = pp_neon_requantize(sums[2], sums[3], multipliers + 2, ending);
        vst1q_s8(to, pp_neon_clamped_s8(low, high, ending));
        return;
    }
    const int16x8_t low = pp_neon_clamped(sums[0], sums[1], multipliers, ending);
    const int16x8_t high = pp_neon_clamped(sums[2], sums[3], multipliers + 2, ending);
    if (ending->bytes == 1u) {
        vst1q_s8(to, vmovn_high_s16(vmovn_s16(low), high));
    } else {
        vst1q_s16((int16_t *)(void *)to, low);
        vst1q_s16((int16_t *)(void *)to + 8, high);
    }
}

/* Eight outputs. */
PP_INLINE void pp_neon_store_8(const int32x4_t *sums, const int32x4_t *multipliers, const pp_neon_ending_t *ending,
                               int8_t *to)
{
    if (ending->plain) {
        const int16x8_t q = pp_neon_requantize(sums[0], sums[1], multipliers, ending);
        const int8x8_t narrow = vmax_s8(vqmovn_s16(q), vget_low_s8(ending->low_s8));
        vst1_s8(to, vmin_s8(narrow, vget_low_s8(ending->high_s8)));
        return;
    }
    const int16x8_t q = pp_neon_clamped(sums[0], sums[1], multipliers, ending);
    if (ending->bytes == 1u) {
        vst1_s8(to, vmovn_s16(q));
    } else {
        vst1q_s16((int16_t *)(void *)to, q);
    }
}

/* Four, eight or sixteen sums to the outputs from row `first` on; of four or eight only those that there are. */
PP_INLINE void pp_neon_store(const int32x4_t *sums, const int32x4_t *multipliers, int vectors,
                             const pp_neon_ending_t *ending, int8_t *to, uint32_t first)
{
    const uint32_t left = ending->share - first;
    to += first * ending->bytes;
    if (vectors == 4) {
        pp_neon_store_16(sums, multipliers, ending, to);
    } else if (vectors == 2 && left >= 8u) {
        pp_neon_store_8(sums, multipliers, ending, to);
    } else {
        const int32x4_t two[2] = {multipliers[0], multipliers[vectors == 2 ? 1 : 0]};
        const int16x8_t q = pp_neon_clamped(sums[0], sums[vectors == 2 ? 1 : 0], two, ending);
        if (vectors == 1 && left >= 4u) {
            pp_neon_store_some(q, ending, to, 4);
        } else {
            pp_neon_store_some(q, ending, to, left);
        }
    }
}

#endif
