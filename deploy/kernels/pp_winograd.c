/* What drives the inner functions of pp_winograd.S, and their twin in C for every other core. See pp_winograd.h. */
#include "pp_winograd.h"

static int pp_is_between(int32_t value, int32_t end)
{
    return value >= 0 && value < end;
}

/* A window of 4 x 4 pixels that sticks out of the image, with padding. */
static void pp_patch_window(const pp_winograd_t *layer, const int8_t *input, int32_t y, int32_t x, int8_t *patch)
{
    const int32_t channels = layer->input_channels;
    for (int32_t i = 0; i < 16; i++, patch += channels) {
        const int32_t row = y + i / 4;
        const int32_t column = x + i % 4;
        const int is_there = pp_is_between(row, layer->input_height) && pp_is_between(column, layer->input_width);
        const int8_t *const pixel = input + (is_there ? (row * layer->input_width + column) * channels : 0);
        const uint32_t padding = (uint8_t)layer->padding * UINT32_C(0x01010101);
        for (int32_t channel = 0; channel < channels; channel += 4) {
            __builtin_memcpy(patch + channel, is_there ? (const void *)(pixel + channel) : &padding, 4);
        }
    }
}

static void pp_transform_input(const pp_winograd_t *layer, const int8_t *input, int32_t y, int32_t x,
                               uint32_t *inputs, int8_t *patch)
{
    const int32_t channels = layer->input_channels;
    const int32_t row_bytes = layer->input_width * channels;
    if (pp_is_between(y, layer->input_height - 3) && pp_is_between(x, layer->input_width - 3)) {
        pp_winograd_input(input + y * row_bytes + x * channels, inputs, (uint32_t)channels, (uint32_t)row_bytes);
    } else {
        pp_patch_window(layer, input, y, x, patch);
        pp_winograd_input(patch, inputs, (uint32_t)channels, 4 * (uint32_t)channels);
    }
}

static void pp_run(const pp_winograd_t *layer, const int8_t *input, int8_t *output, uint32_t *scratch,
                   pp_winograd_kernel_t *kernel)
{
    const uint32_t channels = layer->output_channels;
    const uint32_t across = (layer->output_width + UINT32_C(1)) / 2;
    const uint32_t count = across * ((layer->output_height + UINT32_C(1)) / 2);
    const uint32_t row_bytes = layer->output_width * channels;
    uint32_t *const products = scratch + 32 * layer->input_channels;
    pp_tile_t tiles[4];
    const pp_winograd_work_t work = {
        .weights = layer->weights,
        .inputs = scratch,
        .products = (int32_t *)products,
        .span = UINT32_C(128) * layer->input_channels,
        .zero_point = layer->zero_point,
        .pairs = channels / 2,
        .shift = layer->shift,
        .tiles = tiles,
    };
    uint32_t y = 0;
    uint32_t x = 0;
    for (uint32_t first = 0; first < count; first += 4) {
        for (uint32_t i = 0; i < 4; i++) {
            tiles[i].output = output + y * row_bytes + x * channels;
            tiles[i].right = x + 1 < layer->output_width ? (int32_t)channels : 0;
            tiles[i].down = y + 1 < layer->output_height ? (int32_t)row_bytes : 0;
            pp_transform_input(layer, input, (int32_t)y - layer->pad_top, (int32_t)x - layer->pad_left, scratch + i,
                               (int8_t *)(products + 128));
            /* Behind the last tile it is repeated. */
            if (first + i + 1 < count) {
                x += 2;
                y += x >= layer->output_width ? 2 : 0;
                x = x >= layer->output_width ? 0 : x;
            }
        }
        kernel(&work);
    }
}

void pp_winograd(const pp_winograd_t *layer, const int8_t *input, int8_t *output, uint32_t *scratch)
{
    pp_run(layer, input, output, scratch, pp_winograd_tiles);
}

void pp_winograd_shifted(const pp_winograd_t *layer, const int8_t *input, int8_t *output, uint32_t *scratch)
{
    pp_run(layer, input, output, scratch, pp_winograd_tiles_shifted);
}

#if !defined(__ARM_FEATURE_DSP)

#include "pp_intrinsics.h"
#include "pp_simd.h"

