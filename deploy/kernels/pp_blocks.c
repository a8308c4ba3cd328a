/* The C twin of pp_blocks.S, for cores without the DSP extension and for the host. See pp_blocks.h. */
#include "pp_blocks.h"

void pp_clamp_s16(int16_t *values, uint32_t size, int16_t low, int16_t high)
{
    for (uint32_t i = 0; i < size; i++) {
        if (values[i] < low) {
            values[i] = low;
        } else if (values[i] > high) {
            values[i] = high;
        }
    }
}

void pp_exchange_s16(int16_t *values, const uint16_t *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = rows[i];
        int16_t value = values[row];
        values[row] = values[row | 3u];
        values[row | 3u] = value;
    }
}

#if !defined(__ARM_FEATURE_DSP)

#include "pp_intrinsics.h"
#include "pp_kernels.h"

typedef void pp_sum_t(const uint32_t *weights, const int16_t *input, uint32_t steps, int32_t sums[4]);

static int32_t pp_low_half(uint32_t word)
{
    return (int16_t)(word & 0xFFFFU);
}

static int32_t pp_high_half(uint32_t word)
{
    return (int16_t)(word >> 16);
}

/* 256 * a + b back to a and b, each with its own sum. */
static void pp_add_pair(int32_t pair, int32_t value, int32_t sums[2])
{
    const int32_t b = (int8_t)(pair & 0xFF);
    sums[0] += (pair - b) / 256 * value;
    sums[1] += b * value;
}

static void pp_sum_pairs(const uint32_t *weights, const int16_t *input, uint32_t steps, int32_t sums[4])
{
    /* 256 * bias[a] + bias[b] wraps; its difference to bias[b] is exact again. */
    sums[0] = (int32_t)((uint32_t)sums[0] - (uint32_t)sums[1]) / 256;
    sums[2] = (int32_t)((uint32_t)sums[2] - (uint32_t)sums[3]) / 256;
    for (uint32_t i = 0; i < 2 * steps; i++, weights += 2, input += 2) {
        for (uint32_t pair = 0; pair < 2; pair++) {
            pp_add_pair(pp_low_half(weights[pair]), input[0], &sums[2 * pair]);
            pp_add_pair(pp_high_half(weights[pair]), input[1], &sums[2 * pair]);
        }
    }
}

static void pp_sum_bytes(const uint32_t *weights, const int16_t *input, uint32_t steps, int32_t sums[4])
{
    for (uint32_t i = 0; i < steps; i++, weights += 4, input += 4) {
        for (uint32_t row = 0; row < 4; row++) {
            const uint32_t word = weights[row];
            sums[row] += (int8_t)(word & 0xFFU) * input[0];
            sums[row] += (int8_t)((word >> 16) & 0xFFU) * input[1];
            sums[row] += (int8_t)((word >> 8) & 0xFFU) * input[2];
            sums[row] += (int8_t)(word >> 24) * input[3];
        }
    }
}

static void pp_sum_halfwords(const uint32_t *weights, const int16_t *input, uint32_t steps, int32_t sums[4])
{
    for (uint32_t i = 0; i < 2 * steps; i++, weights += 4, input += 2) {
        for (uint32_t row = 0; row < 4; row++) {
            sums[row] += pp_low_half(weights[row]) * input[0] + pp_high_half(weights[row]) * input[1];
        }
    }
}

static void pp_sum_nibbles(const uint32_t *weights, const int16_t *input, uint32_t steps, int32_t sums[4])
{
    /* The start values are running sums that wrap; their differences are exact again. */
    for (uint32_t row = 3; row > 0; row--) {
        sums[row] = (int32_t)((uint32_t)sums[row] - (uint32_t)sums[row - 1]) / (int32_t)(UINT32_C(1) << (4 * row));
    }
    for (uint32_t i = 0; i < 4 * steps; i++) {
        const int32_t digits = i % 2 ? pp_high_half(weights[i / 2]) : pp_low_half(weights[i / 2]);
        for (uint32_t row = 0; row < 3; row++) {
            sums[row] += ((digits >> (4 * row) & 15) - 8) * input[i];
        }
        sums[3] += (digits >> 12) * input[i];
    }
}

static int16_t pp_clamped(int32_t q, int32_t low, int32_t high)
{
    return (int16_t)(q < low ? low : q > high ? high : q);
}

static int16_t pp_end_s8(int32_t q, const void *table)
{
    (void)table;
    return pp_clamped(q, INT8_MIN, INT8_MAX);
}

static int16_t pp_end_s8_table(int32_t q, const void *table)
{
    return ((const int8_t *)table)[pp_clamped(q, INT8_MIN, INT8_MAX)];
}

static int16_t pp_end_s16(int32_t q, const void *table)
{
    (void)table;
    return pp_clamped(q, INT16_MIN, INT16_MAX);
}

static int16_t pp_end_s16_relu(int32_t q, const void *table)
{
    (void)table;
    return pp_clamped(q, 0, INT16_MAX);
}

static int16_t pp_end_s16_table(int32_t q, const void *table)
{
    return pp_interpolate_s16((const int16_t *)table, pp_clamped(q, INT16_MIN, INT16_MAX));
}

static void pp_run(const pp_blocks_t *layer, const int16_t *input, int16_t *output, uint32_t words_per_step,
                   uint32_t shift, pp_sum_t *sum, int16_t (*end)(int32_t q, const void *table))
{
    const uint32_t *block = layer->blocks;
    for (uint32_t row = 0; row < layer->rows; row += 4, block += words_per_step * layer->steps + 8) {
        const uint32_t *const multiplier = block + 4 + words_per_step * layer->steps;
        int32_t sums[4] = {(int32_t)block[0], (int32_t)block[1], (int32_t)block[2], (int32_t)block[3]};
        sum(block + 4, input, layer->steps, sums);
        for (uint32_t i = 0; i < 4; i++) {
            const int32_t shifted = sums[i] * (int32_t)(UINT32_C(1) << shift);
            const int32_t q = pp_multiply_high_round(shifted, (int32_t)multiplier[i]) + layer->zero_point;
            output[row + i] = end(q, layer->table);
        }
    }
}

#define PP_BLOCKS_KERNEL(layout, words_per_step, finish) \
    void pp_blocks_##layout##_##finish(const pp_blocks_t *layer, const int16_t *input, int16_t *output) \
    { \
        pp_run(layer, input, output, words_per_step, 0, pp_sum_##layout, pp_end_##finish); \
    } \
    void pp_blocks_##layout##_##finish##_shifted(const pp_blocks_t *layer, const int16_t *input, int16_t *output) \
    { \
        pp_run(layer, input, output, words_per_step, layer->shift, pp_sum_##layout, pp_end_##finish); \
    }

#define PP_BLOCKS_KERNELS(layout, words_per_step) \
    PP_BLOCKS_KERNEL(layout, words_per_step, s8) \
    PP_BLOCKS_KERNEL(layout, words_per_step, s8_table) \
    PP_BLOCKS_KERNEL(layout, words_per_step, s16) \
    PP_BLOCKS_KERNEL(layout, words_per_step, s16_relu) \
    PP_BLOCKS_KERNEL(layout, words_per_step, s16_table)

PP_BLOCKS_KERNELS(pairs, 4)
PP_BLOCKS_KERNELS(bytes, 4)
PP_BLOCKS_KERNELS(halfwords, 8)
PP_BLOCKS_KERNELS(nibbles, 2)

#endif
