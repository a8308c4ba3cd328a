/* Softmax and argmax in plain C. See pp_kernels.h. */
#include "pp_kernels.h"

static void pp_softmax_row(const uint32_t *table, const int8_t *input, int8_t *output, size_t classes)
{
    int32_t largest = INT8_MIN;
    uint32_t total = 0;
    for (size_t i = 0; i < classes; i++) {
        largest = input[i] > largest ? input[i] : largest;
    }
    for (size_t i = 0; i < classes; i++) {
        total += table[largest - input[i]];
    }
    for (size_t i = 0; i < classes; i++) {
        const int32_t q = (int32_t)((256U * table[largest - input[i]] + total / 2U) / total) - 128;
        output[i] = (int8_t)(q > INT8_MAX ? INT8_MAX : q);
    }
}

void pp_softmax_s8(const uint32_t *table, const int8_t *input, int8_t *output, size_t rows, size_t classes)
{
    for (size_t row = 0; row < rows; row++) {
        pp_softmax_row(table, input + row * classes, output + row * classes, classes);
    }
}

#define PP_ARGMAX(in) \
    int16_t pp_argmax_##in(const pp_##in##_t *input, size_t size) \
    { \
        size_t largest = 0; \
        for (size_t i = 1; i < size; i++) { \
            largest = input[i] > input[largest] ? i : largest; \
        } \
        return (int16_t)largest; \
    }

PP_ARGMAX(s8)
PP_ARGMAX(s16)
