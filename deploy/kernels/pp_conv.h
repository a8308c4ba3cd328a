/* Convolutions, two pixels and four output channels at a time, for cores with the DSP extension.
 *
 * pp_conv.S holds the two inner functions in assembler, pp_conv.c what drives them and their twin in C: same
 * layouts, same integers (docs/integer-semantics.md, "Images"). Input and output are int8_t, channels last, and
 * must not overlap, unless each two pixels are written over what the next two do not read; the clamp is that of int8_t. Kernel, stride and padding are free, the dilation is 1.
 *
 * The windows of two pixels are widened to int16_t, side by side, as columns: per four bytes of a window's row
 * the words a(0, 2), b(0, 2), a(1, 3), b(1, 3). A row of a window is kernel_width * input_channels bytes, rounded
 * up to a multiple of four by bytes that meet a weight of zero; the assembler may read them, so up to three bytes
 * behind the input must be readable.
 *
 * A block of four channels is a run of words: 4 start values, weights, 4 multipliers; channels are padded to a
 * multiple of four by zeros. Per four bytes of a window's row, in the order of the columns:
 *   pairs    4 words: channels (0, 1) and (2, 3) for inputs (0, 2), then for (1, 3). A halfword is 256 * a + b, as in
 *            pp_blocks.h.
 *   nibbles  2 words: all four channels for inputs (0, 2), then for (1, 3). A halfword is
 *            4096 * d + 256 * (c + 8) + 16 * (b + 8) + (a + 8): weights of at most four bits. The kernel takes the
 *            eights off by the sum of the window. Start values are the running sums of a, 16 * b, 256 * c,
 *            4096 * d of the biases. |d| < 2^19, |c| < 2^23, |b| < 2^27 for the accumulators is proven when the
 *            weights are packed. */
#ifndef PP_CONV_H
#define PP_CONV_H

#include <stdint.h>

/* Rows of a window inside the image. The assembler reads the fields by their offsets. */
typedef struct {
    uint16_t rows;   /* kernel_height */
    uint16_t groups; /* of four bytes in a row, the last may be partial */
    int32_t skip;    /* bytes from the end of a row's last group to the next row */
    uint16_t bytes;  /* in a row: kernel_width * input_channels */
} pp_conv_window_t;

typedef struct {
    const uint32_t *blocks;
    int32_t zero_point;       /* of the output */
    uint16_t steps;           /* words in a column: 2 * rows * groups */
    uint16_t shift;           /* left shift of the accumulator; only where the kernel's name says so */
    pp_conv_window_t window;
    uint16_t input_height;
    uint16_t input_width;
    uint16_t input_channels;
    uint16_t output_height;
    uint16_t output_width;
    uint16_t output_channels;
    uint16_t kernel_width;
    uint8_t stride_y;
    uint8_t stride_x;
    uint8_t pad_top;
    uint8_t pad_left;
    int8_t padding;           /* what taps outside the image read: the input's zero point */
} pp_conv_t;

/* Bytes of scratch that a layer needs, aligned to four: two columns, and a row of a window for each. */
#define PP_CONV_SCRATCH_BYTES(rows, groups) (16 * (rows) * (groups) + 8 * (groups))

void pp_conv_pairs(const pp_conv_t *layer, const int8_t *input, int8_t *output, int16_t *scratch);
void pp_conv_pairs_shifted(const pp_conv_t *layer, const int8_t *input, int8_t *output, int16_t *scratch);
void pp_conv_nibbles(const pp_conv_t *layer, const int8_t *input, int8_t *output, int16_t *scratch);
void pp_conv_nibbles_shifted(const pp_conv_t *layer, const int8_t *input, int8_t *output, int16_t *scratch);

/* The inner functions. */

/* Blocks over two columns. The assembler reads the fields by their offsets. */
typedef struct {
    const uint32_t *blocks;
    const int16_t *columns;
    int32_t zero_point;
    uint16_t steps;
    uint16_t shift;
} pp_columns_t;

/* Four channels to output, output + 4, ... up to end; those of the second pixel lie distance bytes behind. */
typedef void pp_columns_kernel_t(const pp_columns_t *work, int8_t *output, const int8_t *end, int32_t distance);

pp_columns_kernel_t pp_columns_pairs;
pp_columns_kernel_t pp_columns_pairs_shifted;
pp_columns_kernel_t pp_columns_nibbles;
pp_columns_kernel_t pp_columns_nibbles_shifted;

/* Two windows to columns; returns the end of what it wrote. */
int16_t *pp_widen_windows(const int8_t *first, const int8_t *second, int16_t *columns, const pp_conv_window_t *window);

#endif
