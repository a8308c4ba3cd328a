/* Depthwise convolutions, each channel a lane. See pp_neon.h. */
#include "pp_neon_windows.h"

enum { LARGER = 16, SMALLER = 8, WINDOWS = 4 };

#if defined(__ARM_NEON) && defined(__aarch64__)

#include "pp_neon_finish.h"

/* Sixteen channels, or eight in the lower half. */
PP_INLINE int8x16_t load(const int8_t *from, int channels)
{
    return channels == LARGER ? vld1q_s8(from) : vcombine_s8(vld1_s8(from), vdup_n_s8(0));
}

/* To the sums of a window what two taps add; the products of both fit in int16, weights being at least -127. */
PP_INLINE void add(int32x4_t *sums, int16x8_t low, int16x8_t high, int channels)
{
    sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
    sums[1] = vaddw_high_s16(sums[1], low);
    if (channels == LARGER) {
        sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
        sums[3] = vaddw_high_s16(sums[3], high);
    }
}

PP_INLINE void taps_s8(int32x4_t (*sums)[4], const pp_neon_windows_t *windows, const int8_t *weights, uint32_t first,
                       int count, int channels)
{
    const int32_t *offset = windows->row->offsets;
    uint32_t left = windows->row->parts;
    for (; left >= 2u; left -= 2u, offset += 2, weights += 2 * channels) {
        const int8x16_t a = load(weights, channels);
        const int8x16_t b = load(weights + channels, channels);
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            const int8x16_t x = load(windows->from[i] + offset[0] + first, channels);
            const int8x16_t y = load(windows->from[i] + offset[1] + first, channels);
            const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(a));
            const int16x8_t high = vmull_high_s8(x, a);
            add(sums[i], vmlal_s8(low, vget_low_s8(y), vget_low_s8(b)), vmlal_high_s8(high, y, b), channels);
        }
    }
    if (left != 0u) {
        const int8x16_t a = load(weights, channels);
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            const int8x16_t x = load(windows->from[i] + offset[0] + first, channels);
            add(sums[i], vmull_s8(vget_low_s8(x), vget_low_s8(a)), vmull_high_s8(x, a), channels);
        }
    }
}

PP_INLINE void taps_s16(int32x4_t (*sums)[4], const pp_neon_windows_t *windows, const int8_t *weights, uint32_t first,
                        int count, int channels)
{
    for (uint32_t part = 0; part < windows->row->parts; part++, weights += channels) {
        PP_UNROLL
        for (int half = 0; half < channels / 8; half++) {
            const int16x8_t w = vmovl_s8(vld1_s8(weights + 8 * half));
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                const int8_t *const from = windows->from[i] + windows->row->offsets[part] + 2u * first;
                const int16x8_t x = vld1q_s16((const int16_t *)(const void *)from + 8 * half);
                int32x4_t *const sum = sums[i] + 2 * half;
                sum[0] = vmlal_s16(sum[0], vget_low_s16(x), vget_low_s16(w));
                sum[1] = vmlal_high_s16(sum[1], x, w);
            }
        }
    }
}

/* A block over some windows; returns what lies behind it. */
PP_INLINE const uint32_t *block(const pp_neon_ending_t *ending, const pp_neon_windows_t *windows,
                                const uint32_t *words, int count, int channels, bool is_s16, uint32_t first)
{
    int32x4_t sums[WINDOWS][4];
    int32x4_t multipliers[4];
    const int8_t *const weights = (const int8_t *)(words + channels);
    const uint32_t *const behind = words + channels + windows->row->parts * (uint32_t)channels / 4u;
    PP_UNROLL
    for (int v = 0; v < channels / 4; v++) {
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            sums[i][v] = vld1q_s32((const int32_t *)words + 4 * v);
        }
    }
    if (is_s16) {
        taps_s16(sums, windows, weights, first, count, channels);
    } else {
        taps_s8(sums, windows, weights, first, count, channels);
    }
    PP_UNROLL
    for (int v = 0; v < channels / 4; v++) {
        multipliers[v] = vld1q_s32((const int32_t *)behind + 4 * v);
    }
    PP_UNROLL
    for (int i = 0; i < count; i++) {
        pp_neon_store(sums[i], multipliers, channels / 4, ending, windows->to[i], first);
    }
    return behind + channels;
}

PP_INLINE void tile(const pp_neon_t *layer, const pp_neon_ending_t *ending,
                    const pp_neon_windows_t *windows, int count, bool is_s16)
{
    (void)layer;
    const uint32_t *words = windows->row->blocks;
    uint32_t first = 0;
    for (; ending->share - first >= LARGER; first += LARGER) {
        words = block(ending, windows, words, count, LARGER, is_s16, first);
    }
    for (; first < ending->share; first += SMALLER) {
        words = block(ending, windows, words, count, SMALLER, is_s16, first);
    }
}

#else

#include "pp_neon_twin.h"

static void tile(const pp_neon_t *layer, const pp_neon_ending_t *ending, const pp_neon_windows_t *windows,
                 uint32_t count, bool is_s16)
{
    const uint32_t taps = windows->row->parts;
    const uint32_t *block = windows->row->blocks;
    uint32_t channels = 0;
    (void)ending;
    (void)is_s16;
    for (uint32_t first = 0; first < layer->share; first += channels) {
        const uint32_t left = layer->share - first;
        channels = left >= LARGER ? LARGER : SMALLER;
        int32_t sums[PP_NEON_MOST][LARGER];
        for (uint32_t i = 0; i < count * channels; i++) {
            const uint32_t window = i / channels, channel = i % channels;
            int32_t sum = 0;
            for (uint32_t tap = 0; tap < taps && channel < left; tap++) {
                const int8_t *const from = windows->from[window] + windows->row->offsets[tap];
                sum += ((const int8_t *)(block + channels))[tap * channels + channel] *
                       pp_neon_input(layer, from, first + channel);
            }
            sums[window][channel] = (int32_t)block[channel] + sum;
        }
        const uint32_t *const multipliers = block + channels + taps * channels / 4u;
        for (uint32_t i = 0; i < count * channels; i++) {
            const uint32_t window = i / channels, channel = i % channels;
            if (channel < left) {
                pp_neon_write(layer, windows->to[window], first + channel, sums[window][channel],
                              (int32_t)multipliers[channel]);
            }
        }
        block = multipliers + channels;
    }
}

#endif

PP_NEON_KERNEL(pp_neon_channels_bytes, WINDOWS, false)
PP_NEON_KERNEL(pp_neon_channels_bytes_s16, WINDOWS, true)
