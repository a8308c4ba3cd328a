/* Depthwise 3x3 convolutions, stride 1 or 2, for cores with the DSP extension.
 *
 * pp_depthwise.S holds the inner function in assembler, pp_depthwise.c what drives it and its twin in C: same
 * layouts, same integers (docs/integer-semantics.md, "Images"). Input and output are int8_t, channels last, and
 * must not overlap, unless they start at one place, as deploy/overlay.py allows; there are at least four channels; the clamp is that of int8_t.
 *
 * Four channels at a time; the last four are computed whole, even if some of them were before. The three rows that an
 * output row sees are gathered as int16_t into a ring: per channel a run of words, two pixels in each, in the order
 * [pair of pixels][row modulo 3]. So every load has a fixed offset, whatever the width, and a row is gathered once.
 * The weights of a channel, in the order in which they are computed, are eight words: bias, multiplier, then (w0, w1)
 * and (w1, w2) of each row. */
#ifndef PP_DEPTHWISE_H
#define PP_DEPTHWISE_H

#include <stdint.h>

/* A row runs along either side of the image, the weights being packed to match: along the longer one, less is spent on
 * the ends of rows. Height, width, top and left are meant with rows along the width. */
typedef struct {
    const uint32_t *weights;
    int32_t zero_point;        /* of the output */
    uint32_t input_pixel;      /* bytes from a pixel to the next in a row, and from a row to the next */
    uint32_t input_row;
    uint32_t output_pixel;
    uint32_t output_row;
    uint16_t input_height;
    uint16_t input_width;
    uint16_t output_height;
    uint16_t output_width;
    uint16_t channels;         /* at least four */
    uint8_t pad_top;
    uint8_t pad_left;
    uint8_t shift;             /* left shift of the accumulator; only where the kernel's name says so */
    int8_t padding;            /* what taps outside the image read: the input's zero point */
} pp_depthwise_t;

/* Bytes of the ring. */
#define PP_DEPTHWISE_RING_BYTES(stride, output_width) (48 * ((stride) * (((output_width) + 1) / 2) + 1))

void pp_depthwise_s1(const pp_depthwise_t *layer, const int8_t *input, int8_t *output, uint32_t *ring);
void pp_depthwise_s1_shifted(const pp_depthwise_t *layer, const int8_t *input, int8_t *output, uint32_t *ring);
void pp_depthwise_s2(const pp_depthwise_t *layer, const int8_t *input, int8_t *output, uint32_t *ring);
void pp_depthwise_s2_shifted(const pp_depthwise_t *layer, const int8_t *input, int8_t *output, uint32_t *ring);

/* The inner function: four channels of the whole image. The assembler reads the fields by their offsets. */
typedef struct {
    const uint32_t *weights;
    int32_t zero_point;
    uint32_t output_pixel;
    uint32_t pairs;          /* output_width / 2 */
    uint32_t odd;            /* output_width % 2 */
    uint32_t shift;
    const int8_t *source;    /* where the first row would lie that a window sees; it may be outside the image */
    int32_t row;             /* its number */
    uint32_t first;          /* bytes in the ring to the first word that holds a pixel */
    uint32_t rows;           /* output_height */
    uint32_t skip;           /* bytes from a row of the output to the next, less four */
    uint32_t height;         /* input_height */
    uint32_t input_row;
    uint32_t plane;          /* bytes in the ring from a channel to the next */
    uint32_t padding;        /* two halfwords */
    uint32_t gather_pairs;   /* words that hold two pixels */
    uint32_t lead;           /* 1 where the first word holds padding and a pixel */
    uint32_t trail;          /* 1 where the last holds a pixel and padding */
    uint32_t padding_bytes;  /* four bytes */
    uint32_t input_pixel;
} pp_depthwise_work_t;

typedef void pp_depthwise_kernel_t(const pp_depthwise_work_t *work, uint32_t *ring, int8_t *output);

pp_depthwise_kernel_t pp_depthwise_group_s1;
pp_depthwise_kernel_t pp_depthwise_group_s1_shifted;
pp_depthwise_kernel_t pp_depthwise_group_s2;
pp_depthwise_kernel_t pp_depthwise_group_s2_shifted;

#endif
