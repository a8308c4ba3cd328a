/* Transposed convolutions in plain C: each output gathers the inputs that reach it. See pp_kernels.h. */
#include "pp_convolution_loops.h"

/* Row or column of the input that a tap brings to this place; -1 in a gap of the spread image or outside. */
static inline int32_t pp_place(uint32_t at, uint32_t tap, uint32_t stride, uint32_t pad, uint32_t size)
{
    const uint32_t spread = at + pad - tap;
    return at + pad >= tap && spread % stride == 0U && spread / stride < size ? (int32_t)(spread / stride) : -1;
}

PP_CONVOLUTIONS(transposed, pp_place)
