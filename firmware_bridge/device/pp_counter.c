#include "pp_counter.h"

#include "pp_registers.h"

#define SYSTICK_TOP 0xFFFFFFu

static volatile uint32_t wraps;
static pp_counter_kind_t kind;
static uint32_t overhead;

static uint32_t systick_now(void) {
    uint32_t seen;
    uint32_t down;
    do { /* again if it wrapped between the two readings */
        seen = wraps;
        down = PP_SYST_CVR;
    } while (seen != wraps);
    return (seen << 24) + (SYSTICK_TOP - down);
}

__attribute__((noinline)) uint32_t pp_counter_now(void) {
    return kind == PP_COUNTER_DWT ? PP_DWT_CYCCNT : systick_now();
}

__attribute__((noinline)) uint32_t pp_counter_begin(void) {
    if (kind == PP_COUNTER_SYSTICK) {
        PP_SYST_CVR = 0u;
        wraps = 0u;
    }
    return pp_counter_now();
}

void pp_counter_wrapped(void) { wraps = wraps + 1u; }

pp_counter_kind_t pp_counter_kind(void) { return kind; }

uint32_t pp_counter_overhead(void) { return overhead; }

void pp_counter_init(void) {
    PP_SYST_RVR = SYSTICK_TOP;
    PP_SYST_CVR = 0u;
    PP_SYST_CSR = 5u; /* processor clock, on, no exception yet */
    kind = PP_COUNTER_SYSTICK;
#if !defined(__ARM_ARCH_6M__)
    PP_DEMCR |= 1u << 24; /* TRCENA */
    PP_DWT_CYCCNT = 0u;
    PP_DWT_CTRL |= 1u;
    kind = PP_COUNTER_DWT;
    const uint32_t before = pp_counter_now(); /* through calls, so that a counter that moves block by block moves */
    if (pp_counter_now() == before) {         /* some cores and emulators have registers that do not count */
        kind = PP_COUNTER_SYSTICK;
    }
#endif
    const uint32_t begin = pp_counter_begin();
    overhead = pp_counter_now() - begin;
}
