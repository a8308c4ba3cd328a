/* Kernels in plain C, for any core and for the host: this header is their contract.
 *
 * Integers as in docs/integer-semantics.md, version 1:
 *   accumulator  acc[o] = bias[o] + sum of weight * input over the taps of output o    int32, proven not to overflow
 *   requantize   q[o] = clamp(((((int64_t)acc << shift) * multiplier[o] + 2^31) >> 32) + zero_point, low, high)
 *   lookup       int8:  table[q]              int16: (table[i] * (256 - f) + table[i + 1] * f + 128) >> 8,
 *                                             i = q >> 8, f = q & 255
 * Images lie as [height][width][channels]. Suffixes are the types of the operands, then of the result; `packed`
 * are weights of 4, 3 or 2 bits. The caller owns every buffer. Input and output must not overlap, except where
 * `in place` is said, or the output lies so far below the input that it is written only over what was read: images are
 * read and written by rows, as deploy/overlay.py says of each kernel. Nothing is read or written outside the sizes given, but for one byte behind packed weights.
 * No alignment beyond that of the element type. */
#ifndef PP_KERNELS_H
#define PP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* How an accumulator becomes an activation. */
typedef struct {
    const int32_t *multiplier; /* [outputs], each in [0, 2^31) */
    const void *table;         /* int8_t or int16_t as the output, pointing at the entry for q = 0; or NULL */
    int32_t zero_point;
    int16_t low;               /* clamp before the table */
    int16_t high;
    uint16_t shift;            /* left shift of the accumulator, usually 0 */
} pp_requantize_t;

/* Rows of weights: int8_t [outputs][taps]; or packed, low bits first in each byte, every row from a new byte on. */
typedef struct {
    const void *rows;
    uint32_t row_bytes;
    uint32_t bits;
} pp_weights_t;

typedef struct {
    pp_weights_t weights; /* [outputs][inputs] */
    const int32_t *bias;  /* [outputs], input zero point folded in */
    uint32_t inputs;
    uint32_t outputs;
    pp_requantize_t requantize;
} pp_fully_connected_t;

typedef struct {
    uint16_t height;
    uint16_t width;
    uint16_t channels;
} pp_image_t;

/* A window that slides over an image. */
typedef struct {
    uint16_t height;
    uint16_t width;
    uint16_t stride_down;
    uint16_t stride_across;
    uint16_t dilation_down;
    uint16_t dilation_across;
    uint16_t pad_top;
    uint16_t pad_left;
} pp_sliding_window_t;

/* A convolution or a transposed one, whose window spreads the input by its stride. */
typedef struct {
    pp_weights_t weights; /* [outputs][window height][window width][depth] */
    const int32_t *bias;  /* [outputs], input zero point folded in: padding counts as zero_point */
    pp_image_t input;
    pp_image_t output;
    pp_sliding_window_t window;
    uint16_t depth;       /* channels of the input that each output sees */
    uint16_t share;       /* outputs that see the same channels */
    int16_t zero_point;   /* of the input */
    pp_requantize_t requantize;
} pp_convolution_t;

/* A pool: `max` reads no field below `high`. */
typedef struct {
    pp_image_t input;
    pp_image_t output;
    pp_sliding_window_t window;
    int16_t low;
    int16_t high;
    int16_t zero_point_in;
    int16_t zero_point_out;
    const int32_t *multiplier; /* [pixels seen - fewest] */
    uint16_t fewest;           /* pixels that any place of the window sees */
    uint16_t count_padding;    /* 1: padding counts, 0: it does not */
    uint16_t shift;
} pp_pool_t;

/* (a * multiplier_a + b * multiplier_b + constant) >> shift, clamped; b is left out where there is one operand. */
typedef struct {
    int16_t multiplier_a;
    int16_t multiplier_b;
    int32_t constant;
    uint16_t shift;
    int16_t low;
    int16_t high;
} pp_weighted_sum_t;

/* requantize((a - zero_point_a) * (b - zero_point_b)), a as [blocks][period][repeat], b as [period]. */
typedef struct {
    uint32_t blocks;
    uint32_t period;
    uint32_t repeat;
    int32_t multiplier;
    int16_t zero_point_a;
    int16_t zero_point_b;
    int16_t zero_point;
    int16_t low;
    int16_t high;
    uint16_t shift;
} pp_product_t;

/* An image with a border of `value`. */
typedef struct {
    pp_image_t input;
    pp_image_t output;
    uint16_t top;
    uint16_t left;
    int16_t value;
} pp_pad_t;

/* output[i][j][k][l] = input[i * step[0] + j * step[1] + k * step[2] + l * step[3]] */
typedef struct {
    uint16_t size[4];
    uint32_t step[4];
} pp_transpose_t;

#define PP_BY_TYPES(declare) declare(s8, s8) declare(s8, s16) declare(s16, s8) declare(s16, s16)

