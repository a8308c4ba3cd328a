/* Pools in plain C. See pp_kernels.h. */
#include "pp_finish.h"
#include "pp_kernels.h"

/* Row or column of the input that a tap sees; -1 outside. */
static inline int32_t pp_place(uint32_t at, uint32_t tap, uint32_t stride, uint32_t pad, uint32_t size)
{
    const uint32_t padded = at * stride + tap;
    return padded >= pad && padded - pad < size ? (int32_t)(padded - pad) : -1;
}

static int32_t pp_mean(const pp_pool_t *layer, int32_t sum, uint32_t seen)
{
    const int32_t q = pp_scaled(sum, layer->shift, layer->multiplier[seen - layer->fewest]);
    return pp_clamp(q + layer->zero_point_out, layer->low, layer->high);
}

/* Does `take(value)` for each pixel that the window at y, x sees of channel c, `miss` for each in the padding. */
#define PP_VISIT(in, take, miss) \
    for (uint32_t ky = 0; ky < window->height; ky++) { \
        const int32_t iy = pp_place(y, ky * window->dilation_down, window->stride_down, window->pad_top, \
                                    layer->input.height); \
        for (uint32_t kx = 0; kx < window->width; kx++) { \
            const int32_t ix = pp_place(x, kx * window->dilation_across, window->stride_across, window->pad_left, \
                                        layer->input.width); \
            if (iy < 0 || ix < 0) { \
                miss \
            } else { \
                take(input[((uint32_t)iy * layer->input.width + (uint32_t)ix) * layer->input.channels + c]) \
            } \
        } \
    }

#define PP_POOL(name, in, start, take, miss, end) \
    void pp_##name##_##in(const pp_pool_t *layer, const pp_##in##_t *input, pp_##in##_t *output) \
    { \
        const pp_sliding_window_t *const window = &layer->window; \
        for (uint32_t y = 0; y < layer->output.height; y++) { \
            for (uint32_t x = 0; x < layer->output.width; x++) { \
                for (uint32_t c = 0; c < layer->output.channels; c++) { \
                    int32_t total = start; \
                    uint32_t seen = 0; \
                    PP_VISIT(in, take, miss) \
                    (void)seen; \
                    *output++ = (pp_##in##_t)(end); \
                } \
            } \
        } \
    }

#define PP_LARGER(value) total = value > total ? value : total;
#define PP_SUM(value) \
    total += value - layer->zero_point_in; \
    seen++;
#define PP_NOTHING
#define PP_COUNT seen += layer->count_padding;

PP_POOL(max_pool, s8, INT8_MIN, PP_LARGER, PP_NOTHING, pp_clamp(total, layer->low, layer->high))
PP_POOL(max_pool, s16, INT16_MIN, PP_LARGER, PP_NOTHING, pp_clamp(total, layer->low, layer->high))
PP_POOL(average_pool, s8, 0, PP_SUM, PP_COUNT, pp_mean(layer, total, seen))
PP_POOL(average_pool, s16, 0, PP_SUM, PP_COUNT, pp_mean(layer, total, seen))
