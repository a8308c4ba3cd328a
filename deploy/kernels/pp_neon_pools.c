/* Pools, sixteen channels at a time. See pp_neon_points.h. */
#include "pp_finish.h"
#include "pp_neon_points.h"
#include "pp_pool_part.h"

typedef struct {
    int32_t centre; /* what the pixels of a window add to a sum of q - zero_point */
    int32_t multiplier;
} mean_t;

static mean_t mean_of(const pp_pool_t *layer, const pp_part_t *part)
{
    const uint32_t seen = part->rows * part->columns;
    const uint32_t counted = layer->count_padding != 0u ? (uint32_t)layer->window.height * layer->window.width : seen;
    const mean_t mean = {-(int32_t)seen * layer->zero_point_in, layer->multiplier[counted - layer->fewest]};
    return mean;
}

/* Does `take` for each pixel of a part, from one channel on. */
#define PIXELS(part, channel, pixel, take) \
    for (uint32_t row = 0; row < (part)->rows; row++) { \
        const int8_t *pixel = (part)->first + row * (part)->row_bytes + (channel); \
        for (uint32_t left = (part)->columns; left != 0u; left--, pixel += (part)->channels) { \
            take \
        } \
    }

#if defined(__ARM_NEON) && defined(__aarch64__)

#include "pp_neon_finish.h"

enum { MOST_PIXELS = 255 }; /* of which int16 holds the sum */

static void max_of_16(const pp_pool_t *layer, const pp_part_t *part, uint32_t channel, int8_t *output)
{
    int8x16_t largest = vdupq_n_s8((int8_t)layer->low); /* nothing below it comes out */
    PIXELS(part, channel, pixel, largest = vmaxq_s8(largest, vld1q_s8(pixel));)
    vst1q_s8(output + channel, vminq_s8(largest, vdupq_n_s8((int8_t)layer->high)));
}

PP_INLINE void widen(int32x4_t *sums, int16x8_t *low, int16x8_t *high)
{
    sums[0] = vaddw_s16(sums[0], vget_low_s16(*low));
    sums[1] = vaddw_high_s16(sums[1], *low);
    sums[2] = vaddw_s16(sums[2], vget_low_s16(*high));
    sums[3] = vaddw_high_s16(sums[3], *high);
    *low = *high = vdupq_n_s16(0);
}

static void mean_of_16(const pp_pool_t *layer, const pp_part_t *part, uint32_t channel, int8_t *output)
{
    const mean_t mean = mean_of(layer, part);
    const pp_neon_ending_t ending = {
        .zero_point = vdupq_n_s16((int16_t)layer->zero_point_out),
        .low_s8 = vdupq_n_s8((int8_t)layer->low),
        .high_s8 = vdupq_n_s8((int8_t)layer->high),
        .shift = (int32_t)layer->shift,
        .low = layer->low,
        .high = layer->high,
        .plain = layer->shift == 0u,
        .bytes = 1,
    };
    int16x8_t low = vdupq_n_s16(0), high = low;
    int32x4_t sums[4], multipliers[4];
    PP_UNROLL
    for (int v = 0; v < 4; v++) {
        sums[v] = vdupq_n_s32(mean.centre);
        multipliers[v] = vdupq_n_s32(mean.multiplier);
    }
    uint32_t room = MOST_PIXELS;
    PIXELS(part, channel, pixel, {
        const int8x16_t x = vld1q_s8(pixel);
        low = vaddw_s8(low, vget_low_s8(x));
        high = vaddw_high_s8(high, x);
        if (--room == 0u) {
            widen(sums, &low, &high);
            room = MOST_PIXELS;
        }
    })
    widen(sums, &low, &high);
    pp_neon_store_16(sums, multipliers, &ending, output + channel);
}

#endif

static int8_t max_of_one(const pp_pool_t *layer, const pp_part_t *part, uint32_t channel)
{
    int32_t largest = layer->low;
    PIXELS(part, channel, pixel, largest = *pixel > largest ? *pixel : largest;)
    return (int8_t)(largest > layer->high ? layer->high : largest);
}

static int8_t mean_of_one(const pp_pool_t *layer, const pp_part_t *part, uint32_t channel)
{
    const mean_t mean = mean_of(layer, part);
    int32_t sum = mean.centre;
    PIXELS(part, channel, pixel, sum += *pixel;)
    const int32_t q = pp_scaled(sum, layer->shift, mean.multiplier) + layer->zero_point_out;
    return (int8_t)pp_clamp(q, layer->low, layer->high);
}

static void max_part(const pp_pool_t *layer, const pp_part_t *part, int8_t *output)
{
    uint32_t channel = 0;
#if defined(__ARM_NEON) && defined(__aarch64__)
    for (; channel + 16u <= part->channels; channel += 16u) {
        max_of_16(layer, part, channel, output);
    }
#endif
    for (; channel < part->channels; channel++) {
        output[channel] = max_of_one(layer, part, channel);
    }
}

static void mean_part(const pp_pool_t *layer, const pp_part_t *part, int8_t *output)
{
    uint32_t channel = 0;
#if defined(__ARM_NEON) && defined(__aarch64__)
    for (; channel + 16u <= part->channels; channel += 16u) {
        mean_of_16(layer, part, channel, output);
    }
#endif
    for (; channel < part->channels; channel++) {
        output[channel] = mean_of_one(layer, part, channel);
    }
}

void pp_neon_max_pool_s8(const pp_pool_t *layer, const int8_t *input, int8_t *output)
{
    pp_slide(layer, input, output, max_part);
}

void pp_neon_average_pool_s8(const pp_pool_t *layer, const int8_t *input, int8_t *output)
{
    pp_slide(layer, input, output, mean_part);
}
