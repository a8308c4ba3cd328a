/* Depthwise convolutions of any kernel, stride, dilation and width, four channels at a time, for cores with the DSP
 * extension.
 *
 * pp_channels.S holds the sums in assembler, pp_channels.c what drives them and their twins in C. SMLAD takes two taps of
 * a channel at once. A window inside the image is read where it lies, another one is copied
 * first, padding holding the input's zero point. Each channel of the input may have several outputs, `share`; there are
 * at least four channels. Same integers as in pp_kernels.h; input and output must not overlap, unless each pixel is
 * written over what the next do not read.
 *
 * A block is a run of words: four biases, four multipliers, then per two taps a word of each of four channels: of 0, 2, 1, 3
 * for int8_t, which SXTB16 takes apart so, of 0, 1, 2, 3 for int16_t. Blocks lie in the order [output of a channel][four channels]; the last four channels are computed whole, even if some of them
 * were before. */
#ifndef PP_CHANNELS_H
#define PP_CHANNELS_H

#include "pp_kernels.h"

typedef struct {
    const uint32_t *blocks;
    const uint32_t *inside;   /* [2 * pairs], elements from the first tap of a window in the image to each */
    const uint32_t *copied;   /* the same in a copied window; the last is there twice, its weight zero, if odd */
    pp_image_t input;
    pp_image_t output;
    pp_sliding_window_t window;
    uint16_t pairs;           /* of taps */
    uint16_t share;
    int16_t padding;          /* the input's zero point */
    int16_t zero_point;       /* of the output */
    int16_t low;
    int16_t high;
    uint16_t shift;
} pp_channels_t;

/* `scratch`, aligned to four: a window of all channels. */
void pp_channels_s8_s8(const pp_channels_t *layer, const int8_t *input, int8_t *output, int8_t *scratch);
void pp_channels_s8_s16(const pp_channels_t *layer, const int8_t *input, int16_t *output, int8_t *scratch);
void pp_channels_s16_s8(const pp_channels_t *layer, const int16_t *input, int8_t *output, int16_t *scratch);
void pp_channels_s16_s16(const pp_channels_t *layer, const int16_t *input, int16_t *output, int16_t *scratch);

/* The inner functions: the sums of a block's four channels at a window, over at least one pair of taps. */
void pp_channels_sums_s8(const uint32_t *block, const int8_t *window, const uint32_t *places, uint32_t pairs,
                         int32_t *sums);
void pp_channels_sums_s16(const uint32_t *block, const int16_t *window, const uint32_t *places, uint32_t pairs,
                          int32_t *sums);

#endif
