/* A Cortex-M as the bridge's platform: faults, watchdog, stack figures, restart. */
#include "pp_bridge.h"
#include "pp_build.h"
#include "pp_counter.h"
#include "pp_frame.h"
#include "pp_platform.h"
#include "pp_port.h"
#include "pp_registers.h"

/* A request that runs longer than this many wraps of SysTick's 24 bits is taken for a hang: 40 s at 25 MHz. */
#ifndef PP_WATCHDOG_WRAPS
#define PP_WATCHDOG_WRAPS 60u
#endif
_Static_assert(PP_WATCHDOG_WRAPS > PP_COUNTER_PROBES, "the counter's probes are no hang");

#define CAUSE_MAGIC 0x50500000u /* "PP": RAM that was never written does not look like this */
#define SYSTICK_COUNTING 5u
#define SYSTICK_WITH_EXCEPTION 7u

/* Supplied by the linker script. */
extern uint32_t pp_stack_low[];
extern uint32_t pp_stack_high[];
extern uint8_t pp_static_begin[];
extern uint8_t pp_static_end[];

__attribute__((section(".noinit"))) static volatile uint32_t kept_cause;
static volatile uint32_t wraps_of_request;

pp_reset_cause_t pp_platform_cause(void) {
    const uint32_t kept = kept_cause;
    kept_cause = 0u;
    return (kept & 0xFFFF0000u) == CAUSE_MAGIC ? (pp_reset_cause_t)(kept & 0xFFu) : PP_RESET_POWER;
}

void pp_platform_restart(pp_reset_cause_t cause) {
    pp_port_flush();
    kept_cause = CAUSE_MAGIC | (uint32_t)cause;
    __asm volatile("dsb" ::: "memory");
    PP_AIRCR = PP_AIRCR_SYSRESETREQ;
    for (;;) {
    }
}

void pp_platform_request(bool running) {
    if (running) {
        wraps_of_request = 0u;
        PP_NVIC_ICER(PP_UART_IRQ) = PP_NVIC_BIT(PP_UART_IRQ); /* it has no handler: it only wakes */
        PP_SYST_CSR = SYSTICK_WITH_EXCEPTION;
        __asm volatile("cpsie i" ::: "memory");
    } else {
        __asm volatile("cpsid i" ::: "memory");
        PP_SYST_CSR = SYSTICK_COUNTING;
        PP_NVIC_ISER(PP_UART_IRQ) = PP_NVIC_BIT(PP_UART_IRQ);
    }
}

void pp_systick_handler(void) {
    pp_counter_wrapped();
    wraps_of_request = wraps_of_request + 1u;
    if (wraps_of_request >= PP_WATCHDOG_WRAPS) {
        pp_platform_restart(PP_RESET_WATCHDOG);
    }
}

void pp_platform_write(uint8_t byte) { pp_port_write(byte); }

pp_memory_t pp_platform_memory(void) {
    const uint32_t *lowest = pp_stack_low;
    while (lowest < pp_stack_high && *lowest == PP_STACK_PAINT) {
        lowest++;
    }
    const pp_memory_t memory = {
        .stack_bytes = (uint32_t)((uintptr_t)pp_stack_high - (uintptr_t)pp_stack_low),
        .stack_used_bytes = (uint32_t)((uintptr_t)pp_stack_high - (uintptr_t)lowest),
        .static_bytes = (uint32_t)((uintptr_t)pp_static_end - (uintptr_t)pp_static_begin),
    };
    return memory;
}

void pp_fault_report(const uint32_t *frame, uint32_t exception) {
    uint8_t payload[36] = {0};
    const uintptr_t low = (uintptr_t)pp_stack_low;
    const uintptr_t at = (uintptr_t)frame;
    pp_put32(payload, exception);
    /* The stacked registers, unless the stack pointer has left the stack: reading there would fault again. */
    if (at >= low && at + 32u <= (uintptr_t)pp_stack_high) {
        pp_put32(payload + 4, frame[6]);  /* pc */
        pp_put32(payload + 8, frame[5]);  /* lr */
        pp_put32(payload + 12, frame[7]); /* xpsr */
    }
#if !defined(__ARM_ARCH_6M__)
    pp_put32(payload + 16, PP_CFSR);
    pp_put32(payload + 20, PP_HFSR);
    pp_put32(payload + 24, PP_BFAR);
    pp_put32(payload + 28, PP_MMFAR);
#endif
    pp_put32(payload + 32, (uint32_t)at);
    pp_bridge_announce(PP_FAULT, payload, sizeof payload);
    pp_platform_restart(PP_RESET_FAULT);
}
