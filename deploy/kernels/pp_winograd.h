/* Convolutions 3x3 of stride 1 by exact integer Winograd F(2x2, 3x3), for cores with the DSP extension.
 *
 * A tile of 2 x 2 outputs takes 16 products per input channel instead of 36 (Lavin and Gray, arXiv:1509.09308). The
 * weights are transformed when they are packed, four times too large so that they stay integers: U = 2G w (2G)'.
 * Sums wrap; what counts is where they end, at four times the accumulator, and |accumulator| < 2^29 is proven then.
 *
 * pp_winograd.S holds the two inner functions in assembler, pp_winograd.c what drives them and their twin in C: same
 * layouts, same integers as any convolution (docs/integer-semantics.md, "Images"). Input and output are int8_t,
 * channels last, and must not overlap, unless each four tiles are written over what the next do not read; input channels are a multiple of eight, output channels of two; the clamp
 * is that of int8_t. One byte behind the input must be readable.
 *
 * Four tiles at a time. Their transformed inputs lie in the order [pair of channels][place in the tile, 16][tile], two
 * int16_t in each word. The pairs of channels are (4i, 4i + 2) for every i, then (4i + 1, 4i + 3), as SXTB16 takes
 * bytes apart. The weights of two output channels are a run of words: two biases times four, two multipliers, then
 * [place][pair of channels][output channel]. */
#ifndef PP_WINOGRAD_H
#define PP_WINOGRAD_H

#include <stdint.h>

typedef struct {
    const uint32_t *weights;
    int32_t zero_point;       /* of the output */
    uint16_t input_height;
    uint16_t input_width;
    uint16_t input_channels;  /* a multiple of eight */
    uint16_t output_height;
    uint16_t output_width;
    uint16_t output_channels; /* a multiple of two */
    uint8_t pad_top;
    uint8_t pad_left;
    uint8_t shift;            /* left shift of the accumulator; only where the kernel's name says so */
    int8_t padding;           /* what taps outside the image read: the input's zero point */
} pp_winograd_t;

/* Bytes of scratch that a layer needs, aligned to four: transformed inputs, products, a tile with padding. */
#define PP_WINOGRAD_SCRATCH_BYTES(input_channels) (128 * (input_channels) + 512 + 16 * (input_channels) + 4)

void pp_winograd(const pp_winograd_t *layer, const int8_t *input, int8_t *output, uint32_t *scratch);
void pp_winograd_shifted(const pp_winograd_t *layer, const int8_t *input, int8_t *output, uint32_t *scratch);

/* The inner functions. The assembler reads the fields by their offsets. */

/* Where a tile's outputs go; a distance is 0 where the tile sticks out of the image, and the first pixel wins. */
typedef struct {
    int8_t *output;
    int32_t right;            /* bytes to the pixel on the right */
    int32_t down;             /* bytes to the pixel below */
} pp_tile_t;

typedef struct {
    const uint32_t *weights;
    const uint32_t *inputs;   /* transformed */
    int32_t *products;        /* [16][2][4] */
    uint32_t span;            /* bytes of the transformed inputs: 128 * input_channels */
    int32_t zero_point;
    uint32_t pairs;           /* of output channels */
    uint32_t shift;
    pp_tile_t *tiles;         /* four; each output pointer moves on by the channels written */
} pp_winograd_work_t;

typedef void pp_winograd_kernel_t(const pp_winograd_work_t *work);

pp_winograd_kernel_t pp_winograd_tiles;
pp_winograd_kernel_t pp_winograd_tiles_shifted;

/* The inputs of one tile: a window of 4 x 4 pixels, row_bytes from row to row; inputs points at the tile's place. */
void pp_winograd_input(const int8_t *window, uint32_t *inputs, uint32_t channels, uint32_t row_bytes);

#endif
