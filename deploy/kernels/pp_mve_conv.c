/* Convolutions by rows of weights over gathered windows. See pp_mve.h. */
#include "pp_mve.h"

typedef void rows_t(const pp_rows_t *layer, const int8_t *input, int8_t *output);

static void convolve(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, int8_t *column, rows_t *rows)
{
    if (pp_is_pointwise(layer)) {
        for (uint32_t left = (uint32_t)layer->input_height * layer->input_width; left != 0u; left--) {
            rows(&layer->rows, input, output);
            input += layer->input_channels;
            output += layer->output_channels;
        }
        return;
    }
    for (int32_t y = 0; y < layer->output_height; y++) {
        for (int32_t x = 0; x < layer->output_width; x++) {
            pp_gather(layer, input, y, x, column);
            rows(&layer->rows, column, output);
            output += layer->output_channels;
        }
    }
}

void pp_mve_conv_bytes(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, int8_t *column)
{
    convolve(layer, input, output, column, pp_mve_rows_bytes);
}

void pp_mve_conv_nibbles(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, int8_t *column)
{
    convolve(layer, input, output, column, pp_mve_rows_nibbles);
}
