#include "pp_counter.h"

#include "pp_bridge.h"
#include "pp_registers.h"

#define SYSTICK_TOP 0xFFFFFFu
#define NO_EXCEPTION 0u

static volatile uint32_t wraps;
static pp_counter_kind_t kind;
static uint32_t overhead;
static uint32_t exceptions_ticks; /* that PROBES SysTick exceptions take */

#define PROBES (PP_COUNTER_ROUNDS * PP_COUNTER_PROBES)

__attribute__((noinline)) uint32_t pp_counter_now(void) {
    uint32_t seen;
    uint32_t ticks;
    do { /* again if it wrapped between the two readings */
        seen = wraps;
        ticks = kind == PP_COUNTER_DWT ? PP_DWT_CYCCNT : (seen << 24) + (SYSTICK_TOP - PP_SYST_CVR);
    } while (seen != wraps);
    return ticks - (seen * exceptions_ticks + PROBES / 2u) / PROBES;
}

__attribute__((noinline)) uint32_t pp_counter_begin(void) {
    PP_SYST_CVR = 0u;
    wraps = 0u;
    return pp_counter_now();
}

/* Ticks of PROBES writes to ICSR, in rounds as the watchdog allows. One that pends SysTick's exception has it taken at
 * once, where there are exceptions at all; nothing really wraps meanwhile. */
static uint32_t probe(uint32_t request) {
    const uint32_t begin = pp_counter_begin();
    for (uint32_t round = 0; round < PP_COUNTER_ROUNDS; round++) {
        pp_platform_request(true);
        for (uint32_t i = 0; i < PP_COUNTER_PROBES; i++) {
            PP_ICSR = request;
            __asm volatile("dsb\n isb" ::: "memory");
        }
    }
    const uint32_t ticks = pp_counter_now() - begin;
    return kind == PP_COUNTER_DWT ? ticks : ticks - (wraps << 24);
}

static void measure_exception(void) {
    exceptions_ticks = 0u;
    const uint32_t with = probe(PP_ICSR_PENDSTSET);
    exceptions_ticks = with - probe(NO_EXCEPTION);
    pp_platform_request(false);
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
    measure_exception();
    const uint32_t begin = pp_counter_begin();
    overhead = pp_counter_now() - begin;
}
