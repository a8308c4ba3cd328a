/* Sums, changes of scale, functions and pools of 8-bit activations, sixteen at a time with the vectors of AArch64: the
 * kernels of pp_kernels.h without `neon` in their names compute the same from the same operands. Sums, changes of scale and
 * functions work in place; pools take windows without dilation. */
#ifndef PP_NEON_POINTS_H
#define PP_NEON_POINTS_H

#include "pp_kernels.h"

void pp_neon_sum_s8(const pp_weighted_sum_t *by, const int8_t *a, const int8_t *b, int8_t *output, size_t size);
void pp_neon_rescale_s8(const pp_weighted_sum_t *by, const int8_t *a, int8_t *output, size_t size);
void pp_neon_lookup_s8(const int8_t *table, const int8_t *input, int8_t *output, size_t size);
void pp_neon_max_pool_s8(const pp_pool_t *layer, const int8_t *input, int8_t *output);
void pp_neon_average_pool_s8(const pp_pool_t *layer, const int8_t *input, int8_t *output);

#endif
