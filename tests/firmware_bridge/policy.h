#ifndef POLICY_H
#define POLICY_H

#include <stdint.h>

#define PP_INPUT_SIZE 4
#define PP_INPUT_BITS 16
#define PP_OUTPUT_SIZE 2
#define PP_OUTPUT_BITS 8
#define PP_LAYER_COUNT 2

typedef int16_t pp_input_t;
typedef int8_t pp_output_t;
typedef struct {
    uint32_t size : 24;
    uint32_t bits : 8;
} pp_layer_info_t;

extern const uint8_t pp_model_sha256[32];
extern const pp_layer_info_t pp_layers[PP_LAYER_COUNT];
void pp_infer(const pp_input_t *input, pp_output_t *output);
void pp_load(const pp_input_t *input);
void pp_run_layer(uint32_t layer);
int32_t pp_layer_value(uint32_t layer, uint32_t index);

#endif
