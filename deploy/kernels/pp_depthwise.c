/* What drives the inner function of pp_depthwise.S, and its twin in C for every other core. See pp_depthwise.h. */
#include "pp_depthwise.h"

static void pp_run(const pp_depthwise_t *layer, const int8_t *input, int8_t *output, uint32_t *ring,
                   pp_depthwise_kernel_t *kernel, uint32_t stride)
{
    const uint32_t words = stride * ((layer->output_width + UINT32_C(1)) / 2) + 1;
    const uint32_t lead = layer->pad_left % 2U;
    /* Pixels behind the last window are left out. */
    const uint32_t seen = 2 * words - layer->pad_left;
    const uint32_t pixels = (seen < layer->input_width ? seen : layer->input_width) - lead;
    pp_depthwise_work_t work = {
        .weights = layer->weights,
        .zero_point = layer->zero_point,
        .output_pixel = layer->output_pixel,
        .pairs = layer->output_width / 2U,
        .odd = layer->output_width % 2U,
        .shift = layer->shift,
        .source = input - (int32_t)(layer->pad_top * layer->input_row),
        .row = -layer->pad_top,
        .first = 12 * (layer->pad_left / 2U),
        .rows = layer->output_height,
        .skip = layer->output_row - 4,
        .height = layer->input_height,
        .input_row = layer->input_row,
        .plane = 12 * words,
        .padding = (uint16_t)layer->padding * UINT32_C(0x00010001),
        .gather_pairs = pixels / 2,
        .lead = lead,
        .trail = pixels % 2,
        .padding_bytes = (uint8_t)layer->padding * UINT32_C(0x01010101),
        .input_pixel = layer->input_pixel,
    };
    for (uint32_t i = 0; i < 12 * words; i++) {
        ring[i] = work.padding;
    }
    const int8_t *const source = work.source;
    for (uint32_t channel = 0; channel < layer->channels; channel += 4) {
        /* The last four channels, even if some of them were computed before. */
        const uint32_t first = channel + 4 > layer->channels ? layer->channels - 4U : channel;
        work.source = source + first;
        kernel(&work, ring, output + first);
        work.weights += 32;
    }
}

#define PP_DEPTHWISE(name, stride) \
    void pp_depthwise_##name(const pp_depthwise_t *layer, const int8_t *input, int8_t *output, uint32_t *ring) \
    { \
        pp_run(layer, input, output, ring, pp_depthwise_group_##name, stride); \
    }

PP_DEPTHWISE(s1, 1)
PP_DEPTHWISE(s1_shifted, 1)
PP_DEPTHWISE(s2, 2)
PP_DEPTHWISE(s2_shifted, 2)

#if !defined(__ARM_FEATURE_DSP)

#include "pp_intrinsics.h"
#include "pp_simd.h"

/* A row of four channels to the ring, which has its place at slot. */
static void pp_gather(const pp_depthwise_work_t *work, int32_t row, uint32_t *slot)
{
    const int is_row = row >= 0 && row < (int32_t)work->height;
    const int8_t *const source = work->source + (row - work->row) * (int32_t)work->input_row;
    const uint32_t pixels = work->lead + 2 * work->gather_pairs + work->trail;
    const uint32_t words = work->lead + work->gather_pairs + work->trail;
    for (uint32_t i = 0; i < 8 * words; i++) {
        const uint32_t channel = i % 4;
        const uint32_t place = i / 4 - work->lead;
        const int32_t q = is_row && place < pixels ? source[place * work->input_pixel + channel]
                                                   : (int16_t)(work->padding & 0xFFFFU);
        uint32_t *const word = slot + channel * (work->plane / 4) + 3 * (i / 8);
        *word = i / 4 % 2 ? (*word & 0xFFFFU) | (uint32_t)q << 16 : (uint32_t)q & 0xFFFFU;
    }
}

/* A halfword of the ring: pixel x of the row at index slot. */
static int32_t pp_pixel(const uint32_t *plane, uint32_t slot, uint32_t x)
{
    return pp_half(plane[3 * (x / 2) + slot], x % 2);
}

static int32_t pp_sum(const uint32_t *weights, const uint32_t *plane, uint32_t rotation, uint32_t x)
{
    int32_t sum = (int32_t)weights[0];
    for (uint32_t row = 0; row < 3; row++) {
        const uint32_t *const w = weights + 2 + 2 * row;
        const uint32_t slot = (row + rotation) % 3;
        sum += pp_low_half(w[0]) * pp_pixel(plane, slot, x);
        sum += pp_low_half(w[1]) * pp_pixel(plane, slot, x + 1);
        sum += pp_high_half(w[1]) * pp_pixel(plane, slot, x + 2);
    }
    return sum;
}

static void pp_row(const pp_depthwise_work_t *work, const uint32_t *ring, int8_t *output, uint32_t rotation,
                   uint32_t stride, uint32_t shift)
{
    const uint32_t width = 2 * work->pairs + work->odd;
    const uint32_t *weights = work->weights;
    for (uint32_t channel = 0; channel < 4; channel++, weights += 8, ring += work->plane / 4) {
        for (uint32_t x = 0; x < width; x++) {
            const int32_t sum = pp_sum(weights, ring, rotation, x * stride);
            const int32_t shifted = sum * (int32_t)(UINT32_C(1) << shift);
            const int32_t q = pp_multiply_high_round(shifted, (int32_t)weights[1]) + work->zero_point;
            output[x * work->output_pixel + channel] = (int8_t)pp_saturate_s8(q);
        }
    }
}

static void pp_group(const pp_depthwise_work_t *work, uint32_t *ring, int8_t *output, uint32_t stride, uint32_t shift)
{
    uint32_t gathered = 0;
    for (uint32_t y = 0; y < work->rows; y++, output += work->skip + 4) {
        for (; gathered < stride * y + 3; gathered++) {
            pp_gather(work, work->row + (int32_t)gathered, ring + work->first / 4 + gathered % 3);
        }
        pp_row(work, ring, output, stride * y % 3, stride, shift);
    }
}

#define PP_DEPTHWISE_GROUP(name, stride, shift) \
    void pp_depthwise_group_##name(const pp_depthwise_work_t *work, uint32_t *ring, int8_t *output) \
    { \
        pp_group(work, ring, output, stride, shift); \
    }

PP_DEPTHWISE_GROUP(s1, 1, 0)
PP_DEPTHWISE_GROUP(s1_shifted, 1, work->shift)
PP_DEPTHWISE_GROUP(s2, 2, 0)
PP_DEPTHWISE_GROUP(s2_shifted, 2, work->shift)

#endif
