/* Convolutions over gathered windows. See pp_taps.h. */
#include "pp_taps.h"

#include "pp_simd.h"


static int16_t *pp_fill(int16_t *to, int16_t value, uint32_t count)
{
    for (; count != 0; count--) {
        *to++ = value;
    }
    return to;
}

/* To int16_t, four at a time where there are instructions for that; the words may lie anywhere. */
static int16_t *pp_take_s8(int16_t *to, const int8_t *from, uint32_t count)
{
#if defined(__ARM_FEATURE_DSP)
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        const uint32_t bytes = pp_load_s8x4(from);
        const uint32_t even = pp_even(bytes);
        const uint32_t odd = pp_odd(bytes);
        const uint32_t words[2] = {pp_low_halves(even, odd), pp_high_halves(even, odd)};
        __builtin_memcpy(to, words, sizeof words);
    }
#endif
    for (; count != 0; count--) {
        *to++ = *from++;
    }
    return to;
}

static int16_t *pp_take_s16(int16_t *to, const int16_t *from, uint32_t count)
{
#if defined(__ARM_FEATURE_UNALIGNED) || !defined(__arm__)
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        uint32_t words[2];
        __builtin_memcpy(words, from, sizeof words);
        __builtin_memcpy(to, words, sizeof words);
    }
#endif
    for (; count != 0; count--) {
        *to++ = *from++;
    }
    return to;
}

static void pp_give_s8(int8_t *to, const int16_t *from, uint32_t count)
{
    for (; count != 0; count--) {
        *to++ = (int8_t)*from++;
    }
}

static void pp_give_s16(int16_t *to, const int16_t *from, uint32_t count)
{
    (void)pp_take_s16(to, from, count);
}

/* A run of pixels that may lie outside the image. */
#define PP_BORDER(in) \
    static int16_t *pp_border_##in(const pp_taps_t *layer, const pp_##in##_t *channels, int32_t y, int32_t x, \
                                   uint32_t pixels, int16_t *to) \
    { \
        for (; pixels != 0; pixels--, x++) { \
            if ((uint32_t)y < layer->input.height && (uint32_t)x < layer->input.width) { \
                const int32_t pixel = y * layer->input.width + x; \
                to = pp_take_##in(to, channels + pixel * layer->input.channels, layer->depth); \
            } else { \
                to = pp_fill(to, layer->zero_point, layer->depth); \
            } \
        } \
        return to; \
    }

/* The window at an origin, of the channels of one group. */
#define PP_GATHER(in) \
    static int16_t *pp_gather_##in(const pp_taps_t *layer, const pp_phase_t *phase, const pp_##in##_t *channels, \
                                   int32_t y, int32_t x, int16_t *to) \
    { \
        const int32_t width = layer->input.width; \
        const int32_t pixel_size = layer->input.channels; \
        for (const pp_run_t *run = phase->runs; run != phase->end; run++) { \
            const int32_t row = y + run->y; \
            const int32_t first = x + run->x; \
            if ((uint32_t)row < layer->input.height && first >= 0 && first + run->pixels <= width) { \
                to = pp_take_##in(to, channels + (row * width + first) * pixel_size, \
                                  (uint32_t)run->pixels * layer->depth); \
            } else { \
                to = pp_border_##in(layer, channels, row, first, run->pixels, to); \
            } \
        } \
        return to; \
    }

/* One output pixel: a column and its products for each group. The weights of padding are zero; what it holds is not
 * used otherwise. */
#define PP_PIXEL(in, out) \
    static void pp_pixel_##in##_##out(const pp_taps_t *layer, const pp_phase_t *phase, const pp_##in##_t *input, \
                                      int32_t y, int32_t x, pp_##out##_t *output, int16_t *column) \
    { \
        int16_t *const sums = column + layer->taps; \
        for (uint32_t group = 0; group < layer->groups; group++) { \
            (void)pp_gather_##in(layer, phase, input + group * layer->depth, y, x, column); \
            layer->kernel(phase->groups + group, column, sums); \
            pp_give_##out(output + group * layer->share, sums, layer->share); \
        } \
    }

#define PP_TAPS(in, out) \
    PP_PIXEL(in, out) \
    void pp_taps_##in##_##out(const pp_taps_t *layer, const pp_##in##_t *input, pp_##out##_t *output, \
                              int16_t *scratch) \
    { \
        const uint32_t step_x = layer->step_x; \
        (void)pp_fill(scratch, 0, layer->taps); \
        for (uint32_t y = 0; y < layer->output.height; y++) { \
            const pp_phase_t *const row = layer->phases + y % layer->step_y * step_x; \
            const int32_t origin_y = layer->origin_y + (int32_t)(y / layer->step_y * layer->stride_y); \
            for (uint32_t x = 0; x < layer->output.width; x++, output += layer->output.channels) { \
                const int32_t origin_x = layer->origin_x + (int32_t)(x / step_x * layer->stride_x); \
                pp_pixel_##in##_##out(layer, row + x % step_x, input, origin_y, origin_x, output, scratch); \
            } \
        } \
    }

PP_BORDER(s8)
PP_BORDER(s16)
PP_GATHER(s8)
PP_GATHER(s16)
PP_BY_TYPES(PP_TAPS)
