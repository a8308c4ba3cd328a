/* Fully connected layers in plain C. See pp_kernels.h. */
#include "pp_finish.h"
#include "pp_kernels.h"

#define PP_FULLY_CONNECTED(kind, weight, in, out) \
    void pp_fully_connected_##kind##in##_##out(const pp_fully_connected_t *layer, const pp_##in##_t *input, \
                                               pp_##out##_t *output) \
    { \
        const uint8_t *row = layer->weights.rows; \
        for (uint32_t o = 0; o < layer->outputs; o++, row += layer->weights.row_bytes) { \
            int32_t sum = layer->bias[o]; \
            for (uint32_t i = 0; i < layer->inputs; i++) { \
                sum += weight(row, i, layer->weights.bits) * input[i]; \
            } \
            output[o] = pp_finish_##out(&layer->requantize, o, sum); \
        } \
    }

#define PP_WHOLE(in, out) PP_FULLY_CONNECTED(, pp_whole_weight, in, out)
#define PP_PACKED(in, out) PP_FULLY_CONNECTED(packed_, pp_packed_weight, in, out)

PP_BY_TYPES(PP_WHOLE)
PP_BY_TYPES(PP_PACKED)
