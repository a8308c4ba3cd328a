/* Inference in a loop: the place of your own sensors and motors. */
#include "policy.h"

static pp_input_t observation[PP_INPUT_SIZE];
static pp_output_t action[PP_OUTPUT_SIZE];

int main(void)
{
    for (;;) {
        pp_infer(observation, action);
    }
}
