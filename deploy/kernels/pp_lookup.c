/* Pointwise functions by table. See pp_kernels.h. */
#include "pp_kernels.h"

void pp_lookup_s8(const int8_t *table, const int8_t *input, int8_t *output, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        output[i] = table[input[i]];
    }
}

void pp_lookup_s16(const int16_t *table, const int16_t *input, int16_t *output, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        output[i] = pp_interpolate_s16(table, input[i]);
    }
}

void pp_lookup_s8_in_s16(const int8_t *table, const int16_t *input, int16_t *output, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        output[i] = table[input[i]];
    }
}
