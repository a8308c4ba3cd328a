/* Stellaris LM3S6965, UART0 on PA0 (RX) and PA1 (TX): data sheet, sections 5 (system control), 8 (GPIO), 12 (UART). Its
 * board has an 8 MHz crystal. */
#include "pp_pl011.h"

#define SYSCTL_RIS PP_REGISTER(0x400FE050u)
#define SYSCTL_RCC PP_REGISTER(0x400FE060u)
#define SYSCTL_RCGC1 PP_REGISTER(0x400FE104u)
#define SYSCTL_RCGC2 PP_REGISTER(0x400FE108u)
#define GPIOA_AFSEL PP_REGISTER(0x40004420u)
#define GPIOA_DEN PP_REGISTER(0x4000451Cu)

#define PLL_HZ 200000000u
#define RCC_BYPASS (1u << 11)
#define RCC_PLL_OFF (1u << 13 | 1u << 12)
#define RCC_USE_DIVISOR (1u << 22)
#define RCC_DIVISOR ((PLL_HZ / PP_CLOCK_HZ - 1u) << 23)
#define RCC_CRYSTAL_8_MHZ (0xEu << 6)
#define RCC_CLEARED (0xFu << 23 | RCC_USE_DIVISOR | RCC_PLL_OFF | 0xFu << 6 | 3u << 4 | 1u) /* main oscillator, on */
#define RIS_PLL_LOCKED (1u << 6)
#define CRYSTAL_TRIES 50000u /* some 16 ms at 12 MHz, in which a crystal starts to swing */

_Static_assert(PLL_HZ % PP_CLOCK_HZ == 0u && PP_CLOCK_HZ <= 50000000u, "200 MHz over a whole number, at most 50 MHz");

static void start_clock(void) {
    uint32_t rcc = (SYSCTL_RCC & ~RCC_USE_DIVISOR) | RCC_BYPASS;
    SYSCTL_RCC = rcc & ~1u; /* the main oscillator on, while the internal one still is the clock */
    for (volatile uint32_t i = 0u; i < CRYSTAL_TRIES; i++) {
    }
    rcc = (rcc & ~RCC_CLEARED) | RCC_CRYSTAL_8_MHZ;
    SYSCTL_RCC = rcc;
    rcc |= RCC_DIVISOR | RCC_USE_DIVISOR;
    SYSCTL_RCC = rcc;
    if (pp_await(&SYSCTL_RIS, RIS_PLL_LOCKED, RIS_PLL_LOCKED)) {
        SYSCTL_RCC = rcc & ~RCC_BYPASS;
    }
}

void pp_port_init(void) {
    start_clock();
    SYSCTL_RCGC1 |= 1u << 0; /* UART0 */
    SYSCTL_RCGC2 |= 1u << 0; /* GPIOA */
    (void)SYSCTL_RCGC2;      /* the clock takes some cycles to arrive */
    (void)SYSCTL_RCGC2;
    GPIOA_AFSEL |= 3u;
    GPIOA_DEN |= 3u;
    pp_pl011_start();
}
