/* RP2040, UART0 on GPIO0 (TX) and GPIO1 (RX), and the stage of its boot ROM that the flash brings: RP2040 data sheet,
 * sections 2.8.1 (boot), 2.14 (resets), 2.15 and 2.16 (clocks, crystal), 2.18 (PLL), 2.19 (pins), 4.10 (SSI). */
#include "pp_pl011.h"

#define RESETS_RESET PP_REGISTER(0x4000C000u)
#define RESETS_DONE PP_REGISTER(0x4000C008u)
#define XOSC_CTRL PP_REGISTER(0x40024000u)
#define XOSC_STATUS PP_REGISTER(0x40024004u)
#define XOSC_STARTUP PP_REGISTER(0x4002400Cu)
#define CLK_REF_CTRL PP_REGISTER(0x40008030u)
#define CLK_REF_SELECTED PP_REGISTER(0x40008038u)
#define CLK_SYS_CTRL PP_REGISTER(0x4000803Cu)
#define CLK_SYS_SELECTED PP_REGISTER(0x40008044u)
#define CLK_PERI_CTRL PP_REGISTER(0x40008048u)
#define PLL_CS PP_REGISTER(0x40028000u)
#define PLL_PWR PP_REGISTER(0x40028004u)
#define PLL_FBDIV PP_REGISTER(0x40028008u)
#define PLL_PRIM PP_REGISTER(0x4002800Cu)
#define GPIO0_CTRL PP_REGISTER(0x40014004u)
#define GPIO1_CTRL PP_REGISTER(0x4001400Cu)

#define RESET_NEEDED (1u << 5 | 1u << 8 | 1u << 12 | 1u << 22) /* IO_BANK0, PADS_BANK0, PLL_SYS, UART0 */
#define XOSC_ON (0xFABu << 12 | 0xAA0u)
#define XOSC_1_MS 47u /* in 256 cycles of 12 MHz */
#define STABLE (1u << 31)
#define LOCKED (1u << 31)
#define FROM_CRYSTAL 2u
#define FROM_PLL 1u
#define PERI_ON (1u << 11)
#define PWR_OSCILLATOR (1u << 2 | 1u << 3) /* all powered but the divisors behind it, no modulation */
#define PWR_ALL (1u << 2)
#define FUNCTION_UART 2u

_Static_assert(PP_CLOCK_HZ == 125000000u, "this port sets its clock to 12 MHz * 125 / 6 / 2");

/* The boot ROM copies the first 256 bytes of the flash into RAM, compares the checksum in the last four, which the build
 * fills in, and jumps to the first. They make the flash readable in place with its simplest command, 03h and 24 bits of
 * address at a fourth of the clock, which every chip has; then they start the firmware behind them. */
__asm(".section .boot2, \"ax\", %progbits\n"
      ".syntax unified\n"
      ".thumb\n"
      ".global pp_boot2\n"
      ".type pp_boot2, %function\n"
      ".thumb_func\n"
      "pp_boot2:\n"
      "ldr r3, =0x18000000\n" /* SSI */
      "movs r0, #0\n"
      "str r0, [r3, #0x08]\n" /* SSIENR: off while it is set up */
      "movs r0, #4\n"
      "str r0, [r3, #0x14]\n" /* BAUDR */
      "ldr r0, =0x001F0300\n" /* CTRLR0: frames of 32 bits, one line, send then receive */
      "str r0, [r3, #0x00]\n"
      "movs r0, #0\n"
      "str r0, [r3, #0x04]\n" /* CTRLR1: one frame a read */
      "ldr r1, =0x180000F4\n"
      "ldr r0, =0x03000218\n" /* SPI_CTRLR0: command 03h of 8 bits, 6 digits of address */
      "str r0, [r1]\n"
      "movs r0, #1\n"
      "str r0, [r3, #0x08]\n" /* SSIENR: on */
      "ldr r0, =0x10000100\n" /* the vectors behind this stage */
      "ldr r1, =0xE000ED08\n" /* VTOR */
      "str r0, [r1]\n"
      "ldm r0, {r0, r1}\n"
      "msr msp, r0\n"
      "bx r1\n"
      ".align 2\n"
      ".ltorg\n"
      ".org 252\n"
      ".word 0\n" /* the checksum */
      ".size pp_boot2, 256\n"
      ".text\n");

static void start_clock(void) {
    XOSC_STARTUP = XOSC_1_MS;
    XOSC_CTRL = XOSC_ON;
    if (!pp_await(&XOSC_STATUS, STABLE, STABLE)) {
        return;
    }
    CLK_REF_CTRL = FROM_CRYSTAL;
    (void)pp_await(&CLK_REF_SELECTED, 1u << FROM_CRYSTAL, 1u << FROM_CRYSTAL);
    CLK_SYS_CTRL = 0u; /* from the reference, while the PLL starts */
    (void)pp_await(&CLK_SYS_SELECTED, 1u, 1u);
    PLL_CS = 1u;
    PLL_FBDIV = 125u;
    PLL_PWR = PWR_OSCILLATOR;
    if (pp_await(&PLL_CS, LOCKED, LOCKED)) {
        PLL_PRIM = 6u << 16 | 2u << 12;
        PLL_PWR = PWR_ALL;
        CLK_SYS_CTRL = FROM_PLL;
        (void)pp_await(&CLK_SYS_SELECTED, 1u << FROM_PLL, 1u << FROM_PLL);
    }
}

void pp_port_init(void) {
    RESETS_RESET &= ~RESET_NEEDED;
    (void)pp_await(&RESETS_DONE, RESET_NEEDED, RESET_NEEDED);
    start_clock();
    CLK_PERI_CTRL = PERI_ON; /* from the system's clock */
    GPIO0_CTRL = FUNCTION_UART;
    GPIO1_CTRL = FUNCTION_UART;
    pp_pl011_start();
}
