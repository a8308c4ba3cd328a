/* Start-up of a Cortex-M: vector table, reset, stack paint and guard, memory initialisation, fault entry. */
#include <stdint.h>

#include "pp_build.h"
#include "pp_platform.h"
#include "pp_registers.h"

#define SYSTEM_VECTORS 16u

extern uint32_t pp_stack_low[];
extern uint32_t pp_stack_high[];
extern uint32_t pp_data_begin[];
extern uint32_t pp_data_end[];
extern const uint32_t pp_data_image[];
extern uint32_t pp_bss_begin[];
extern uint32_t pp_bss_end[];

void pp_reset_handler(void);
void pp_fault_handler(void);
void pp_start(void);

typedef void (*vector_t)(void);

/* The interrupt of the UART is only ever pending, never taken; it and everything unexpected ends in the fault report. */
__attribute__((section(".vectors"), used)) const vector_t pp_vectors[SYSTEM_VECTORS + PP_UART_IRQ + 1u] = {
    [1] = pp_reset_handler,    [2] = pp_fault_handler,   [3] = pp_fault_handler,
    [4] = pp_fault_handler,    [5] = pp_fault_handler,   [6] = pp_fault_handler,
    [7] = pp_fault_handler,    [11] = pp_fault_handler,  [12] = pp_fault_handler,
    [14] = pp_fault_handler,   [15] = pp_systick_handler, [SYSTEM_VECTORS + PP_UART_IRQ] = pp_fault_handler,
    [0] = (vector_t)(uintptr_t)pp_stack_high,
};

/* The floating-point unit is switched on before any C: a compiler may use its registers to copy memory. */
__attribute__((naked, used)) void pp_reset_handler(void) {
    __asm volatile(
        ".syntax unified\n"
        "cpsid i\n"
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
        "ldr r0, =0xE000ED88\n" /* CPACR: full access to coprocessors 10 and 11 */
        "ldr r1, [r0]\n"
        "movs r2, #0xF\n"
        "lsls r2, r2, #20\n"
        "orrs r1, r2\n"
        "str r1, [r0]\n"
        "dsb\n"
        "isb\n"
#endif
        "ldr r0, =pp_stack_low\n" /* paint the stack up to where it starts: nothing is on it yet */
        "mov r1, sp\n"
        "ldr r2, =0xC5C5C5C5\n"
        "1: cmp r0, r1\n"
        "bhs 2f\n"
        "str r2, [r0]\n"
        "adds r0, #4\n"
        "b 1b\n"
        "2: ldr r0, =pp_start\n"
        "bx r0\n"
        ".ltorg\n");
}

/* Report from a fresh stack: the old one may be what is broken. */
__attribute__((naked, used)) void pp_fault_handler(void) {
    __asm volatile(
        ".syntax unified\n"
        "cpsid i\n"
        "mrs r0, msp\n"
        "mrs r1, ipsr\n"
        "ldr r2, =pp_stack_high\n"
        "mov sp, r2\n"
        "ldr r2, =pp_fault_report\n"
        "bx r2\n"
        ".ltorg\n");
}

/* A stack that overflows meets a fault: the 64 KiB below it, which are no RAM of ours, may not be touched. */
static void guard_stack(void) {
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
    __asm volatile("msr msplim, %0" ::"r"((uint32_t)(uintptr_t)pp_stack_low));
#elif !defined(__ARM_ARCH_6M__)
    if ((PP_MPU_TYPE >> 8 & 0xFFu) != 0u) {
        PP_MPU_RNR = 0u;
        PP_MPU_RBAR = (uint32_t)(uintptr_t)pp_stack_low - 0x10000u;
        PP_MPU_RASR = 1u << 28 | 15u << 1 | 1u; /* execute never, no access, 2^(15+1) bytes, on */
        PP_MPU_CTRL = 5u;                       /* on, with the default map behind it */
        __asm volatile("dsb\n isb" ::: "memory");
    }
#endif
}

__attribute__((used, noreturn)) void pp_start(void) {
    const uint32_t *image = pp_data_image;
    for (uint32_t *at = pp_data_begin; at < pp_data_end; at++) {
        *at = *image++;
    }
    for (uint32_t *at = pp_bss_begin; at < pp_bss_end; at++) {
        *at = 0u;
    }
#if !defined(__ARM_ARCH_6M__)
    PP_VTOR = (uint32_t)(uintptr_t)pp_vectors;
#endif
    guard_stack();
    (void)main();
    for (;;) {
    }
}
