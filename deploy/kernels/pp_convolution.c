/* Convolutions in plain C, grouped and depthwise ones too. See pp_kernels.h. */
#include "pp_convolution_loops.h"

/* Row or column of the input that a tap sees; -1 outside. */
static inline int32_t pp_place(uint32_t at, uint32_t tap, uint32_t stride, uint32_t pad, uint32_t size)
{
    const uint32_t padded = at * stride + tap;
    return padded >= pad && padded - pad < size ? (int32_t)(padded - pad) : -1;
}

PP_CONVOLUTIONS(convolution, pp_place)
