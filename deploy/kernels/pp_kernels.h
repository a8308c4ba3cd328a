/* Kernels in plain C, for any core and for the host: this header is their contract.
 *
 * Integers as in docs/integer-semantics.md, version 1:
 *   accumulator  acc[o] = bias[o] + sum over i of weights[o][i] * input[i]      int32, proven not to overflow
 *   requantize   q[o] = clamp(((((int64_t)acc << shift) * multiplier[o] + 2^31) >> 32) + zero_point, low, high)
 *   lookup       int8:  table[q]              int16: (table[i] * (256 - f) + table[i + 1] * f + 128) >> 8,
 *                                             i = q >> 8, f = q & 255
 * The caller owns every buffer. Input and output of a fully connected layer must not overlap; a lookup works
 * in place. Nothing is read or written outside the sizes given. No alignment beyond that of the element type. */
#ifndef PP_KERNELS_H
#define PP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* How an accumulator becomes an activation. */
typedef struct {
    const int32_t *multiplier; /* [outputs], each in [0, 2^31) */
    const void *table;         /* int8_t or int16_t as the output, pointing at the entry for q = 0; or NULL */
    int32_t zero_point;
    int16_t low;               /* clamp before the table */
    int16_t high;
    uint16_t shift;            /* left shift of the accumulator, usually 0 */
} pp_requantize_t;

typedef struct {
    const int8_t *weights; /* [outputs][inputs] */
    const int32_t *bias;   /* [outputs], input zero point folded in */
    uint16_t inputs;
    uint16_t outputs;
    pp_requantize_t requantize;
} pp_fully_connected_t;

/* Fully connected layer; the suffixes are the types of input and output. */
void pp_fully_connected_s8_s8(const pp_fully_connected_t *layer, const int8_t *input, int8_t *output);
void pp_fully_connected_s8_s16(const pp_fully_connected_t *layer, const int8_t *input, int16_t *output);
void pp_fully_connected_s16_s8(const pp_fully_connected_t *layer, const int16_t *input, int8_t *output);
void pp_fully_connected_s16_s16(const pp_fully_connected_t *layer, const int16_t *input, int16_t *output);

/* Pointwise function by table, in place; table points at the entry for q = 0. */
void pp_lookup_s8(const int8_t *table, int8_t *values, size_t size);
void pp_lookup_s16(const int16_t *table, int16_t *values, size_t size);

/* The int8 function on values stored as int16. */
void pp_lookup_s8_in_s16(const int8_t *table, int16_t *values, size_t size);

/* One value by an int16 table. */
static inline int16_t pp_interpolate_s16(const int16_t *table, int32_t q)
{
    const int16_t *entry = table + (q >> 8);
    const int32_t fraction = q & 255;
    return (int16_t)((entry[0] * (256 - fraction) + entry[1] * fraction + 128) >> 8);
}

#endif
