/* Layers with weights for cores with vectors of 128 bits of AArch64: fully connected ones, and convolutions of any kernel,
 * stride, dilation and groups, transposed or not, of 8-bit and of 16-bit activations.
 *
 * Written in vector intrinsics; where the compiler has no such vectors, on the host say, the twin of pp_neon_twin.h
 * reads the same layouts. Integers as in pp_kernels.h.
 *
 * An output pixel is the product of its window and all rows of its group. A window is read in parts: run by run of pixels that
 * lie side by side, or all at once where it was gathered. A part's `inputs` are a multiple of what the layout takes
 * at once, so it may reach beyond its run, to where weights are zero. Several windows share each load of weights.
 *
 * Windows of one pixel are read where the image lies. For the others the rows of the image that a row of the output sees lie in
 * a ring in the scratch, padding on all sides, so that no window is at a border; each row is copied there once.
 *
 * Rows lie in blocks, each of the largest size that the rows left fill, the last of the smallest and padded by zeros.
 * A block is a run of words: biases, weights part by part, multipliers.
 *   pp_neon_dot   (16, 8 or 4 rows)          per 4 inputs, 4 bytes of each row
 *   pp_neon_rows  (8 or 4 rows, or 4 alone)  per 16 inputs, 16 bytes of each row; at a part's end perhaps per 8 inputs, 8 bytes
 * In `bytes` a byte is a weight. In `nibbles` it is two, the low half that of an input, the high half that of the input 4
 * further on (pp_neon_dot), 16 or at the end 8 (pp_neon_rows); what is said above of inputs doubles.
 *
 * pp_neon_dot_bytes_s16 takes inputs less 128; its biases have 128 times the sum of the row's weights added.
 *
 * pp_neon_channels is for depthwise convolutions, in which rows are channels and parts taps: blocks of 16 or 8 channels:
 * biases, tap by tap a byte of each channel, multipliers.
 *
 * pp_neon_depthwise is for those of 3x3 taps of 8-bit activations. Blocks are of 16 channels, the last one's beginning at the
 * sixteenth from the end; in front of each a word says how many products int16 holds, 2, 3 or 5. Fewer than 16 channels are one
 * block padded by zeros, 8 channels one of two pixels, which holds all twice. */
#ifndef PP_NEON_H
#define PP_NEON_H

#include <stdbool.h>

#include "pp_kernels.h"

/* Where pixels that lie side by side begin, from the first row and column on that any window sees. */
typedef struct {
    uint16_t y;
    uint16_t x;
} pp_neon_run_t;

/* The windows of outputs that lie at one place in the output's step: a transposed convolution has several such places. */
typedef struct {
    const pp_neon_run_t *runs;
    uint32_t count;
    uint32_t run_bytes;
    uint32_t parts;            /* the runs, or one */
    uint32_t inputs;           /* of a part */
    const uint32_t *blocks;    /* [groups] */
    uint32_t words;            /* of a group's blocks */
} pp_neon_phase_t;

typedef enum {
    PP_NEON_PIXELS,  /* each window a pixel of the image, in place */
    PP_NEON_ROWS,    /* in the ring */
    PP_NEON_GATHERED /* from there run behind run into a slot */
} pp_neon_reading_t;

typedef struct {
    const pp_neon_phase_t *phases; /* [step_y][step_x] */
    pp_image_t input;
    pp_image_t output;
    uint16_t groups;
    uint16_t depth;                /* channels of the input that each output sees */
    uint16_t share;                /* outputs that see the same channels: the rows */
    uint16_t block_rows;           /* of the largest blocks */
    int16_t first_row;             /* of the image that any window sees; negative in the padding */
    int16_t first_column;
    uint16_t ring_rows;            /* that a row of the output sees */
    uint16_t ring_columns;
    uint16_t stride_y;             /* from a window to the next of its phase */
    uint16_t stride_x;
    uint16_t step_y;               /* phases down and across */
    uint16_t step_x;
    uint16_t input_bytes;          /* of an activation */
    uint16_t output_bytes;
    pp_neon_reading_t reading;
    int8_t padding;                /* what each byte around the image holds: the zero point, or 0 for 16 bits */
    uint32_t row_bytes;            /* from a row of the ring to the next */
    uint32_t ring_first;           /* bytes of scratch to the ring, behind the places of a phase's runs */
    uint32_t slot_first;           /* and to the slots */
    uint32_t slot_step;            /* bytes that are read of a gathered window, or of a pixel, and what is copied behind */
    uint32_t slots;
    int32_t shift;                 /* left shift of the accumulator */
    int16_t zero_point;
    int16_t low;                   /* the clamp */
    int16_t high;
} pp_neon_t;

/* `scratch`: the ring and the slots, or of pixels as many as the kernel computes at once, 2 (pp_neon_rows,
 * pp_neon_dot_bytes_s16) or else 4, where vectors reach beyond them; at a multiple of four bytes. Activations are int8_t, or
 * int16_t where the layer says two bytes; those that a name with s16 takes are. */
void pp_neon_dot_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_dot_nibbles(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_dot_bytes_s16(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_rows_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_rows_nibbles(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_rows_bytes_s16(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_channels_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_channels_bytes_s16(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_depthwise_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch);

#endif
