/* Fully connected layers and convolutions of 8-bit activations, for cores with vectors of 128 bits (Cortex-M55: MVE).
 *
 * pp_mve.S holds the rows in assembler; pp_mve_rows.c is their twin in C for every other core and for the host: same
 * layouts, same integers. Semantics as in pp_kernels.h. Activations lie as int8_t, one behind the other.
 *
 * Four rows at a time. A block is a run of words: 4 biases, the weights, 4 multipliers; rows are padded to four by zeros.
 *   bytes    per 16 inputs, 16 bytes of each of the four rows.
 *   nibbles  per 32 inputs, 16 bytes of each of the four rows: in the low half of a byte one of the first 16 inputs'
 *            weights plus 8, in the high half one of the last 16's. The kernel takes the eights off by the sum of the
 *            first inputs, so what lies behind the last input may be anything, but must be readable. */
#ifndef PP_MVE_H
#define PP_MVE_H

#include <stdint.h>

/* The assembler reads the fields by their offsets. */
typedef struct {
    const uint32_t *blocks;
    uint32_t inputs; /* of a row */
    uint32_t rows;   /* outputs */
    int32_t zero_point;
    int32_t low;     /* the clamp */
    int32_t high;
    uint32_t shift;  /* left shift of the accumulator */
} pp_mve_rows_t;

/* Output and input must not overlap. */
void pp_mve_rows_bytes(const pp_mve_rows_t *layer, const int8_t *input, int8_t *output);

/* `input` is readable up to the next multiple of 32 elements. */
void pp_mve_rows_nibbles(const pp_mve_rows_t *layer, const int8_t *input, int8_t *output);

/* Copy bytes; the ranges must not overlap. */
void pp_mve_copy(int8_t *to, const int8_t *from, uint32_t bytes);

typedef struct {
    pp_mve_rows_t rows;       /* inputs are a window's: kernel_height * kernel_width * input_channels */
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
} pp_mve_conv_t;

/* `column` has room for a window, up to the next multiple of 32 elements. */
void pp_mve_conv_bytes(const pp_mve_conv_t *layer, const int8_t *input, int8_t *output, int8_t *column);
void pp_mve_conv_nibbles(const pp_mve_conv_t *layer, const int8_t *input, int8_t *output, int8_t *column);

#endif
