/* The C twin of pp_mve.S, for cores without vectors and for the host. See pp_mve.h. */
#include "pp_mve.h"

#if !defined(__ARM_FEATURE_MVE)

#include "pp_intrinsics.h"

enum { ROWS = 4 };

static void store(const pp_rows_t *layer, const int32_t *sums, const uint32_t *multipliers, int8_t *output,
                  uint32_t count)
{
    for (uint32_t row = 0; row < count; row++) {
        int32_t sum = sums[row] * (int32_t)(UINT32_C(1) << layer->shift);
        int32_t q = pp_multiply_high_round(sum, (int32_t)multipliers[row]) + layer->zero_point;
        q = q < layer->low ? layer->low : q;
        output[row] = (int8_t)(q > layer->high ? layer->high : q);
    }
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void pp_mve_rows_bytes(const pp_rows_t *layer, const int8_t *input, int8_t *output)
{
    const uint32_t *words = layer->blocks;
    for (uint32_t first = 0; first < layer->rows; first += ROWS) {
        int32_t sums[ROWS];
        for (uint32_t row = 0; row < ROWS; row++) {
            sums[row] = (int32_t)words[row];
        }
        const int8_t *weights = (const int8_t *)(words + ROWS);
        for (uint32_t at = 0; at < layer->inputs; at += 16u) {
            const uint32_t count = least(16u, layer->inputs - at);
            for (uint32_t row = 0; row < ROWS; row++) {
                for (uint32_t i = 0; i < count; i++) {
                    sums[row] += input[at + i] * weights[16u * row + i];
                }
            }
            weights += 16 * ROWS;
        }
        words = (const uint32_t *)(const void *)weights;
        store(layer, sums, words, output + first, least(ROWS, layer->rows - first));
        words += ROWS;
    }
}

void pp_mve_rows_nibbles(const pp_rows_t *layer, const int8_t *input, int8_t *output)
{
    const uint32_t *words = layer->blocks;
    uint32_t eights = 0;
    for (uint32_t i = 0; i < layer->inputs; i++) {
        eights += (uint32_t)(8 * input[i]);
    }
    for (uint32_t first = 0; first < layer->rows; first += ROWS) {
        uint32_t sums[ROWS];
        for (uint32_t row = 0; row < ROWS; row++) {
            sums[row] = words[row];
        }
        const uint8_t *weights = (const uint8_t *)(words + ROWS);
        for (uint32_t at = 0; at < layer->inputs; at += 16u) {
            const uint32_t count = least(16u, layer->inputs - at);
            for (uint32_t row = 0; row < ROWS; row += 2u, weights += 16) {
                for (uint32_t i = 0; i < count; i++) {
                    sums[row] += (uint32_t)(input[at + i] * (int8_t)weights[i]);
                    sums[row + 1] += (uint32_t)(input[at + i] * (weights[i] & 15));
                }
            }
        }
        int32_t apart[ROWS];
        for (uint32_t row = 0; row < ROWS; row += 2u) {
            apart[row] = (int32_t)(sums[row] - sums[row + 1]) >> 4;
            apart[row + 1] = (int32_t)(sums[row + 1] - eights);
        }
        words = (const uint32_t *)(const void *)weights;
        store(layer, apart, words, output + first, least(ROWS, layer->rows - first));
        words += ROWS;
    }
}

#endif
