/* STM32F405 flash controller: reference manual RM0090, sections 3.6 (erase and program) and 3.9 (registers).
 * Words of 32 bits want a supply of 2.7 V and more. The processor stalls while the flash is busy: it runs from it. */
#include "pp_flash.h"
#include "pp_registers.h"

#define ACR PP_REGISTER(0x40023C00u)
#define KEYR PP_REGISTER(0x40023C04u)
#define SR PP_REGISTER(0x40023C0Cu)
#define CR PP_REGISTER(0x40023C10u)

#define ACR_CACHES (1u << 9 | 1u << 10)   /* instructions, data */
#define ACR_FORGET (1u << 11 | 1u << 12) /* while they are off */
#define KEY_1 0x45670123u
#define KEY_2 0xCDEF89ABu
#define SR_ERRORS 0xF2u /* sequence, parallelism, alignment, write protection, operation */
#define SR_BUSY (1u << 16)
#define CR_PROGRAM (1u << 0)
#define CR_SECTOR_ERASE (1u << 1)
#define CR_SECTOR(number) ((number) << 3)
#define CR_WORDS (2u << 8)
#define CR_START (1u << 16)
#define CR_LOCK (1u << 31)

const uint8_t *pp_flash_at(uint32_t address) { return (const uint8_t *)(uintptr_t)address; }

static void unlock(void) {
    while ((SR & SR_BUSY) != 0u) {
    }
    if ((CR & CR_LOCK) != 0u) {
        KEYR = KEY_1;
        KEYR = KEY_2;
    }
    SR = SR_ERRORS; /* a one clears */
}

/* The caches do not see the flash change (RM0090, 3.5.2): what they hold is forgotten. */
static void forget_cached(void) {
    const uint32_t access = ACR;
    ACR = access & ~ACR_CACHES;
    ACR = (access & ~ACR_CACHES) | ACR_FORGET;
    ACR = access & ~ACR_CACHES;
    ACR = access;
}

/* Wait for the end, and lock the controller: a stray write then changes nothing. */
static bool finish(void) {
    while ((SR & SR_BUSY) != 0u) {
    }
    const bool good = (SR & SR_ERRORS) == 0u;
    CR = CR_LOCK;
    forget_cached();
    return good;
}

bool pp_flash_program(uint32_t address, uint32_t word) {
    const uint32_t expected = PP_REGISTER(address) & word;
    unlock();
    CR = CR_WORDS | CR_PROGRAM;
    PP_REGISTER(address) = word;
    __asm volatile("dsb" ::: "memory");
    return finish() && PP_REGISTER(address) == expected;
}

bool pp_flash_erase(uint32_t sector) {
    unlock();
    CR = CR_WORDS | CR_SECTOR_ERASE | CR_SECTOR(sector);
    CR = CR_WORDS | CR_SECTOR_ERASE | CR_SECTOR(sector) | CR_START;
    __asm volatile("dsb" ::: "memory");
    return finish();
}
