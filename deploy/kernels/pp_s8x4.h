/* Pools, sums and clamps of int8_t, four channels at a time: the contract of pp_s8x4.c and pp_pool_s8x4.c.
 *
 * The integers are those of pp_kernels.h. On cores with the DSP extension a word is one operand; elsewhere the same code
 * runs on twins in C of those instructions (pp_simd.h). */
#ifndef PP_S8X4_H
#define PP_S8X4_H

#include "pp_kernels.h"

/* A clamp, in place. */
void pp_clamp_s8(int8_t *values, size_t size, int8_t low, int8_t high);

/* As pp_sum_s8_s8_s8; in place of an operand if asked to. */
void pp_sum_s8x4(const pp_weighted_sum_t *by, const int8_t *a, const int8_t *b, int8_t *output, size_t size);

/* As pp_max_pool_s8 and pp_average_pool_s8, for channels that are a multiple of four and a dilation of 1; the mean, of at most
 * 255 pixels. */
void pp_max_pool_s8x4(const pp_pool_t *layer, const int8_t *input, int8_t *output);
void pp_average_pool_s8x4(const pp_pool_t *layer, const int8_t *input, int8_t *output);

#endif
