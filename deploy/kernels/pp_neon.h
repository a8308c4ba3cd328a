/* Layers with weights for cores with vectors of 128 bits of AArch64: fully connected ones, and convolutions of any kernel,
 * stride, dilation and groups, transposed or not, of 8-bit and of 16-bit activations.
 *
 * Written in vector intrinsics; where the compiler has no such vectors, on the host say, the twin of pp_neon_twin.h
 * reads the same layouts. Integers as in pp_kernels.h.
 *
 * An output pixel is the product of its window and all rows of its group. A window is read in parts: run by run of pixels that
 * lie side by side in the image, or all at once where it was copied. A part's `inputs` are a multiple of what the layout takes
 * at once, so it may reach beyond its run, to where weights are zero. Several windows share each load of weights.
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
 * biases, tap by tap a byte of each channel, multipliers. */
#ifndef PP_NEON_H
#define PP_NEON_H

#include <stdbool.h>

#include "pp_kernels.h"

/* Where pixels that lie side by side begin, from a window's origin on. */
typedef struct {
    int16_t y;
    int16_t x;
} pp_neon_run_t;

/* The windows of outputs that lie at one place in the output's step: a transposed convolution has several such places. */
typedef struct {
    const pp_neon_run_t *runs; /* of which windows are copied */
    uint32_t count;
    uint32_t pixels;           /* of each run */
    const int32_t *offsets;    /* bytes from a window's origin to each part */
    uint32_t parts;
    uint32_t inputs;           /* of a part */
    int32_t reach;             /* bytes from a window's origin to the end of all that is read of it */
    const uint32_t *blocks;    /* [groups] */
    uint32_t words;            /* of a group's blocks */
} pp_neon_phase_t;

typedef struct {
    const pp_neon_phase_t *phases; /* [step_y][step_x] */
    pp_image_t input;
    pp_image_t output;
    uint16_t groups;
    uint16_t depth;                /* channels of the input that each output sees */
    uint16_t share;                /* outputs that see the same channels: the rows */
    uint16_t block_rows;           /* of the largest blocks */
    int16_t origin_y;              /* of the first window */
    int16_t origin_x;
    uint16_t stride_y;             /* from the origin of a window to that of the next of its phase */
    uint16_t stride_x;
    uint16_t step_y;               /* phases down and across */
    uint16_t step_x;
    uint16_t input_bytes;          /* of an activation */
    uint16_t output_bytes;
    bool in_place;                 /* windows inside the image are not copied */
    int8_t padding;                /* what each byte around the image holds: the zero point, or 0 for 16 bits */
    uint32_t slot_first;           /* bytes of scratch to the origin of the first window that is copied */
    uint32_t slot_step;            /* and from one to the next */
    int64_t zero_point;            /* times 2^32 */
    int32_t shift;                 /* left shift of the accumulator */
    int16_t low;                   /* the clamp */
    int16_t high;
} pp_neon_t;

/* `scratch`: room for as many windows as the kernel computes at once, 2 (pp_neon_rows, pp_neon_dot_bytes_s16) or else 4,
 * copied with the rows as far apart as in the image where others are read in place. Activations are int8_t, or int16_t
 * where the layer says two bytes; those that a name with s16 takes are. */
void pp_neon_dot_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_dot_nibbles(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_dot_bytes_s16(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_rows_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_rows_nibbles(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_rows_bytes_s16(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_channels_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch);
void pp_neon_channels_bytes_s16(const pp_neon_t *layer, const void *input, void *output, void *scratch);

#endif
