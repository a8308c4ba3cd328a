/* Fully connected layers and convolutions of 8-bit activations, for cores with vectors of 128 bits (Cortex-M55: MVE).
 *
 * pp_mve.S holds the rows in assembler; pp_mve_rows.c is their twin in C for every other core and for the host: same
 * layouts, same integers.
 *
 * Four rows at a time. A block is a run of words: 4 biases, the weights, 4 multipliers; rows are padded to four by zeros.
 *   bytes    per 16 inputs, 16 bytes of each of the four rows.
 *   nibbles  per 32 inputs, 16 bytes of each of the four rows: in the low half of a byte one of the first 16 inputs'
 *            weights plus 8, in the high half one of the last 16's. The kernel takes the eights off by the sum of the
 *            first inputs, so what lies behind the last input may be anything, but must be readable. */
#ifndef PP_MVE_H
#define PP_MVE_H

#include "pp_rows.h"

/* Output and input must not overlap. */
void pp_mve_rows_bytes(const pp_rows_t *layer, const int8_t *input, int8_t *output);

/* `input` is readable up to the next multiple of 32 elements. */
void pp_mve_rows_nibbles(const pp_rows_t *layer, const int8_t *input, int8_t *output);

/* Copy bytes; the ranges must not overlap. */
void pp_mve_copy(int8_t *to, const int8_t *from, uint32_t bytes);

/* `column` has room for a window, up to the next multiple of 32 elements. */
void pp_mve_conv_bytes(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, int8_t *column);
void pp_mve_conv_nibbles(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, int8_t *column);

#endif
