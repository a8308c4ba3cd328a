/* Fully connected layers in plain C. See pp_kernels.h. */
#include "pp_kernels.h"

#include "pp_intrinsics.h"

static int32_t pp_dot_s8(const int8_t *weights, const int8_t *input, uint32_t inputs, int32_t sum)
{
    for (uint32_t i = 0; i < inputs; i++) {
        sum += weights[i] * input[i];
    }
    return sum;
}

static int32_t pp_dot_s16(const int8_t *weights, const int16_t *input, uint32_t inputs, int32_t sum)
{
    for (uint32_t i = 0; i < inputs; i++) {
        sum += weights[i] * input[i];
    }
    return sum;
}

static int32_t pp_requantize(const pp_requantize_t *by, uint32_t channel, int32_t sum)
{
    /* The shift is proven not to overflow; multiplying says so without shifting a negative number. */
    const int32_t shifted = sum * (int32_t)(UINT32_C(1) << by->shift);
    const int32_t q = pp_multiply_high_round(shifted, by->multiplier[channel]) + by->zero_point;
    if (q < by->low) {
        return by->low;
    }
    return q > by->high ? by->high : q;
}

static int8_t pp_finish_s8(const pp_requantize_t *by, uint32_t channel, int32_t sum)
{
    const int32_t q = pp_requantize(by, channel, sum);
    return by->table == NULL ? (int8_t)q : ((const int8_t *)by->table)[q];
}

static int16_t pp_finish_s16(const pp_requantize_t *by, uint32_t channel, int32_t sum)
{
    const int32_t q = pp_requantize(by, channel, sum);
    return by->table == NULL ? (int16_t)q : pp_interpolate_s16((const int16_t *)by->table, q);
}

void pp_fully_connected_s8_s8(const pp_fully_connected_t *layer, const int8_t *input, int8_t *output)
{
    const int8_t *row = layer->weights;
    for (uint32_t o = 0; o < layer->outputs; o++, row += layer->inputs) {
        output[o] = pp_finish_s8(&layer->requantize, o, pp_dot_s8(row, input, layer->inputs, layer->bias[o]));
    }
}

void pp_fully_connected_s8_s16(const pp_fully_connected_t *layer, const int8_t *input, int16_t *output)
{
    const int8_t *row = layer->weights;
    for (uint32_t o = 0; o < layer->outputs; o++, row += layer->inputs) {
        output[o] = pp_finish_s16(&layer->requantize, o, pp_dot_s8(row, input, layer->inputs, layer->bias[o]));
    }
}

void pp_fully_connected_s16_s8(const pp_fully_connected_t *layer, const int16_t *input, int8_t *output)
{
    const int8_t *row = layer->weights;
    for (uint32_t o = 0; o < layer->outputs; o++, row += layer->inputs) {
        output[o] = pp_finish_s8(&layer->requantize, o, pp_dot_s16(row, input, layer->inputs, layer->bias[o]));
    }
}

void pp_fully_connected_s16_s16(const pp_fully_connected_t *layer, const int16_t *input, int16_t *output)
{
    const int8_t *row = layer->weights;
    for (uint32_t o = 0; o < layer->outputs; o++, row += layer->inputs) {
        output[o] = pp_finish_s16(&layer->requantize, o, pp_dot_s16(row, input, layer->inputs, layer->bias[o]));
    }
}
