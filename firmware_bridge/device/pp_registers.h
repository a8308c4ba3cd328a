/* Registers of the Cortex-M system space (ARMv7-M Architecture Reference Manual, B3). */
#ifndef PP_REGISTERS_H
#define PP_REGISTERS_H

#include <stdbool.h>
#include <stdint.h>

#define PP_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define PP_DWT_CTRL PP_REGISTER(0xE0001000u)
#define PP_DWT_CYCCNT PP_REGISTER(0xE0001004u)
#define PP_SYST_CSR PP_REGISTER(0xE000E010u)
#define PP_SYST_RVR PP_REGISTER(0xE000E014u)
#define PP_SYST_CVR PP_REGISTER(0xE000E018u)
#define PP_NVIC_ISER(irq) PP_REGISTER(0xE000E100u + 4u * ((irq) / 32u))
#define PP_NVIC_ICER(irq) PP_REGISTER(0xE000E180u + 4u * ((irq) / 32u))
#define PP_NVIC_ICPR(irq) PP_REGISTER(0xE000E280u + 4u * ((irq) / 32u))
#define PP_NVIC_BIT(irq) (1u << ((irq) % 32u))
#define PP_ICSR PP_REGISTER(0xE000ED04u)
#define PP_VTOR PP_REGISTER(0xE000ED08u)
#define PP_AIRCR PP_REGISTER(0xE000ED0Cu)
#define PP_CFSR PP_REGISTER(0xE000ED28u)
#define PP_HFSR PP_REGISTER(0xE000ED2Cu)
#define PP_MMFAR PP_REGISTER(0xE000ED34u)
#define PP_BFAR PP_REGISTER(0xE000ED38u)
#define PP_MPU_TYPE PP_REGISTER(0xE000ED90u)
#define PP_MPU_CTRL PP_REGISTER(0xE000ED94u)
#define PP_MPU_RNR PP_REGISTER(0xE000ED98u)
#define PP_MPU_RBAR PP_REGISTER(0xE000ED9Cu)
#define PP_MPU_RASR PP_REGISTER(0xE000EDA0u)
#define PP_DEMCR PP_REGISTER(0xE000EDFCu)

#define PP_AIRCR_SYSRESETREQ 0x05FA0004u
#define PP_ICSR_PENDSTCLR (1u << 25)
#define PP_ICSR_PENDSTSET (1u << 26)

#define PP_AWAIT_TRIES 20000u

/* Wait until the bits of mask in a register are wanted. Returns whether they are before too long: a clock that does not
 * come, as in an emulator that models none, may not keep the board from answering. */
static inline bool pp_await(const volatile uint32_t *at, uint32_t mask, uint32_t wanted) {
    for (uint32_t tries = 0u; tries < PP_AWAIT_TRIES; tries++) {
        if ((*at & mask) == wanted) {
            return true;
        }
    }
    return false;
}

#endif
