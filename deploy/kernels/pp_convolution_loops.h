/* The loops that convolutions and transposed convolutions share; each says where its taps lie.
 *
 * A tap outside the image sees the input's zero point, which the bias takes off again: the bias holds
 * - zero_point * (sum of all weights of the row). */
#ifndef PP_CONVOLUTION_LOOPS_H
#define PP_CONVOLUTION_LOOPS_H

#include "pp_finish.h"
#include "pp_kernels.h"

#define PP_CONVOLUTION_SUM(name, kind, weight, place, in) \
    static int32_t pp_sum_of_##name##_##kind##in(const pp_convolution_t *layer, const pp_##in##_t *input, uint32_t o, \
                                                 uint32_t y, uint32_t x) \
    { \
        const pp_sliding_window_t *const window = &layer->window; \
        const uint8_t *const row = (const uint8_t *)layer->weights.rows + o * layer->weights.row_bytes; \
        const pp_##in##_t *const channels = input + o / layer->share * layer->depth; \
        int32_t sum = layer->bias[o]; \
        uint32_t tap = 0; \
        for (uint32_t ky = 0; ky < window->height; ky++) { \
            const int32_t iy = place(y, ky * window->dilation_down, window->stride_down, window->pad_top, \
                                     layer->input.height); \
            for (uint32_t kx = 0; kx < window->width; kx++) { \
                const int32_t ix = place(x, kx * window->dilation_across, window->stride_across, window->pad_left, \
                                         layer->input.width); \
                const uint32_t end = tap + layer->depth; \
                if (iy < 0 || ix < 0) { \
                    for (; tap < end; tap++) { \
                        sum += weight(row, tap, layer->weights.bits) * layer->zero_point; \
                    } \
                } else { \
                    const pp_##in##_t *pixel = \
                        channels + ((uint32_t)iy * layer->input.width + (uint32_t)ix) * layer->input.channels; \
                    for (; tap < end; tap++) { \
                        sum += weight(row, tap, layer->weights.bits) * *pixel++; \
                    } \
                } \
            } \
        } \
        return sum; \
    }

#define PP_CONVOLUTION_LOOP(name, kind, in, out) \
    void pp_##name##_##kind##in##_##out(const pp_convolution_t *layer, const pp_##in##_t *input, pp_##out##_t *output) \
    { \
        for (uint32_t y = 0; y < layer->output.height; y++) { \
            for (uint32_t x = 0; x < layer->output.width; x++) { \
                for (uint32_t o = 0; o < layer->output.channels; o++) { \
                    *output++ = pp_finish_##out(&layer->requantize, o, \
                                                pp_sum_of_##name##_##kind##in(layer, input, o, y, x)); \
                } \
            } \
        } \
    }

#define PP_CONVOLUTION_KIND(name, kind, weight, place) \
    PP_CONVOLUTION_SUM(name, kind, weight, place, s8) \
    PP_CONVOLUTION_SUM(name, kind, weight, place, s16) \
    PP_CONVOLUTION_LOOP(name, kind, s8, s8) \
    PP_CONVOLUTION_LOOP(name, kind, s8, s16) \
    PP_CONVOLUTION_LOOP(name, kind, s16, s8) \
    PP_CONVOLUTION_LOOP(name, kind, s16, s16)

#define PP_CONVOLUTIONS(name, place) \
    PP_CONVOLUTION_KIND(name, , pp_whole_weight, place) \
    PP_CONVOLUTION_KIND(name, packed_, pp_packed_weight, place)

#endif
