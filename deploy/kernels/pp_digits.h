/* Fully connected layers with weights of 3 or 2 bits, for cores with the DSP extension.
 *
 * pp_digits.S holds them in assembler; pp_digits.c is their twin in C: same layouts, same integers. Input and output
 * are int16_t as in pp_blocks.h, the input's integers those of an int8 activation; the output is clamped to int8 or
 * int16 and exactly `rows` elements are written.
 *
 *   octals  weights of 3 bits, blocks of 5 rows
 *   crumbs  weights of 2 bits, blocks of 8 rows
 *
 * A block is a run of words: a start value for each row, per two inputs one word of weights, a multiplier for each row.
 * There are as many blocks as cover the rows; the last covers the last 5 or 8 of them, even if some were covered
 * before, so rows is at least that. A halfword holds one input's weights of all rows of a block as digits, the
 * highest signed, to the others half their range added, which the kernel takes off by the sum of the inputs. With
 * `bits` to a digit, the start value of row i is the running sum of bias[j] << (bits * j), j <= i. That an
 * accumulator, moved to its digit's place, fits in int32 is proven when the weights are packed. */
#ifndef PP_DIGITS_H
#define PP_DIGITS_H

#include "pp_blocks.h"

#define PP_DIGITS_KERNEL(name) void pp_digits_##name(const pp_blocks_t *layer, const int16_t *input, int16_t *output);

PP_DIGITS_KERNEL(octals_s8)
PP_DIGITS_KERNEL(octals_s8_shifted)
PP_DIGITS_KERNEL(octals_s16)
PP_DIGITS_KERNEL(octals_s16_shifted)
PP_DIGITS_KERNEL(crumbs_s8)
PP_DIGITS_KERNEL(crumbs_s8_shifted)
PP_DIGITS_KERNEL(crumbs_s16)
PP_DIGITS_KERNEL(crumbs_s16_shifted)

#undef PP_DIGITS_KERNEL

#endif
