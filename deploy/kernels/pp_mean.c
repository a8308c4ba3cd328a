/* The mean of a whole image, some rows at a time. See pp_kernels.h. */
#include "pp_finish.h"
#include "pp_kernels.h"

static int32_t pp_mean_of(const pp_pool_t *layer, int32_t sum)
{
    const int32_t pixels = (int32_t)((uint32_t)layer->input.height * layer->input.width);
    const int32_t q = pp_scaled(sum - pixels * layer->zero_point_in, layer->shift, layer->multiplier[0]);
    return pp_clamp(q + layer->zero_point_out, layer->low, layer->high);
}

#define PP_MEAN_ROWS(in) \
    void pp_mean_rows_##in(const pp_pool_t *layer, const pp_##in##_t *input, int32_t *sums, pp_##in##_t *output, \
                           uint32_t row, uint32_t rows) \
    { \
        const uint32_t channels = layer->input.channels; \
        const uint32_t size = rows * layer->input.width * channels; \
        for (uint32_t c = 0; c < channels; c++) { \
            int32_t sum = row == 0 ? 0 : sums[c]; \
            for (uint32_t i = c; i < size; i += channels) { \
                sum += input[i]; \
            } \
            sums[c] = sum; \
            if (row + rows == layer->input.height) { \
                output[c] = (pp_##in##_t)pp_mean_of(layer, sum); \
            } \
        } \
    }

PP_MEAN_ROWS(s8)
PP_MEAN_ROWS(s16)
