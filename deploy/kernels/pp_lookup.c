/* Pointwise functions by table, in place. See pp_kernels.h. */
#include "pp_kernels.h"

void pp_lookup_s8(const int8_t *table, int8_t *values, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        values[i] = table[values[i]];
    }
}

void pp_lookup_s16(const int16_t *table, int16_t *values, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        values[i] = pp_interpolate_s16(table, values[i]);
    }
}

void pp_lookup_s8_in_s16(const int8_t *table, int16_t *values, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        values[i] = table[values[i]];
    }
}
