/* Kernels that compute four rows at a time, for cores with the DSP extension (Cortex-M4, M7, M33).
 *
 * pp_blocks.S holds them in assembler; pp_blocks.c is their twin in C for every other core and for the host:
 * same layouts, same integers. Semantics as in pp_kernels.h; the clamp is that of the output's width.
 *
 * Activations lie as int16_t whatever their width, in buffers aligned to 4 bytes and padded to a multiple of
 * four elements; the kernels read and write the padding too (its weights are zero). Input and output must
 * not overlap.
 *
 * A block is a run of words: 4 start values, `steps` groups of weights, 4 multipliers. Per group of four inputs:
 *   pairs      4 words. A halfword is 256 * a + b of two rows a, b: multiplied by the input it sums to
 *              256 * A + B, its signed low byte to B. |A| < 2^23 is proven when the weights are packed.
 *              Start values 256 * bias[a] + bias[b] and bias[b]. For int8 activations.
 *   bytes      4 words, one a row: inputs 0, 2, 1, 3 from the lowest byte, as SXTB16 takes them apart.
 *   halfwords  8 words: four rows of inputs 0 and 1, then four rows of inputs 2 and 3.
 *   nibbles    2 words. A halfword is 4096 * d + 256 * (c + 8) + 16 * (b + 8) + (a + 8) of four rows a to d with weights of
 *              at most four bits; the kernel takes the eights off by the sum of the inputs. Start values are the
 *              running sums of a, 16 * b, 256 * c, 4096 * d of the biases. |D| < 2^19, |C| < 2^23, |B| < 2^27 is
 *              proven when the weights are packed. For int8 activations. */
#ifndef PP_BLOCKS_H
#define PP_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

/* The assembler reads the fields by their offsets. */
typedef struct {
    const uint32_t *blocks;
    int32_t zero_point;
    uint16_t steps;      /* inputs / 4, rounded up */
    uint16_t rows;       /* outputs, rounded up to a multiple of four */
    const void *table;   /* int8_t or int16_t, pointing at the entry for q = 0; NULL where the name says none */
    uint32_t shift;      /* left shift of the accumulator; only where the name says so */
} pp_blocks_t;

#define PP_BLOCKS_KERNEL(layout, finish) \
    void pp_blocks_##layout##_##finish(const pp_blocks_t *layer, const int16_t *input, int16_t *output); \
    void pp_blocks_##layout##_##finish##_shifted(const pp_blocks_t *layer, const int16_t *input, int16_t *output);

/* Ends: clamp to int8 or int16, with or without a table; int16 with ReLU. */
#define PP_BLOCKS_KERNELS(layout) \
    PP_BLOCKS_KERNEL(layout, s8) \
    PP_BLOCKS_KERNEL(layout, s8_table) \
    PP_BLOCKS_KERNEL(layout, s16) \
    PP_BLOCKS_KERNEL(layout, s16_relu) \
    PP_BLOCKS_KERNEL(layout, s16_table)

PP_BLOCKS_KERNELS(pairs)
PP_BLOCKS_KERNELS(bytes)
PP_BLOCKS_KERNELS(halfwords)
PP_BLOCKS_KERNELS(nibbles)

#undef PP_BLOCKS_KERNELS
#undef PP_BLOCKS_KERNEL

/* Exchange each value named with the last of its four, values[row | 3]. */
void pp_exchange_s16(int16_t *values, const uint16_t *rows, uint32_t count);

/* A clamp narrower than the width, on values that a kernel left. */
void pp_clamp_s16(int16_t *values, uint32_t size, int16_t low, int16_t high);

#endif
