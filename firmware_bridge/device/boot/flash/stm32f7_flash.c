/* STM32F746: the caches in front of its flash are the processor's, where the UART's port has switched them on. */
#include "pp_m7_cache.h"
#include "pp_stm32_flash.h"

static void forget_cached(void) {
    pp_instruction_cache_forget();
    pp_data_cache_forget();
}
