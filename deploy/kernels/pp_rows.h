/* What kernels of whole rows of weights share: a layer's rows, and a convolution as rows over gathered windows.
 * Activations lie as int8_t, one behind the other. Semantics as in pp_kernels.h. */
#ifndef PP_ROWS_H
#define PP_ROWS_H

#include <stdbool.h>
#include <stdint.h>

/* Assembler reads the fields by their offsets. */
typedef struct {
    const uint32_t *blocks;
    uint32_t inputs; /* of a row */
    uint32_t rows;   /* outputs */
    int32_t zero_point;
    int32_t low;     /* the clamp */
    int32_t high;
    uint32_t shift;  /* left shift of the accumulator */
} pp_rows_t;

typedef struct {
    pp_rows_t rows;           /* inputs are a window's: kernel_height * kernel_width * input_channels */
    uint16_t input_height;
    uint16_t input_width;
    uint16_t input_channels;
    uint16_t output_height;
    uint16_t output_width;
    uint16_t output_channels; /* the rows */
    uint8_t kernel_height;
    uint8_t kernel_width;
    uint8_t stride_y;
    uint8_t stride_x;
    uint8_t pad_top;
    uint8_t pad_left;
    int8_t padding;           /* what lies around the image: the input's zero point */
} pp_conv_rows_t;

/* Whether each pixel of the input is a window. */
bool pp_is_pointwise(const pp_conv_rows_t *layer);

/* Copy the window of an output into one run of bytes, [kernel_height][kernel_width][input_channels]. */
void pp_gather(const pp_conv_rows_t *layer, const int8_t *input, int32_t y, int32_t x, int8_t *column);

#endif