#define PP_AFFINE(in, out) \
    void pp_fully_connected_##in##_##out(const pp_fully_connected_t *layer, const pp_##in##_t *input, \
                                         pp_##out##_t *output); \
    void pp_fully_connected_packed_##in##_##out(const pp_fully_connected_t *layer, const pp_##in##_t *input, \
                                                pp_##out##_t *output); \
    void pp_convolution_##in##_##out(const pp_convolution_t *layer, const pp_##in##_t *input, pp_##out##_t *output); \
    void pp_convolution_packed_##in##_##out(const pp_convolution_t *layer, const pp_##in##_t *input, \
                                            pp_##out##_t *output); \
    void pp_transposed_##in##_##out(const pp_convolution_t *layer, const pp_##in##_t *input, pp_##out##_t *output); \
    void pp_transposed_packed_##in##_##out(const pp_convolution_t *layer, const pp_##in##_t *input, \
                                           pp_##out##_t *output);

/* Change of scale, in place where the types are equal; sum and product, in place of an operand of the output's type. */
#define PP_ELEMENTWISE(in, out) \
    void pp_rescale_##in##_##out(const pp_weighted_sum_t *by, const pp_##in##_t *a, pp_##out##_t *output, size_t size); \
    PP_ELEMENTWISE_PAIR(in, s8, out) \
    PP_ELEMENTWISE_PAIR(in, s16, out)

#define PP_ELEMENTWISE_PAIR(in_a, in_b, out) \
    void pp_sum_##in_a##_##in_b##_##out(const pp_weighted_sum_t *by, const pp_##in_a##_t *a, const pp_##in_b##_t *b, \
                                        pp_##out##_t *output, size_t size); \
    void pp_product_##in_a##_##in_b##_##out(const pp_product_t *by, const pp_##in_a##_t *a, const pp_##in_b##_t *b, \
                                            pp_##out##_t *output);

typedef int8_t pp_s8_t;
typedef int16_t pp_s16_t;

PP_BY_TYPES(PP_AFFINE)
PP_BY_TYPES(PP_ELEMENTWISE)

#undef PP_AFFINE
#undef PP_ELEMENTWISE
#undef PP_ELEMENTWISE_PAIR

void pp_max_pool_s8(const pp_pool_t *layer, const int8_t *input, int8_t *output);
void pp_max_pool_s16(const pp_pool_t *layer, const int16_t *input, int16_t *output);
void pp_average_pool_s8(const pp_pool_t *layer, const int8_t *input, int8_t *output);
void pp_average_pool_s16(const pp_pool_t *layer, const int16_t *input, int16_t *output);

/* Adds some rows to the sums of each channel [channels] of the mean of a whole image: at row 0 they begin at 0, behind the
 * last row the mean is written. */
void pp_mean_rows_s8(const pp_pool_t *layer, const int8_t *input, int32_t *sums, int8_t *output, uint32_t row,
                     uint32_t rows);
void pp_mean_rows_s16(const pp_pool_t *layer, const int16_t *input, int32_t *sums, int16_t *output, uint32_t row,
                      uint32_t rows);

/* Pointwise function by table, in place if asked to; table points at the entry for q = 0. */
void pp_lookup_s8(const int8_t *table, const int8_t *input, int8_t *output, size_t size);
void pp_lookup_s16(const int16_t *table, const int16_t *input, int16_t *output, size_t size);

/* The int8 function on values stored as int16. */
void pp_lookup_s8_in_s16(const int8_t *table, const int16_t *input, int16_t *output, size_t size);

/* Softmax of each row; table [256] of 2^16 * exp(-scale * d), at most 2^14 classes. */
void pp_softmax_s8(const uint32_t *table, const int8_t *input, int8_t *output, size_t rows, size_t classes);

/* Index of the first of the largest values. */
int16_t pp_argmax_s8(const int8_t *input, size_t size);
int16_t pp_argmax_s16(const int16_t *input, size_t size);

/* Rows of an operand into rows of a concatenation that lie stride_bytes apart. */
void pp_concat(const void *input, void *output, size_t rows, size_t row_bytes, size_t stride_bytes);

/* Bytes to a lower place, which may reach into where they come from. */
void pp_move_down(void *to, const void *from, size_t bytes);

void pp_pad_s8(const pp_pad_t *layer, const int8_t *input, int8_t *output);
void pp_pad_s16(const pp_pad_t *layer, const int16_t *input, int16_t *output);

/* Nearest pixel to the upper left. */
void pp_resize_s8(pp_image_t from, pp_image_t to, const int8_t *input, int8_t *output);
void pp_resize_s16(pp_image_t from, pp_image_t to, const int16_t *input, int16_t *output);

void pp_transpose_s8(const pp_transpose_t *layer, const int8_t *input, int8_t *output);
void pp_transpose_s16(const pp_transpose_t *layer, const int16_t *input, int16_t *output);

/* int8 values to int16 with zeros up to `padded` elements, and back. */
void pp_widen_s8(const int8_t *input, int16_t *output, size_t size, size_t padded);
void pp_narrow_s8(const int16_t *input, int8_t *output, size_t size);

/* One value by an int16 table. */
static inline int16_t pp_interpolate_s16(const int16_t *table, int32_t q)
{
    const int16_t *entry = table + (q >> 8);
    const int32_t fraction = q & 255;
    return (int16_t)((entry[0] * (256 - fraction) + entry[1] * fraction + 128) >> 8);
}

#endif
