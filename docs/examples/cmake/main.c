/* One inference: integers in from standard input, integers out. policy.h says what real number each stands for. */
#include <stdio.h>

#include "policy.h"

int main(void)
{
    static pp_input_t input[PP_INPUT_SIZE];
    static pp_output_t output[PP_OUTPUT_SIZE];
    for (int i = 0; i < PP_INPUT_SIZE; i++) {
        int value = 0;
        if (scanf("%d", &value) != 1) {
            (void)fprintf(stderr, "expected %d integers, got %d\n", PP_INPUT_SIZE, i);
            return 1;
        }
        input[i] = (pp_input_t)value;
    }
    pp_infer(input, output);
    for (int i = 0; i < PP_OUTPUT_SIZE; i++) {
        (void)printf("%d\n", output[i]);
    }
    return 0;
}
