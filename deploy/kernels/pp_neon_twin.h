/* The C twin of the kernels of pp_neon.h, for compilers without vectors of AArch64: same layouts, same integers. */
#ifndef PP_NEON_TWIN_H
#define PP_NEON_TWIN_H

#include "pp_finish.h"
#include "pp_neon_windows.h"

/* What vectors keep of a layer. */
typedef struct {
    const pp_neon_t *layer;
} pp_neon_ending_t;

static inline pp_neon_ending_t pp_neon_ending(const pp_neon_t *layer)
{
    const pp_neon_ending_t ending = {layer};
    return ending;
}

/* The weight of an input of a part; see pp_neon.h.
 *   rows   of the block
 *   step   inputs whose weights of one row lie side by side, in one half of their bytes where `digits` is two */
static inline int32_t pp_neon_weight(const int8_t *part, uint32_t inputs, uint32_t rows, uint32_t row, uint32_t input,
                                     uint32_t step, uint32_t digits)
{
    const uint32_t whole = inputs / (step * digits) * (step * digits);
    const uint32_t first = input < whole ? input / (step * digits) * (step * digits) : whole;
    const uint32_t side = input < whole ? step : step / 2u;
    const int8_t byte = part[first / digits * rows + row * side + (input - first) % side];
    if (digits == 1u) {
        return byte;
    }
    return (input - first) / side == 0u ? (((byte & 15) ^ 8) - 8) : (byte >> 4);
}

static inline int32_t pp_neon_input(const pp_neon_t *layer, const int8_t *from, uint32_t i)
{
    if (layer->input_bytes == 1u) {
        return from[i];
    }
    int16_t value;
    __builtin_memcpy(&value, from + 2u * i, sizeof value);
    return value;
}

/* Wraps as the vectors do.
 *   less  what inputs are taken too small, and biases make up for */
static inline int32_t pp_neon_sum(const pp_neon_t *layer, const pp_neon_windows_t *windows, const int8_t *from,
                                  const int8_t *weights, uint32_t rows, uint32_t row, uint32_t step, uint32_t digits,
                                  int32_t less, uint32_t bias)
{
    const uint32_t inputs = windows->row->inputs;
    uint32_t sum = bias;
    for (uint32_t part = 0; part < windows->row->parts; part++, weights += inputs / digits * rows) {
        const int8_t *const at = from + windows->row->offsets[part];
        for (uint32_t i = 0; i < inputs; i++) {
            const int32_t weight = pp_neon_weight(weights, inputs, rows, row, i, step, digits);
            sum += (uint32_t)(weight * (pp_neon_input(layer, at, i) - less));
        }
    }
    return (int32_t)sum;
}

static inline void pp_neon_write(const pp_neon_t *layer, int8_t *to, uint32_t row, int32_t sum, int32_t multiplier)
{
    const int32_t high = pp_scaled(sum, (uint32_t)layer->shift, multiplier);
    const int32_t q = pp_clamp(high + layer->zero_point, layer->low, layer->high);
    if (layer->output_bytes == 1u) {
        to[row] = (int8_t)q;
    } else {
        const int16_t value = (int16_t)q;
        __builtin_memcpy(to + 2u * row, &value, sizeof value);
    }
}

/* All blocks of some windows; outputs may lie over inputs that no later block reads, so a block is summed before it is
 * written. */
static inline void pp_neon_tile(const pp_neon_t *layer, const pp_neon_windows_t *windows, uint32_t count,
                                uint32_t step, uint32_t digits, int32_t less)
{
    const uint32_t weight_words = windows->row->parts * windows->row->inputs / digits / 4u;
    const uint32_t *block = windows->row->blocks;
    uint32_t rows = 0;
    for (uint32_t first = 0; first < layer->share; first += rows, block += rows * (2u + weight_words)) {
        const uint32_t left = layer->share - first;
        rows = left >= layer->block_rows ? layer->block_rows : left >= 8u && layer->block_rows > 8u ? 8u : 4u;
        const uint32_t written = left < rows ? left : rows;
        const uint32_t *const multipliers = block + rows * (1u + weight_words);
        int32_t sums[PP_NEON_MOST][PP_NEON_MOST_ROWS];
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t row = 0; row < written; row++) {
                sums[i][row] = pp_neon_sum(layer, windows, windows->from[i], (const int8_t *)(block + rows), rows, row,
                                           step, digits, less, block[row]);
            }
        }
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t row = 0; row < written; row++) {
                pp_neon_write(layer, windows->to[i], first + row, sums[i][row], (int32_t)multipliers[row]);
            }
        }
    }
}

#endif
