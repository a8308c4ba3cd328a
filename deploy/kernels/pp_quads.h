/* Fully connected layers and convolutions of 8-bit activations, for cores that multiply one pair at a time (Cortex-M0,
 * M0+, M3).
 *
 * pp_quads.S holds the sums in assembler; pp_quads.c the rest, and their twin in C for every other core and for the host.
 *
 * Inputs are made unsigned by adding 128, so that every load has an offset of its own; weights are stored unsigned too:
 * what that adds to a sum is the same multiple of the sum of the inputs for every row, computed once.
 * Eight rows at a time, the last four or fewer of a layer of bytes four at a time. A block is a run of words: a start value
 * for each row, the weights, a multiplier for each row; rows are padded by zeros. A start value is the bias less 128 times
 * the sum of the row's weights.
 *   bytes    per input a byte of each row, the weight plus 128; inputs are padded to a multiple of eight.
 *   nibbles  per input a word, 4 bits of each row, the weight plus 8; inputs are padded to a multiple of sixteen. Two rows
 *            that lie 16 bits apart are multiplied at once: sixteen products of at most 15 * 255 add up to less than 2^16.
 *   crumbs   per two inputs a word, 2 bits of each row, the weight plus 2: in its first and third byte those of the first
 *            input; inputs are padded to a multiple of eight. 64 products of at most 3 * 255 add up to less than 2^16. */
#ifndef PP_QUADS_H
#define PP_QUADS_H

#include "pp_rows.h"

/* `column` has room for the inputs, up to the next multiple of sixteen; it may be where they lie. */
void pp_quads_rows_bytes(const pp_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column);
void pp_quads_rows_nibbles(const pp_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column);
void pp_quads_rows_crumbs(const pp_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column);
void pp_quads_conv_bytes(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column);
void pp_quads_conv_nibbles(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column);
void pp_quads_conv_crumbs(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column);

/* Each channel with its own taps. Blocks hold per channel its bias, its multiplier, and kernel_height * kernel_width weights
 * as bytes, padded to whole words. `column` has room for a window of all channels. */
void pp_quads_depthwise(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column);

/* Add the products of eight rows, or four, to `sums`; what lies behind their weights. `end` is whole rounds away. */
const uint8_t *pp_quads_sum8_bytes(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums);
const uint8_t *pp_quads_sum4_bytes(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums);
const uint8_t *pp_quads_sum8_nibbles(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums);
const uint8_t *pp_quads_sum8_crumbs(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums);

#endif
