/* Flash controller of the STM32F4 and F7: reference manuals RM0090, sections 3.6 (erase and program) and 3.9 (registers), and
 * RM0385, sections 3.3 and 3.7. A driver includes this once, behind its forget_cached; the functions are pp_flash.h's.
 * Words of 32 bits want a supply of 2.7 V and more. The processor stalls while the flash is busy: it runs from it. */
#ifndef PP_STM32_FLASH_H
#define PP_STM32_FLASH_H

#include "pp_flash.h"
#include "pp_registers.h"

#define PP_FLASH_KEYR PP_REGISTER(0x40023C04u)
#define PP_FLASH_SR PP_REGISTER(0x40023C0Cu)
#define PP_FLASH_CR PP_REGISTER(0x40023C10u)

#define PP_FLASH_KEY_1 0x45670123u
#define PP_FLASH_KEY_2 0xCDEF89ABu
#define PP_FLASH_ERRORS 0xF2u /* sequence, parallelism, alignment, write protection, operation */
#define PP_FLASH_BUSY (1u << 16)
#define PP_FLASH_PROGRAM (1u << 0)
#define PP_FLASH_SECTOR_ERASE (1u << 1)
#define PP_FLASH_SECTOR(number) ((number) << 3)
#define PP_FLASH_WORDS (2u << 8)
#define PP_FLASH_START (1u << 16)
#define PP_FLASH_LOCK (1u << 31)

/* Caches do not see the flash change: what they hold of it is forgotten. */
static void forget_cached(void);

const uint8_t *pp_flash_at(uint32_t address) { return (const uint8_t *)(uintptr_t)address; }

static void unlock(void) {
    while ((PP_FLASH_SR & PP_FLASH_BUSY) != 0u) {
    }
    if ((PP_FLASH_CR & PP_FLASH_LOCK) != 0u) {
        PP_FLASH_KEYR = PP_FLASH_KEY_1;
        PP_FLASH_KEYR = PP_FLASH_KEY_2;
    }
    PP_FLASH_SR = PP_FLASH_ERRORS; /* a one clears */
}

/* Wait for the end, and lock the controller: a stray write then changes nothing. */
static bool finish(void) {
    while ((PP_FLASH_SR & PP_FLASH_BUSY) != 0u) {
    }
    const bool good = (PP_FLASH_SR & PP_FLASH_ERRORS) == 0u;
    PP_FLASH_CR = PP_FLASH_LOCK;
    forget_cached();
    return good;
}

bool pp_flash_program(uint32_t address, uint32_t word) {
    const uint32_t expected = PP_REGISTER(address) & word;
    unlock();
    PP_FLASH_CR = PP_FLASH_WORDS | PP_FLASH_PROGRAM;
    __asm volatile("dsb" ::: "memory"); /* the flash is memory, which a core may write before a register */
    PP_REGISTER(address) = word;
    __asm volatile("dsb" ::: "memory");
    return finish() && PP_REGISTER(address) == expected;
}

bool pp_flash_erase(uint32_t sector) {
    const uint32_t erase = PP_FLASH_WORDS | PP_FLASH_SECTOR_ERASE | PP_FLASH_SECTOR(sector);
    unlock();
    PP_FLASH_CR = erase;
    PP_FLASH_CR = erase | PP_FLASH_START;
    __asm volatile("dsb" ::: "memory");
    return finish();
}

#endif
