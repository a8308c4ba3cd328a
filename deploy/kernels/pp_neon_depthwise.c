/* Depthwise convolutions of 3x3 taps, each channel a lane, weights in registers along a row. See pp_neon.h. */
#include "pp_neon_windows.h"

enum { BLOCK = 16, PAIRED = 8, TAPS = 9, WORDS = 1 + 2 * BLOCK + TAPS * BLOCK / 4 };

/* The pixels of a row, in steps of one, or of two where both fill a block. */
typedef struct {
    uint32_t count;
    uint32_t step;
} pixels_t;

static inline pixels_t pixels_of(const pp_neon_t *layer, const pp_neon_row_t *row)
{
    const bool paired = layer->share == PAIRED && layer->output_bytes == 1u && row->from_step == PAIRED && row->count > 1u;
    const pixels_t pixels = {row->count, paired ? 2u : 1u};
    return pixels;
}

/* The first channel of the block behind that of `first`; the last block ends with the last channel. */
static inline uint32_t next_block(const pp_neon_t *layer, uint32_t first)
{
    const uint32_t behind = first + BLOCK, share = layer->share;
    return behind >= share || behind + BLOCK <= share ? behind : share - BLOCK;
}

#if defined(__ARM_NEON) && defined(__aarch64__)

#include "pp_neon_finish.h"

typedef struct {
    int32x4_t biases[4];
    int32x4_t multipliers[4];
    int8x16_t weights[TAPS];
} block_t;

PP_INLINE block_t load(const uint32_t *words)
{
    block_t block;
    const int8_t *const weights = (const int8_t *)(words + BLOCK);
    const int32_t *const multipliers = (const int32_t *)words + BLOCK + TAPS * BLOCK / 4;
    PP_UNROLL
    for (int v = 0; v < 4; v++) {
        block.biases[v] = vld1q_s32((const int32_t *)words + 4 * v);
        block.multipliers[v] = vld1q_s32(multipliers + 4 * v);
    }
    PP_UNROLL
    for (int tap = 0; tap < TAPS; tap++) {
        block.weights[tap] = vld1q_s8(weights + BLOCK * tap);
    }
    return block;
}

/* The sums of sixteen channels.
 *   from    the first tap of each row of the window
 *   across  bytes from a tap to the next
 *   group   products that int16 holds */
PP_INLINE void sum(int32x4_t *sums, block_t *block, const int8_t *const *from, ptrdiff_t across, int group)
{
    int16x8_t low = vdupq_n_s16(0), high = low;
    PP_UNROLL
    for (int tap = 0; tap < TAPS; tap++) {
        const int8x16_t x = vld1q_s8(from[tap / 3] + tap % 3 * across);
        PP_WHOLE(block->weights[tap]);
        const int8x16_t w = block->weights[tap];
        if (tap % group == 0) {
            low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
            high = vmull_high_s8(x, w);
        } else {
            low = vmlal_s8(low, vget_low_s8(x), vget_low_s8(w));
            high = vmlal_high_s8(high, x, w);
        }
        if (tap % group == group - 1 || tap == TAPS - 1) {
            const int32x4_t *const before = tap < group ? block->biases : sums;
            sums[0] = vaddw_s16(before[0], vget_low_s16(low));
            sums[1] = vaddw_high_s16(before[1], low);
            sums[2] = vaddw_s16(before[2], vget_low_s16(high));
            sums[3] = vaddw_high_s16(before[3], high);
        }
    }
}

/* Some of the sixteen channels. */
PP_INLINE void store_some(const int32x4_t *sums, const int32x4_t *multipliers, const pp_neon_ending_t *ending,
                          int8_t *to, uint32_t count)
{
    int8_t narrow[BLOCK];
    int16_t wide[BLOCK];
    if (ending->bytes == 1u) {
        pp_neon_store_16(sums, multipliers, ending, narrow);
        memcpy(to, narrow, count);
    } else {
        pp_neon_store_16(sums, multipliers, ending, (int8_t *)wide);
        memcpy(to, wide, 2u * count);
    }
}

