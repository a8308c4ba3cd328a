/* Caches of the Cortex-M7: programming manual PM0253, section 4.8. */
#ifndef PP_M7_CACHE_H
#define PP_M7_CACHE_H

#include "pp_registers.h"

#define PP_SCB_CCSIDR PP_REGISTER(0xE000ED80u)
#define PP_SCB_CSSELR PP_REGISTER(0xE000ED84u)
#define PP_SCB_ICIALLU PP_REGISTER(0xE000EF50u)
#define PP_SCB_DCISW PP_REGISTER(0xE000EF60u)

static inline void pp_instruction_cache_forget(void) {
    PP_SCB_ICIALLU = 0u;
    __asm volatile("dsb\n isb" ::: "memory");
}

/* By sets and ways, on or off. What it holds must be in memory as well: it writes through. */
static inline void pp_data_cache_forget(void) {
    PP_SCB_CSSELR = 0u; /* the data cache's size is asked for */
    __asm volatile("dsb\n isb" ::: "memory");
    const uint32_t size = PP_SCB_CCSIDR;
    for (uint32_t set = 0; set <= (size >> 13 & 0x7FFFu); set++) {
        for (uint32_t way = 0; way <= (size >> 3 & 0x3FFu); way++) {
            PP_SCB_DCISW = way << 30 | set << 5;
        }
    }
    __asm volatile("dsb\n isb" ::: "memory");
}

#endif
