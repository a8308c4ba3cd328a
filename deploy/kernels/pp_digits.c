/* The C twin of pp_digits.S, for cores without the DSP extension and for the host. See pp_digits.h. */
#include "pp_digits.h"

#if !defined(__ARM_FEATURE_DSP)

#include "pp_intrinsics.h"

/* Weight of a row in a halfword: the highest digit is signed, the others have half their range added. */
static int32_t pp_weight(uint32_t word, uint32_t half, uint32_t row, uint32_t bits, uint32_t rows)
{
    const int32_t digits = (int16_t)((half ? word >> 16 : word) & 0xFFFFU);
    const int32_t above = digits >> (bits * row);
    return row == rows - 1 ? above : (above & ((1 << bits) - 1)) - (1 << (bits - 1));
}

static int32_t pp_accumulator(const uint32_t *block, const int16_t *input, uint32_t steps, uint32_t row, uint32_t bits,
                              uint32_t rows)
{
    /* The start values are running sums that wrap; their differences are exact again. */
    const uint32_t below = row == 0 ? 0 : block[row - 1];
    int32_t sum = (int32_t)(block[row] - below) / (int32_t)(UINT32_C(1) << (bits * row));
    for (uint32_t i = 0; i < 4 * steps; i++) {
        sum += pp_weight(block[rows + i / 2], i % 2, row, bits, rows) * input[i];
    }
    return sum;
}

static void pp_run(const pp_blocks_t *layer, const int16_t *input, int16_t *output, uint32_t bits, uint32_t rows,
                   uint32_t shift, int32_t high)
{
    const uint32_t *block = layer->blocks;
    const uint32_t weights = 2U * layer->steps;
    for (uint32_t done = 0; done < layer->rows; done += rows, block += 2 * rows + weights) {
        const uint32_t first = done + rows > layer->rows ? layer->rows - rows : done;
        for (uint32_t row = 0; row < rows; row++) {
            const int32_t sum = pp_accumulator(block, input, layer->steps, row, bits, rows);
            const int32_t shifted = sum * (int32_t)(UINT32_C(1) << shift);
            const int32_t multiplier = (int32_t)block[rows + weights + row];
            const int32_t q = pp_multiply_high_round(shifted, multiplier) + layer->zero_point;
            output[first + row] = (int16_t)(q < -high - 1 ? -high - 1 : q > high ? high : q);
        }
    }
}

#define PP_DIGITS_KERNEL(name, bits, rows, shift, high) \
    void pp_digits_##name(const pp_blocks_t *layer, const int16_t *input, int16_t *output) \
    { \
        pp_run(layer, input, output, bits, rows, shift, high); \
    }

PP_DIGITS_KERNEL(octals_s8, 3, 5, 0, INT8_MAX)
PP_DIGITS_KERNEL(octals_s8_shifted, 3, 5, layer->shift, INT8_MAX)
PP_DIGITS_KERNEL(octals_s16, 3, 5, 0, INT16_MAX)
PP_DIGITS_KERNEL(octals_s16_shifted, 3, 5, layer->shift, INT16_MAX)
PP_DIGITS_KERNEL(crumbs_s8, 2, 8, 0, INT8_MAX)
PP_DIGITS_KERNEL(crumbs_s8_shifted, 2, 8, layer->shift, INT8_MAX)
PP_DIGITS_KERNEL(crumbs_s16, 2, 8, 0, INT16_MAX)
PP_DIGITS_KERNEL(crumbs_s16_shifted, 2, 8, layer->shift, INT16_MAX)

#endif
