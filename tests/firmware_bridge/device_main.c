/* The device library on the host: bytes from standard input, answers to standard output, a policy that doubles. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_fuzz.h"
#include "policy.h"
#include "pp_bridge.h"
#include "pp_counter.h"
#include "pp_frame.h"
#include "pp_serve.h"

const uint8_t pp_model_sha256[32] = {0xAB};
const pp_layer_info_t pp_layers[PP_LAYER_COUNT] = {{4, 16}, {2, 8}};
static int32_t arena[4];
static uint32_t inferences;

void pp_load(const pp_input_t *input) {
    for (int i = 0; i < 4; i++) {
        arena[i] = input[i];
    }
}

void pp_run_layer(uint32_t layer) {
    for (int i = 0; i < 4; i++) {
        arena[i] = layer == 0u ? arena[i] * 2 : (int8_t)(arena[i] + 1);
    }
}

int32_t pp_layer_value(uint32_t layer, uint32_t index) {
    (void)layer;
    return arena[index];
}

void pp_infer(const pp_input_t *input, pp_output_t *output) {
    inferences++;
    pp_load(input);
    pp_run_layer(0);
    pp_run_layer(1);
    output[0] = (pp_output_t)arena[0];
    output[1] = (pp_output_t)inferences; /* shows whether a repeated request was executed twice */
}

uint32_t pp_counter_begin(void) { return 100u; }
uint32_t pp_counter_now(void) { return 142u; }
uint32_t pp_counter_overhead(void) { return 2u; }
pp_counter_kind_t pp_counter_kind(void) { return PP_COUNTER_SYSTICK; }

pp_memory_t pp_platform_memory(void) {
    const pp_memory_t memory = {2048u, 100u, 300u};
    return memory;
}

void pp_platform_request(bool running) { (void)running; }

static bool fuzzing;

void pp_platform_write(uint8_t byte) {
    if (fuzzing) {
        fuzz_answer(byte);
        return;
    }
    (void)putchar(byte);
    if (byte == 0u || byte == '\n') {
        (void)fflush(stdout);
    }
}

void pp_platform_restart(pp_reset_cause_t cause) { pp_serve_start(cause); }

/* "decode": print what the receiver makes of each line of hex. "fuzz SEED INPUTS". Without either: serve. */
static int decode(void) {
    static char line[1 << 16];
    static pp_receiver_t receiver;
    while (fgets(line, sizeof line, stdin) != NULL) {
        memset(&receiver, 0, sizeof receiver);
        for (const char *at = line; at[0] != '\n' && at[0] != '\0'; at += 2) {
            const char digits[3] = {at[0], at[1], '\0'};
            const pp_frame_result_t result = pp_receive(&receiver, (uint8_t)strtoul(digits, NULL, 16));
            if (result == PP_FRAME_READY) {
                printf("F%u,%u,%u,", receiver.buffer[PP_AT_TYPE], receiver.buffer[PP_AT_SEQUENCE],
                       receiver.buffer[PP_AT_STATUS]);
                for (uint32_t i = 0; i < receiver.payload_bytes; i++) {
                    printf("%02x", receiver.buffer[PP_HEADER_BYTES + i]);
                }
                printf(" ");
            } else if (result != PP_FRAME_NONE) {
                printf("E%d ", (int)result);
            }
        }
        printf("\n");
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "decode") == 0) {
        return decode();
    }
    if (argc > 3 && strcmp(argv[1], "fuzz") == 0) {
        fuzzing = true;
        return fuzz(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    }
    pp_serve_start(PP_RESET_POWER);
    for (int byte = getchar(); byte != EOF; byte = getchar()) {
        pp_serve_byte((uint8_t)byte);
    }
    return 0;
}
