/* A chain of fully connected layers whose integers are data: compiled once, whatever weights come later. */
#include "pp_kernels.h"

/* layers [count]; bits [count + 1], 8 or 16, of the input and of each output; tensors [count + 1], input first. */
void pp_chain(const pp_fully_connected_t *layers, const uint8_t *bits, void *const *tensors, uint32_t count);

void pp_chain(const pp_fully_connected_t *layers, const uint8_t *bits, void *const *tensors, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bits[i] == 8U && bits[i + 1U] == 8U) {
            pp_fully_connected_s8_s8(&layers[i], tensors[i], tensors[i + 1U]);
        } else if (bits[i] == 8U) {
            pp_fully_connected_s8_s16(&layers[i], tensors[i], tensors[i + 1U]);
        } else if (bits[i + 1U] == 8U) {
            pp_fully_connected_s16_s8(&layers[i], tensors[i], tensors[i + 1U]);
        } else {
            pp_fully_connected_s16_s16(&layers[i], tensors[i], tensors[i + 1U]);
        }
    }
}
