/* Four rows at a time in C. See pp_quartets.h. */
#include "pp_quartets.h"

#include "pp_finish.h"

/* The sums of four rows; returns what lies behind their weights. A function of its own, so that its registers suffice. */
static __attribute__((noinline)) const uint32_t *pp_sums(const uint32_t *block, const int16_t *input,
                                                         const int16_t *end, int32_t *sums)
{
    const int8_t *weights = (const int8_t *)(block + 4);
    int32_t a = (int32_t)block[0];
    int32_t b = (int32_t)block[1];
    int32_t c = (int32_t)block[2];
    int32_t d = (int32_t)block[3];
    for (; input != end; input += 2, weights += 8) {
        const int32_t first = input[0];
        a += weights[0] * first;
        b += weights[1] * first;
        c += weights[2] * first;
        d += weights[3] * first;
        const int32_t second = input[1];
        a += weights[4] * second;
        b += weights[5] * second;
        c += weights[6] * second;
        d += weights[7] * second;
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
    return (const uint32_t *)(const void *)weights;
}

static void pp_rows(const pp_blocks_t *layer, const int16_t *input, int16_t *output, int32_t low, int32_t high)
{
    const int16_t *const inputs_end = input + 4 * (uint32_t)layer->steps;
    const int16_t *const end = output + layer->rows;
    for (const uint32_t *block = layer->blocks; output != end; block += 4, output += 4) {
        int32_t sums[4];
        block = pp_sums(block, input, inputs_end, sums);
        for (uint32_t row = 0; row < 4; row++) {
            const int32_t q = pp_scaled(sums[row], layer->shift, (int32_t)block[row]) + layer->zero_point;
            output[row] = (int16_t)pp_clamp(q, low, high);
        }
    }
}

void pp_quartets_s8(const pp_blocks_t *layer, const int16_t *input, int16_t *output)
{
    pp_rows(layer, input, output, INT8_MIN, INT8_MAX);
}

void pp_quartets_s16(const pp_blocks_t *layer, const int16_t *input, int16_t *output)
{
    pp_rows(layer, input, output, INT16_MIN, INT16_MAX);
}
