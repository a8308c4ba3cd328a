/* Windows of a convolution as runs of bytes. See pp_rows.h. */
#include "pp_rows.h"

#if defined(__ARM_FEATURE_MVE)
#include "pp_mve.h"
#define copy pp_mve_copy
#else
static void copy(int8_t *to, const int8_t *from, uint32_t bytes)
{
    for (; bytes >= 4u; bytes -= 4u) {
#if defined(__ARM_FEATURE_UNALIGNED) || !defined(__arm__)
        uint32_t word; /* may lie at any address */
        __builtin_memcpy(&word, from, sizeof word);
        __builtin_memcpy(to, &word, sizeof word);
#else
        to[0] = from[0];
        to[1] = from[1];
        to[2] = from[2];
        to[3] = from[3];
#endif
        to += 4;
        from += 4;
    }
    for (; bytes != 0u; bytes--) {
        *to++ = *from++;
    }
}
#endif

bool pp_is_pointwise(const pp_conv_rows_t *layer)
{
    return layer->kernel_height == 1 && layer->kernel_width == 1 && layer->stride_y == 1 && layer->stride_x == 1 &&
           layer->pad_top == 0 && layer->pad_left == 0 && layer->output_height == layer->input_height &&
           layer->output_width == layer->input_width;
}

static int8_t *fill(int8_t *to, int8_t value, int32_t bytes)
{
    while (bytes > 0) {
        *to++ = value;
        bytes--;
    }
    return to;
}

/* A window that reaches beyond the image. */
static void gather_border(const pp_conv_rows_t *layer, const int8_t *input, int32_t top, int32_t left, int8_t *column)
{
    const int32_t channels = layer->input_channels, width = layer->input_width;
    const int32_t right = left + layer->kernel_width;
    const int32_t from = left < 0 ? 0 : (left < width ? left : width);
    const int32_t to = right > width ? width : (right > from ? right : from);
    for (int32_t y = top; y < top + layer->kernel_height; y++) {
        if (y < 0 || y >= layer->input_height) {
            column = fill(column, layer->padding, (right - left) * channels);
            continue;
        }
        column = fill(column, layer->padding, (from - left) * channels);
        copy(column, input + (y * width + from) * channels, (uint32_t)((to - from) * channels));
        column = fill(column + (to - from) * channels, layer->padding, (right - to) * channels);
    }
}

void pp_gather(const pp_conv_rows_t *layer, const int8_t *input, int32_t y, int32_t x, int8_t *column)
{
    const int32_t top = y * layer->stride_y - layer->pad_top, left = x * layer->stride_x - layer->pad_left;
    const bool inside = top >= 0 && left >= 0 && top + layer->kernel_height <= layer->input_height &&
                        left + layer->kernel_width <= layer->input_width;
    if (!inside) {
        gather_border(layer, input, top, left, column);
        return;
    }
    const uint32_t bytes = (uint32_t)layer->kernel_width * layer->input_channels;
    const uint32_t stride = (uint32_t)layer->input_width * layer->input_channels;
    const int8_t *from = input + (uint32_t)top * stride + (uint32_t)left * layer->input_channels;
    for (uint32_t row = 0; row < layer->kernel_height; row++) {
        copy(column, from, bytes);
        column += bytes;
        from += stride;
    }
}
