/* Convolutions whose windows are gathered as int16_t: 16-bit activations, dilation, groups, transposed convolutions.
 *
 * A window is a column of its taps, tap by tap, the channels of one group; the kernels of pp_blocks.h multiply it by the
 * group's rows as they do in a fully connected layer, four at a time; without the DSP extension those of pp_quartets.h. A transposed convolution is one for each place in
 * its stride, with the taps that reach that place. Same integers as in pp_kernels.h; input and output must not overlap,
 * unless each pixel is written over what the next do not read. */
#ifndef PP_TAPS_H
#define PP_TAPS_H

#include "pp_blocks.h"
#include "pp_kernels.h"

/* Neighbouring pixels in a row of the input, from the origin of a window on. */
typedef struct {
    int16_t y;
    int16_t x;
    uint16_t pixels; /* more than one only where there is one group */
} pp_run_t;

/* The windows of outputs that lie at one place in the output's step. */
typedef struct {
    const pp_run_t *runs;
    const pp_run_t *end;
    const pp_blocks_t *groups; /* one for each group */
} pp_phase_t;

typedef void pp_blocks_kernel_t(const pp_blocks_t *layer, const int16_t *input, int16_t *output);

typedef struct {
    const pp_phase_t *phases;   /* [step_y][step_x] */
    pp_blocks_kernel_t *kernel;
    pp_image_t input;
    pp_image_t output;
    uint16_t groups;
    uint16_t depth;             /* channels of the input that each output sees */
    uint16_t share;             /* outputs that see the same channels */
    int16_t origin_y;           /* of the first window */
    int16_t origin_x;
    uint16_t stride_y;          /* from the origin of a window to that of the next of its phase */
    uint16_t stride_x;
    uint16_t step_y;            /* phases down and across */
    uint16_t step_x;
    uint16_t taps;              /* elements of the longest column, rounded up to a multiple of four */
    int16_t zero_point;         /* of the input */
} pp_taps_t;

/* `scratch`, aligned to four: a column, and the outputs of a group, rounded up to a multiple of four. */
void pp_taps_s8_s8(const pp_taps_t *layer, const int8_t *input, int8_t *output, int16_t *scratch);
void pp_taps_s8_s16(const pp_taps_t *layer, const int8_t *input, int16_t *output, int16_t *scratch);
void pp_taps_s16_s8(const pp_taps_t *layer, const int16_t *input, int8_t *output, int16_t *scratch);
void pp_taps_s16_s16(const pp_taps_t *layer, const int16_t *input, int16_t *output, int16_t *scratch);

#endif
