/* An inference every 20 ms, its first output on the console. */
#include <zephyr/kernel.h>

#include "policy.h"

static pp_input_t observation[PP_INPUT_SIZE];
static pp_output_t action[PP_OUTPUT_SIZE];

int main(void)
{
    for (;;) {
        pp_infer(observation, action);
        printk("%d\n", (int)action[0]);
        k_msleep(20);
    }
}
