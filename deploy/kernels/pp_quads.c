/* Rows and convolutions; for other cores than Cortex-M0 and M3 their sums too. See pp_quads.h. */
#include "pp_quads.h"

#include "pp_intrinsics.h"

#include <stddef.h>

enum { ROWS = 8, STEP = 16 };

typedef const uint8_t *sum_t(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums);

/* Four bytes in a word, wherever they may lie. */
static uint32_t word_at(const void *at)
{
    uint32_t word;
    __builtin_memcpy(&word, __builtin_assume_aligned(at, 4), sizeof word);
    return word;
}

/* Inputs plus 128 into `column`, zeros up to a whole step; their sum. */
static uint32_t take(const int8_t *input, uint32_t count, uint8_t *column)
{
    uint32_t sum = 0, i = 0;
    if (((uintptr_t)input & 3u) == 0u) {
        for (; i + 4u <= count; i += 4u) {
            const uint32_t word = word_at(input + i) ^ UINT32_C(0x80808080);
            const uint32_t pairs = (word & UINT32_C(0x00FF00FF)) + ((word >> 8) & UINT32_C(0x00FF00FF));
            sum += (pairs & 0xFFFFu) + (pairs >> 16);
            __builtin_memcpy(__builtin_assume_aligned(column + i, 4), &word, sizeof word);
        }
    }
    for (; i < count; i++) {
        column[i] = (uint8_t)(input[i] + 128);
        sum += column[i];
    }
    for (; i % STEP != 0u; i++) {
        column[i] = 0;
    }
    return sum;
}

/* How a sum ends; copies of the layer's fields, which stores of bytes cannot change. */
typedef struct {
    int32_t zero_point;
    int32_t low;
    int32_t high;
    uint32_t shift;
} ending_t;

static inline int8_t finish(ending_t by, uint32_t sum, uint32_t multiplier)
{
    const int32_t q = pp_multiply_high_round((int32_t)(sum << by.shift), (int32_t)multiplier) + by.zero_point;
    const int32_t above = q < by.low ? by.low : q;
    return (int8_t)(above > by.high ? by.high : above);
}

/* How the rows of a layout are summed, and what was added to its weights. */
typedef struct {
    sum_t *eight;
    sum_t *four; /* NULL: rows come by eight alone */
    uint32_t half;
    uint32_t step; /* inputs of a round, a power of two */
} layout_t;

static const layout_t BYTES = {pp_quads_sum8_bytes, pp_quads_sum4_bytes, 128u, 8u};
static const layout_t NIBBLES = {pp_quads_sum8_nibbles, NULL, 8u, 16u};
static const layout_t CRUMBS = {pp_quads_sum8_crumbs, NULL, 2u, 8u};

static void pp_quads_rows(const pp_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column,
                          const layout_t *layout)
{
    const ending_t by = {layer->zero_point, layer->low, layer->high, layer->shift};
    const uint32_t added = layout->half * take(input, layer->inputs, column);
    const uint8_t *const end = column + ((layer->inputs + layout->step - 1u) & ~(layout->step - 1u));
    const uint32_t *words = layer->blocks;
    for (uint32_t left = layer->rows; left != 0u;) {
        const bool four = layout->four != NULL && left <= 4u;
        const uint32_t block = four ? 4u : 8u;
        const uint32_t count = left < block ? left : block;
        uint32_t sums[ROWS];
        for (uint32_t row = 0; row < block; row++) {
            sums[row] = words[row] - added;
        }
        sum_t *const sum = four ? layout->four : layout->eight;
        words = (const uint32_t *)(const void *)sum((const uint8_t *)(words + block), column, end, sums);
        for (uint32_t row = 0; row < count; row++) {
            output[row] = finish(by, sums[row], words[row]);
        }
        words += block;
        output += count;
        left -= count;
    }
}

static void pp_quads_convolve(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column,
                              const layout_t *layout)
{
    const bool pointwise = pp_is_pointwise(layer);
    for (int32_t y = 0; y < layer->output_height; y++) {
        for (int32_t x = 0; x < layer->output_width; x++) {
            const int8_t *window = input;
            if (pointwise) {
                input += layer->input_channels;
            } else {
                pp_gather(layer, input, y, x, (int8_t *)column);
                window = (const int8_t *)column;
            }
            pp_quads_rows(&layer->rows, window, output, column, layout);
            output += layer->output_channels;
        }
    }
}

void pp_quads_rows_bytes(const pp_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column)
{
    pp_quads_rows(layer, input, output, column, &BYTES);
}

void pp_quads_rows_nibbles(const pp_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column)
{
    pp_quads_rows(layer, input, output, column, &NIBBLES);
}

void pp_quads_rows_crumbs(const pp_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column)
{
    pp_quads_rows(layer, input, output, column, &CRUMBS);
}

void pp_quads_conv_bytes(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column)
{
    pp_quads_convolve(layer, input, output, column, &BYTES);
}

