/* Pools of int8_t, four channels at a time. See pp_s8x4.h. */
#include "pp_finish.h"
#include "pp_pool_part.h"
#include "pp_s8x4.h"
#include "pp_simd.h"

/* The window that most pools have, without loops. */
static void pp_max_2x2(const pp_part_t *part, uint32_t lows, uint32_t highs, int8_t *output)
{
    const int8_t *top_left = part->first;
    const int8_t *const end = top_left + part->channels;
    for (; top_left != end; top_left += 4, output += 4) {
        const int8_t *const bottom_left = top_left + part->row_bytes;
        const uint32_t top = pp_max_s8x4(pp_load_s8x4(top_left), pp_load_s8x4(top_left + part->channels));
        const uint32_t bottom = pp_max_s8x4(pp_load_s8x4(bottom_left), pp_load_s8x4(bottom_left + part->channels));
        pp_store_s8x4(output, pp_min_s8x4(pp_max_s8x4(pp_max_s8x4(top, bottom), lows), highs));
    }
}

static void pp_max_part(const pp_pool_t *layer, const pp_part_t *part, int8_t *output)
{
    const uint32_t lows = (uint8_t)layer->low * UINT32_C(0x01010101);
    const uint32_t highs = (uint8_t)layer->high * UINT32_C(0x01010101);
    if (part->rows == 2 && part->columns == 2) {
        pp_max_2x2(part, lows, highs, output);
        return;
    }
    for (uint32_t c = 0; c < part->channels; c += 4) {
        /* Nothing is below the smallest value that comes out. */
        uint32_t largest = lows;
        const int8_t *row = part->first + c;
        for (uint32_t i = 0; i < part->rows; i++, row += part->row_bytes) {
            const int8_t *pixel = row;
            for (uint32_t j = 0; j < part->columns; j++, pixel += part->channels) {
                largest = pp_max_s8x4(largest, pp_load_s8x4(pixel));
            }
        }
        pp_store_s8x4(output + c, pp_min_s8x4(largest, highs));
    }
}

static int8_t pp_mean_s8(const pp_pool_t *layer, int32_t sum, uint32_t seen, uint32_t counted)
{
    const int32_t centred = sum - (int32_t)seen * layer->zero_point_in;
    const int32_t q = pp_scaled(centred, layer->shift, layer->multiplier[counted - layer->fewest]);
    return (int8_t)pp_clamp(q + layer->zero_point_out, layer->low, layer->high);
}

static void pp_mean_part(const pp_pool_t *layer, const pp_part_t *part, int8_t *output)
{
    const uint32_t seen = part->rows * part->columns;
    const uint32_t counted = layer->count_padding ? (uint32_t)layer->window.height * layer->window.width : seen;
    for (uint32_t c = 0; c < part->channels; c += 4) {
        uint32_t even = 0;
        uint32_t odd = 0;
        const int8_t *row = part->first + c;
        for (uint32_t i = 0; i < part->rows; i++, row += part->row_bytes) {
            const int8_t *pixel = row;
            for (uint32_t j = 0; j < part->columns; j++, pixel += part->channels) {
                const uint32_t bytes = pp_load_s8x4(pixel);
                even = pp_add_even(even, bytes);
                odd = pp_add_odd(odd, bytes);
            }
        }
        output[c] = pp_mean_s8(layer, pp_low_half(even), seen, counted);
        output[c + 1] = pp_mean_s8(layer, pp_low_half(odd), seen, counted);
        output[c + 2] = pp_mean_s8(layer, pp_high_half(even), seen, counted);
        output[c + 3] = pp_mean_s8(layer, pp_high_half(odd), seen, counted);
    }
}

void pp_max_pool_s8x4(const pp_pool_t *layer, const int8_t *input, int8_t *output)
{
    pp_slide(layer, input, output, pp_max_part);
}

void pp_average_pool_s8x4(const pp_pool_t *layer, const int8_t *input, int8_t *output)
{
    pp_slide(layer, input, output, pp_mean_part);
}
