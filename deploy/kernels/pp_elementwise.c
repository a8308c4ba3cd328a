/* Sums, changes of scale and products in plain C. See pp_kernels.h. */
#include "pp_finish.h"
#include "pp_kernels.h"

#define PP_RESCALE(in, out) \
    void pp_rescale_##in##_##out(const pp_weighted_sum_t *by, const pp_##in##_t *a, pp_##out##_t *output, size_t size) \
    { \
        for (size_t i = 0; i < size; i++) { \
            const int32_t total = a[i] * by->multiplier_a + by->constant; \
            output[i] = (pp_##out##_t)pp_clamp(total >> by->shift, by->low, by->high); \
        } \
    }

#define PP_SUM(in_a, in_b, out) \
    void pp_sum_##in_a##_##in_b##_##out(const pp_weighted_sum_t *by, const pp_##in_a##_t *a, const pp_##in_b##_t *b, \
                                        pp_##out##_t *output, size_t size) \
    { \
        for (size_t i = 0; i < size; i++) { \
            const int32_t total = a[i] * by->multiplier_a + b[i] * by->multiplier_b + by->constant; \
            output[i] = (pp_##out##_t)pp_clamp(total >> by->shift, by->low, by->high); \
        } \
    }

#define PP_PRODUCT(in_a, in_b, out) \
    void pp_product_##in_a##_##in_b##_##out(const pp_product_t *by, const pp_##in_a##_t *a, const pp_##in_b##_t *b, \
                                            pp_##out##_t *output) \
    { \
        for (uint32_t block = 0; block < by->blocks; block++) { \
            for (uint32_t i = 0; i < by->period; i++) { \
                const int32_t factor = b[i] - by->zero_point_b; \
                for (uint32_t j = 0; j < by->repeat; j++) { \
                    const int32_t q = pp_scaled((*a++ - by->zero_point_a) * factor, by->shift, by->multiplier); \
                    *output++ = (pp_##out##_t)pp_clamp(q + by->zero_point, by->low, by->high); \
                } \
            } \
        } \
    }

#define PP_PAIRS(in, out) \
    PP_RESCALE(in, out) \
    PP_SUM(in, s8, out) \
    PP_SUM(in, s16, out) \
    PP_PRODUCT(in, s8, out) \
    PP_PRODUCT(in, s16, out)

PP_BY_TYPES(PP_PAIRS)