void pp_quads_conv_nibbles(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column)
{
    pp_quads_convolve(layer, input, output, column, &NIBBLES);
}

void pp_quads_conv_crumbs(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column)
{
    pp_quads_convolve(layer, input, output, column, &CRUMBS);
}

/* The taps of a channel, `across` bytes from one to the next in a row and `down` from row to row. */
typedef struct {
    uint32_t height;
    uint32_t width;
    uint32_t across;
    uint32_t down;
} taps_t;

static inline int32_t three(const int8_t *value, uint32_t across, const int8_t *weight)
{
    return value[0] * weight[0] + value[across] * weight[1] + value[2u * across] * weight[2];
}

static inline int32_t sum_of_taps(taps_t taps, const int8_t *value, const int8_t *weight)
{
    int32_t sum = 0;
    for (uint32_t row = 0; row < taps.height; row++, value += taps.down) {
        const int8_t *at = value;
        for (uint32_t column = 0; column < taps.width; column++, at += taps.across) {
            sum += *at * *weight++;
        }
    }
    return sum;
}

/* One output pixel. */
static void all_channels(const pp_conv_rows_t *layer, ending_t by, taps_t taps, const int8_t *value, int8_t *output)
{
    const uint32_t skip = 2u + (layer->rows.inputs + 3u) / 4u;
    const uint32_t *words = layer->rows.blocks;
    const int8_t *const end = output + layer->output_channels;
    if (taps.height == 3u && taps.width == 3u) {
        const uint32_t across = taps.across, down = taps.down;
        for (; output != end; words += skip, value++) {
            const int8_t *const weight = (const int8_t *)(words + 2);
            int32_t sum = (int32_t)words[0] + three(value, across, weight);
            sum += three(value + down, across, weight + 3) + three(value + 2u * down, across, weight + 6);
            *output++ = finish(by, (uint32_t)sum, words[1]);
        }
        return;
    }
    for (; output != end; words += skip, value++) {
        const int32_t sum = (int32_t)words[0] + sum_of_taps(taps, value, (const int8_t *)(words + 2));
        *output++ = finish(by, (uint32_t)sum, words[1]);
    }
}

void pp_quads_depthwise(const pp_conv_rows_t *layer, const int8_t *input, int8_t *output, uint8_t *column)
{
    const ending_t by = {layer->rows.zero_point, layer->rows.low, layer->rows.high, layer->rows.shift};
    const uint32_t channels = layer->input_channels, width = layer->kernel_width;
    const taps_t inside = {layer->kernel_height, width, channels, channels * layer->input_width};
    const taps_t gathered = {layer->kernel_height, width, channels, channels * width};
    for (int32_t y = 0; y < layer->output_height; y++) {
        const int32_t top = y * layer->stride_y - layer->pad_top;
        const bool rows_inside = top >= 0 && top + layer->kernel_height <= layer->input_height;
        for (int32_t x = 0; x < layer->output_width; x++) {
            const int32_t left = x * layer->stride_x - layer->pad_left;
            if (rows_inside && left >= 0 && left + layer->kernel_width <= layer->input_width) {
                const uint32_t at = (uint32_t)(top * layer->input_width + left) * channels;
                all_channels(layer, by, inside, input + at, output);
            } else {
                pp_gather(layer, input, y, x, (int8_t *)column);
                all_channels(layer, by, gathered, (const int8_t *)column, output);
            }
            output += channels;
        }
    }
}

#if !defined(__thumb__)

static const uint8_t *sum_bytes(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums,
                                uint32_t count)
{
    for (; input != end; input++) {
        for (uint32_t row = 0; row < count; row++) {
            sums[row] += (uint32_t)*weights++ * *input;
        }
    }
    return weights;
}

const uint8_t *pp_quads_sum8_bytes(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums)
{
    return sum_bytes(weights, input, end, sums, 8u);
}

const uint8_t *pp_quads_sum4_bytes(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums)
{
    return sum_bytes(weights, input, end, sums, 4u);
}

const uint8_t *pp_quads_sum8_nibbles(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums)
{
    for (; input != end; input++) {
        for (uint32_t row = 0; row < ROWS; row += 2u) {
            sums[row] += (*weights & 15u) * (uint32_t)*input;
            sums[row + 1u] += ((uint32_t)*weights >> 4) * *input;
            weights++;
        }
    }
    return weights;
}

const uint8_t *pp_quads_sum8_crumbs(const uint8_t *weights, const uint8_t *input, const uint8_t *end, uint32_t *sums)
{
    for (; input != end; input += 2, weights += 4) {
        for (uint32_t row = 0; row < ROWS; row++) {
            const uint32_t half = row / 4u * 2u, shift = row % 4u * 2u;
            sums[row] += (((uint32_t)weights[half] >> shift) & 3u) * input[0];
            sums[row] += (((uint32_t)weights[half + 1u] >> shift) & 3u) * input[1];
        }
    }
    return weights;
}

#endif
