/* Fully connected layers and convolutions of 8-bit activations, for cores with vectors of 128 bits (Cortex-M55: MVE).
 *
 * pp_mve.S holds the rows in assembler; pp_mve_rows.c is their twin in C for every other core and for the host: same
 * layouts, same integers.
 *
 * Four rows at a time. A block is a run of words: 4 start values, the weights, 4 multipliers; rows are padded to four by
 * zeros. Start values are biases.
 *   bytes    per 16 inputs, 16 bytes of each of the four rows.
 *   nibbles  per 16 inputs, 16 bytes of the first two rows and 16 of the others: in the high half of a byte the weight of
 *            the first of both, in the low half that of the second plus 8. A byte times an input, summed, is 16 times the
 *            first row's sum and the second's, and wraps: the first row's has to stay within 2^27. The start value of the
 *            first is 16 times its bias and the second's bias. */
#ifndef PP_MVE_H
#define PP_MVE_H

#include "pp_rows.h"

/* Output and input must not overlap. What lies behind the last input is not read. */
void pp_mve_rows_bytes(const pp_rows_t *layer, const int8_t *input, int8_t *output);

void pp_mve_rows_nibbles(const pp_rows_t *layer, const int8_t *input, int8_t *output);

#if defined(__ARM_FEATURE_MVE)
/* Copy bytes; the ranges must not overlap. */
void pp_mve_copy(int8_t *to, const int8_t *from, uint32_t bytes);
#endif

/* `column` has room for a window, up to the next multiple of 16 elements. */
void pp_mve_conv_bytes(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, int8_t *column);
void pp_mve_conv_nibbles(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, int8_t *column);

#endif
