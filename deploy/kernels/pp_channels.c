/* What drives the sums of pp_channels.S, and their twins in C for every other core. See pp_channels.h. */
#include "pp_channels.h"

#include "pp_finish.h"

/* Four elements at a time; there are at least four, and the last four may be written twice. */
#define PP_MOVES(in) \
    static void pp_move_##in(pp_##in##_t *to, const pp_##in##_t *from, uint32_t count) \
    { \
        for (uint32_t i = 0; i + 4 < count; i += 4) { \
            __builtin_memcpy(to + i, from + i, 4 * sizeof *to); \
        } \
        __builtin_memcpy(to + count - 4, from + count - 4, 4 * sizeof *to); \
    } \
    static void pp_fill_##in(pp_##in##_t *to, pp_##in##_t value, uint32_t count) \
    { \
        const pp_##in##_t four[4] = {value, value, value, value}; \
        for (uint32_t i = 0; i + 4 < count; i += 4) { \
            __builtin_memcpy(to + i, four, sizeof four); \
        } \
        __builtin_memcpy(to + count - 4, four, sizeof four); \
    }

PP_MOVES(s8)
PP_MOVES(s16)

/* A window that reaches beyond the image, tap by tap. */
#define PP_COPY(in) \
    static void pp_copy_##in(const pp_channels_t *layer, const pp_##in##_t *input, int32_t y, int32_t x, \
                             pp_##in##_t *to) \
    { \
        const pp_sliding_window_t *const window = &layer->window; \
        const uint32_t channels = layer->input.channels; \
        for (uint32_t i = 0; i < window->height; i++) { \
            for (uint32_t j = 0; j < window->width; j++) { \
                const int32_t row = y + (int32_t)(i * window->dilation_down); \
                const int32_t column = x + (int32_t)(j * window->dilation_across); \
                const int is_there = (uint32_t)row < layer->input.height && (uint32_t)column < layer->input.width; \
                if (is_there) { \
                    pp_move_##in(to, input + (row * layer->input.width + column) * (int32_t)channels, channels); \
                } else { \
                    pp_fill_##in(to, (pp_##in##_t)layer->padding, channels); \
                } \
                to += channels; \
            } \
        } \
    }

/* Every channel of one output pixel, by fours. */
#define PP_PIXEL(in, out) \
    static void pp_pixel_##in##_##out(const pp_channels_t *layer, const pp_##in##_t *window, const uint32_t *places, \
                                      pp_##out##_t *output) \
    { \
        const uint32_t channels = layer->input.channels; \
        const uint32_t share = layer->share; \
        const uint32_t pairs = layer->pairs; \
        const uint32_t *block = layer->blocks; \
        const int32_t zero_point = layer->zero_point; \
        const int32_t low = layer->low; \
        const int32_t high = layer->high; \
        const uint32_t shift = layer->shift; \
        for (uint32_t pass = 0; pass < share; pass++, output++) { \
            for (uint32_t at = 0; at < channels; at += 4, block += 8 + 4 * pairs) { \
                const uint32_t channel = at + 4 > channels ? channels - 4 : at; \
                pp_##out##_t *const to = output + channel * share; \
                int32_t sums[4]; \
                pp_channels_sums_##in(block, window + channel, places, pairs, sums); \
                for (uint32_t i = 0; i < 4; i++) { \
                    const int32_t q = pp_scaled(sums[i], shift, (int32_t)block[4 + i]) + zero_point; \
                    to[i * share] = (pp_##out##_t)pp_clamp(q, low, high); \
                } \
            } \
        } \
    }

static int pp_is_inside(int32_t first, uint32_t taps, uint32_t dilation, uint32_t size)
{
    return first >= 0 && (uint32_t)first + (taps - 1) * dilation < size;
}

#define PP_CHANNELS(in, out) \
    PP_PIXEL(in, out) \
    void pp_channels_##in##_##out(const pp_channels_t *layer, const pp_##in##_t *input, pp_##out##_t *output, \
                                  pp_##in##_t *scratch) \
    { \
        const pp_sliding_window_t *const window = &layer->window; \
        const int32_t channels = layer->input.channels; \
        for (uint32_t i = 0; i < layer->output.height; i++) { \
            const int32_t y = (int32_t)(i * window->stride_down) - window->pad_top; \
            const int is_row = pp_is_inside(y, window->height, window->dilation_down, layer->input.height); \
            for (uint32_t j = 0; j < layer->output.width; j++, output += layer->output.channels) { \
                const int32_t x = (int32_t)(j * window->stride_across) - window->pad_left; \
                if (is_row && pp_is_inside(x, window->width, window->dilation_across, layer->input.width)) { \
                    const pp_##in##_t *const first = input + (y * layer->input.width + x) * channels; \
                    pp_pixel_##in##_##out(layer, first, layer->inside, output); \
                } else { \
                    pp_copy_##in(layer, input, y, x, scratch); \
                    pp_pixel_##in##_##out(layer, scratch, layer->copied, output); \
                } \
            } \
        } \
    }

PP_COPY(s8)
PP_COPY(s16)
PP_BY_TYPES(PP_CHANNELS)

#if !defined(__ARM_FEATURE_DSP)

#include "pp_simd.h"

/* The word of a block in which a channel's weights lie. */
static inline uint32_t pp_word_s8(uint32_t channel)
{
    return channel == 1 ? 2 : channel == 2 ? 1 : channel;
}

static inline uint32_t pp_word_s16(uint32_t channel)
{
    return channel;
}

#define PP_SUMS(in) \
    void pp_channels_sums_##in(const uint32_t *block, const pp_##in##_t *window, const uint32_t *places, \
                               uint32_t pairs, int32_t *sums) \
    { \
        for (uint32_t channel = 0; channel < 4; channel++) { \
            const uint32_t *weights = block + 8 + pp_word_##in(channel); \
            sums[channel] = (int32_t)block[channel]; \
            for (uint32_t i = 0; i < pairs; i++, weights += 4) { \
                sums[channel] += pp_low_half(*weights) * window[places[2 * i] + channel]; \
                sums[channel] += pp_high_half(*weights) * window[places[2 * i + 1] + channel]; \
            } \
        } \
    }

PP_SUMS(s8)
PP_SUMS(s16)

#endif
