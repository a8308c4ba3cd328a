/* Concatenation, moves, padding, resizing, transposition and changes of width in plain C. See pp_kernels.h. */
#include "pp_kernels.h"

void pp_concat(const void *input, void *output, size_t rows, size_t row_bytes, size_t stride_bytes)
{
    const uint8_t *from = input;
    uint8_t *to = output;
    for (size_t row = 0; row < rows; row++, to += stride_bytes) {
        for (size_t i = 0; i < row_bytes; i++) {
            to[i] = *from++;
        }
    }
}

void pp_move_down(void *to, const void *from, size_t bytes)
{
    uint8_t *target = to;
    const uint8_t *source = from;
#if defined(__ARM_FEATURE_UNALIGNED) || !defined(__arm__)
    for (; bytes >= 16; bytes -= 16, target += 16, source += 16) {
        uint32_t block[4];
        __builtin_memcpy(block, source, sizeof block);
        __builtin_memcpy(target, block, sizeof block);
    }
#endif
    for (; bytes != 0; bytes--) {
        *target++ = *source++;
    }
}

#define PP_PAD(in) \
    void pp_pad_##in(const pp_pad_t *layer, const pp_##in##_t *input, pp_##in##_t *output) \
    { \
        for (uint32_t y = 0; y < layer->output.height; y++) { \
            for (uint32_t x = 0; x < layer->output.width; x++) { \
                const uint32_t inside = y >= layer->top && y - layer->top < layer->input.height && x >= layer->left \
                                        && x - layer->left < layer->input.width; \
                for (uint32_t c = 0; c < layer->output.channels; c++) { \
                    *output++ = inside ? *input++ : (pp_##in##_t)layer->value; \
                } \
            } \
        } \
    }

#define PP_RESIZE(in) \
    void pp_resize_##in(pp_image_t from, pp_image_t to, const pp_##in##_t *input, pp_##in##_t *output) \
    { \
        for (uint32_t y = 0; y < to.height; y++) { \
            for (uint32_t x = 0; x < to.width; x++) { \
                const uint32_t pixel = y * from.height / to.height * from.width + x * from.width / to.width; \
                for (uint32_t c = 0; c < to.channels; c++) { \
                    *output++ = input[pixel * to.channels + c]; \
                } \
            } \
        } \
    }

#define PP_TRANSPOSE(in) \
    void pp_transpose_##in(const pp_transpose_t *layer, const pp_##in##_t *input, pp_##in##_t *output) \
    { \
        const uint32_t *const step = layer->step; \
        for (uint32_t i = 0; i < layer->size[0]; i++) { \
            for (uint32_t j = 0; j < layer->size[1]; j++) { \
                for (uint32_t k = 0; k < layer->size[2]; k++) { \
                    for (uint32_t l = 0; l < layer->size[3]; l++) { \
                        *output++ = input[i * step[0] + j * step[1] + k * step[2] + l * step[3]]; \
                    } \
                } \
            } \
        } \
    }

PP_PAD(s8)
PP_PAD(s16)
PP_RESIZE(s8)
PP_RESIZE(s16)
PP_TRANSPOSE(s8)
PP_TRANSPOSE(s16)
