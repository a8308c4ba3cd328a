/* Convolutions by rows of weights: each window is gathered into one run of bytes. See pp_mve.h. */
#include "pp_mve.h"

#include <stdbool.h>

typedef void rows_t(const pp_mve_rows_t *layer, const int8_t *input, int8_t *output);

static int8_t *fill(int8_t *to, int8_t value, int32_t bytes)
{
    while (bytes > 0) {
        *to++ = value;
        bytes--;
    }
    return to;
}

/* A window that reaches beyond the image. */
static void gather_border(const pp_mve_conv_t *layer, const int8_t *input, int32_t top, int32_t left, int8_t *column)
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
        pp_mve_copy(column, input + (y * width + from) * channels, (uint32_t)((to - from) * channels));
        column = fill(column + (to - from) * channels, layer->padding, (right - to) * channels);
    }
}

static void gather(const pp_mve_conv_t *layer, const int8_t *input, int32_t top, int32_t left, int8_t *column)
{
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
        pp_mve_copy(column, from, bytes);
        column += bytes;
        from += stride;
    }
}

static void convolve(const pp_mve_conv_t *layer, const int8_t *input, int8_t *output, int8_t *column, rows_t *rows)
{
    for (int32_t y = 0; y < layer->output_height; y++) {
        for (int32_t x = 0; x < layer->output_width; x++) {
            gather(layer, input, y * layer->stride_y - layer->pad_top, x * layer->stride_x - layer->pad_left, column);
            rows(&layer->rows, column, output);
            output += layer->output_channels;
        }
    }
}

void pp_mve_conv_bytes(const pp_mve_conv_t *layer, const int8_t *input, int8_t *output, int8_t *column)
{
    const bool pointwise = layer->kernel_height == 1 && layer->kernel_width == 1 && layer->stride_y == 1 &&
                           layer->stride_x == 1 && layer->pad_top == 0 && layer->pad_left == 0;
    if (!pointwise || layer->output_width != layer->input_width || layer->output_height != layer->input_height) {
        convolve(layer, input, output, column, pp_mve_rows_bytes);
        return;
    }
    for (uint32_t left = (uint32_t)layer->input_height * layer->input_width; left != 0u; left--) {
        pp_mve_rows_bytes(&layer->rows, input, output); /* a pixel is a window */
        input += layer->input_channels;
        output += layer->output_channels;
    }
}

void pp_mve_conv_nibbles(const pp_mve_conv_t *layer, const int8_t *input, int8_t *output, int8_t *column)
{
    convolve(layer, input, output, column, pp_mve_rows_nibbles);
}