PP_INLINE void move(const int8_t **from, ptrdiff_t bytes)
{
    PP_UNROLL
    for (int row = 0; row < 3; row++) {
        from[row] += bytes;
    }
}

/* A block along a row.
 *   whole  all of sixteen bytes are stored, of sums that are not shifted */
PP_INLINE void along(const pp_neon_row_t *row, pp_neon_ending_t ending, const uint32_t *words, uint32_t first,
                     pixels_t pixels, int group, bool whole)
{
    block_t block = load(words);
    const int32_t *const offsets = row->offsets;
    const int8_t *const origin = row->from + first;
    const int8_t *from[3] = {origin + offsets[0], origin + offsets[3], origin + offsets[6]};
    const ptrdiff_t across = offsets[1] - offsets[0];
    const ptrdiff_t from_step = row->from_step, to_step = row->to_step, step = pixels.step;
    const uint32_t stored = pixels.step * (ending.share - first);
    int8_t *to = row->to + first * ending.bytes;
    ending.plain = whole;
    for (uint32_t left = pixels.count;; left -= pixels.step) {
        int32x4_t sums[4];
        if (left < pixels.step) { /* the first of a last pair is computed again */
            if (left == 0u) {
                return;
            }
            move(from, -from_step);
            to -= to_step;
            left++;
        }
        sum(sums, &block, from, across, group);
        if (whole || stored >= BLOCK) {
            pp_neon_store_16(sums, block.multipliers, &ending, to);
        } else {
            store_some(sums, block.multipliers, &ending, to, stored);
        }
        move(from, step * from_step);
        to += step * to_step;
    }
}

static void compute(const pp_neon_t *layer, const pp_neon_row_t *row)
{
    const pp_neon_ending_t ending = pp_neon_ending(layer);
    const pixels_t pixels = pixels_of(layer, row);
    const bool whole = ending.plain && pixels.step * ending.share >= BLOCK;
    const uint32_t *words = row->blocks;
    for (uint32_t first = 0; first < layer->share; first = next_block(layer, first), words += WORDS) {
        if (!whole) {
            along(row, ending, words + 1, first, pixels, 2, false);
        } else if (words[0] == 5u) {
            along(row, ending, words + 1, first, pixels, 5, true);
        } else if (words[0] == 3u) {
            along(row, ending, words + 1, first, pixels, 3, true);
        } else {
            along(row, ending, words + 1, first, pixels, 2, true);
        }
    }
}

#else

#include "pp_neon_twin.h"

static void compute(const pp_neon_t *layer, const pp_neon_row_t *row)
{
    const pixels_t pixels = pixels_of(layer, row);
    const uint32_t *words = row->blocks;
    for (uint32_t first = 0; first < layer->share; first = next_block(layer, first), words += WORDS) {
        const uint32_t left = pixels.step * (layer->share - first);
        for (uint32_t pixel = 0; pixel < pixels.count; pixel += pixels.step) {
            const uint32_t at = pixel + pixels.step > pixels.count ? pixels.count - pixels.step : pixel;
            for (uint32_t channel = 0; channel < BLOCK && channel < left; channel++) {
                int32_t sum = (int32_t)words[1 + channel];
                for (uint32_t tap = 0; tap < TAPS; tap++) {
                    const int8_t weight = ((const int8_t *)(words + 1 + BLOCK))[tap * BLOCK + channel];
                    sum += weight * row->from[at * row->from_step + first + (uint32_t)row->offsets[tap] + channel];
                }
                pp_neon_write(layer, row->to + at * row->to_step + first * layer->output_bytes, channel, sum,
                              (int32_t)words[WORDS - BLOCK + channel]);
            }
        }
    }
}

#endif

void pp_neon_depthwise_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch)
{
    pp_neon_convolve(layer, compute, 1, input, output, scratch);
}