/* (a - c, b + c, c - b, b - d) of four values, distance apart, in place. */
static void pp_transform(int32_t *values, uint32_t distance)
{
    const int32_t a = values[0];
    const int32_t b = values[distance];
    const int32_t c = values[2 * distance];
    const int32_t d = values[3 * distance];
    values[0] = a - c;
    values[distance] = b + c;
    values[2 * distance] = c - b;
    values[3 * distance] = b - d;
}

void pp_winograd_input(const int8_t *window, uint32_t *inputs, uint32_t channels, uint32_t row_bytes)
{
    for (uint32_t channel = 0; channel < channels; channel++) {
        int32_t tile[16];
        for (uint32_t i = 0; i < 16; i++) {
            tile[i] = window[i / 4 * row_bytes + i % 4 * channels + channel];
        }
        for (uint32_t i = 0; i < 4; i++) {
            pp_transform(tile + i, 4);
        }
        for (uint32_t i = 0; i < 4; i++) {
            pp_transform(tile + 4 * i, 1);
        }
        const uint32_t pair = channel / 4 + channel % 2 * (channels / 4);
        const uint32_t is_high = channel / 2 % 2;
        for (uint32_t i = 0; i < 16; i++) {
            uint32_t *const word = inputs + 64 * pair + 4 * i;
            *word = is_high ? (*word & 0xFFFFU) | (uint32_t)tile[i] << 16 : (uint32_t)tile[i] & 0xFFFFU;
        }
    }
}

/* The product at one place of a tile; sums wrap. */
static uint32_t pp_product(const uint32_t *weights, const uint32_t *inputs, uint32_t pairs)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 2 * pairs; i++) {
        sum += (uint32_t)(pp_half(weights[2 * (i / 2)], i % 2) * pp_half(inputs[64 * (i / 2)], i % 2));
    }
    return sum;
}

static int8_t pp_finished(uint32_t sum, int32_t multiplier, int32_t zero_point, uint32_t shift)
{
    const int32_t accumulator = ((int32_t)sum >> 2) * (int32_t)(UINT32_C(1) << shift);
    const int32_t q = pp_multiply_high_round(accumulator, multiplier) + zero_point;
    return (int8_t)pp_saturate_s8(q);
}

/* The four outputs of a tile from its products m, eight apart: A'mA with A' = (1 1 1 0; 0 1 -1 -1). */
static void pp_store_tile(const uint32_t *m, pp_tile_t *tile, uint32_t bias, int32_t multiplier, int32_t zero_point,
                          uint32_t shift)
{
    uint32_t top[4];
    uint32_t bottom[4];
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t middle = m[8 * (4 + i)] + (i == 1 ? bias : 0);
        top[i] = m[8 * i] + middle + m[8 * (8 + i)];
        bottom[i] = middle - m[8 * (8 + i)] - m[8 * (12 + i)];
    }
    int8_t *const output = tile->output++;
    output[tile->down + tile->right] = pp_finished(bottom[1] - bottom[2] - bottom[3], multiplier, zero_point, shift);
    output[tile->down] = pp_finished(bottom[0] + bottom[1] + bottom[2], multiplier, zero_point, shift);
    output[tile->right] = pp_finished(top[1] - top[2] - top[3], multiplier, zero_point, shift);
    output[0] = pp_finished(top[0] + top[1] + top[2], multiplier, zero_point, shift);
}

static void pp_tiles(const pp_winograd_work_t *work, uint32_t shift)
{
    const uint32_t pairs = work->span / 256;
    uint32_t *const products = (uint32_t *)work->products;
    const uint32_t *weights = work->weights;
    for (uint32_t pair = 0; pair < work->pairs; pair++, weights += 4 + 32 * pairs) {
        for (uint32_t i = 0; i < 128; i++) {
            const uint32_t place = i / 8;
            const uint32_t *const at = weights + 4 + 2 * pairs * place + i / 4 % 2;
            products[i] = pp_product(at, work->inputs + 4 * place + i % 4, pairs);
        }
        for (uint32_t i = 0; i < 8; i++) {
            pp_store_tile(products + i, work->tiles + i % 4, weights[i / 4], (int32_t)weights[2 + i / 4],
                          work->zero_point, shift);
        }
    }
}

void pp_winograd_tiles(const pp_winograd_work_t *work)
{
    pp_tiles(work, 0);
}

void pp_winograd_tiles_shifted(const pp_winograd_work_t *work)
{
    pp_tiles(work, work->shift);
}

#endif
