/* STM32F405: its flash interface has caches of its own (RM0090, 3.5.2). */
#include "pp_stm32_flash.h"

#define ACR PP_REGISTER(0x40023C00u)

#define ACR_CACHES (1u << 9 | 1u << 10)  /* instructions, data */
#define ACR_FORGET (1u << 11 | 1u << 12) /* while they are off */

static void forget_cached(void) {
    const uint32_t access = ACR;
    ACR = access & ~ACR_CACHES;
    ACR = (access & ~ACR_CACHES) | ACR_FORGET;
    ACR = access & ~ACR_CACHES;
    ACR = access;
}
