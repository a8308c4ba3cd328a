/* The windows of a pool without dilation, each as the part of it that lies in the image. */
#ifndef PP_POOL_PART_H
#define PP_POOL_PART_H

#include "pp_kernels.h"

/* The part of a window that lies in the image: its first pixel, its size, and bytes from row to row. */
typedef struct {
    const int8_t *first;
    uint32_t rows;
    uint32_t columns;
    uint32_t channels;
    uint32_t row_bytes;
} pp_part_t;

typedef void pp_pool_part_t(const pp_pool_t *layer, const pp_part_t *part, int8_t *output);

/* First tap of an axis that lies in the image, and how many do. */
static inline uint32_t pp_first_tap(uint32_t at, uint32_t pad)
{
    return at < pad ? pad - at : 0;
}

static inline uint32_t pp_taps(uint32_t at, uint32_t first, uint32_t kernel, uint32_t pad, uint32_t size)
{
    const uint32_t behind = size + pad > at ? size + pad - at : 0;
    const uint32_t end = behind < kernel ? behind : kernel;
    return end > first ? end - first : 0;
}

static inline void pp_slide(const pp_pool_t *layer, const int8_t *input, int8_t *output, pp_pool_part_t *pool)
{
    const pp_sliding_window_t *const window = &layer->window;
    pp_part_t part = {.channels = layer->input.channels};
    part.row_bytes = layer->input.width * part.channels;
    for (uint32_t y = 0; y < layer->output.height; y++) {
        const uint32_t down = y * window->stride_down;
        const uint32_t top = pp_first_tap(down, window->pad_top);
        part.rows = pp_taps(down, top, window->height, window->pad_top, layer->input.height);
        const int8_t *const row = input + (down + top - window->pad_top) * part.row_bytes;
        for (uint32_t x = 0; x < layer->output.width; x++, output += part.channels) {
            const uint32_t across = x * window->stride_across;
            const uint32_t left = pp_first_tap(across, window->pad_left);
            part.columns = pp_taps(across, left, window->width, window->pad_left, layer->input.width);
            part.first = row + (across + left - window->pad_left) * part.channels;
            pool(layer, &part, output);
        }
    }
}

#endif
