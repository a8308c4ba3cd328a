/* The flash as the bootloader uses it. A driver is one C file in flash/; geometry comes from pp_boot_build.h. */
#ifndef PP_FLASH_H
#define PP_FLASH_H

#include <stdbool.h>
#include <stdint.h>

#define PP_ERASED 0xFFFFFFFFu

/* What lies at an address of the flash. */
const uint8_t *pp_flash_at(uint32_t address);

/* Program one word at an address that is a multiple of 4: bits go from 1 to 0, never back. False: the controller
 * refused, or the word does not read back as the old one and the new one combined. */
bool pp_flash_program(uint32_t address, uint32_t word);

/* Erase a sector, by its number from the flash's base. False: the controller refused. */
bool pp_flash_erase(uint32_t sector);

#endif
