/* STM32F100 and F103, USART1 on PA9 (TX) and PA10 (RX): reference manuals RM0008 and RM0041, sections 3 (flash), 7 (RCC),
 * 9 (GPIO). */
#include "pp_stm32_usart.h"

#define FLASH_ACR PP_REGISTER(0x40022000u)
#define RCC_CR PP_REGISTER(0x40021000u)
#define RCC_CFGR PP_REGISTER(0x40021004u)
#define RCC_APB2ENR PP_REGISTER(0x40021018u)
#define GPIOA_CRH PP_REGISTER(0x40010804u)
#define GPIOA_BSRR PP_REGISTER(0x40010810u)

#define HALF_INTERNAL_HZ 4000000u /* the PLL's input: half of the internal oscillator */
#define WAITS (PP_CLOCK_HZ > 48000000u ? 2u : PP_CLOCK_HZ > 24000000u ? 1u : 0u)
#define ACR_PREFETCH (1u << 4)
#define CR_PLL_ON (1u << 24)
#define CR_PLL_READY (1u << 25)
#define CFGR_APB1_HALF (4u << 8) /* that bus stands 36 MHz */
#define CFGR_MULTIPLY ((PP_CLOCK_HZ / HALF_INTERNAL_HZ - 2u) << 18)
#define CFGR_CLOCK (CFGR_MULTIPLY | (PP_CLOCK_HZ > 36000000u ? CFGR_APB1_HALF : 0u))
#define CFGR_PLL 2u
#define CFGR_ON_PLL (2u << 2)

_Static_assert(PP_CLOCK_HZ % HALF_INTERNAL_HZ == 0u, "the PLL multiplies 4 MHz by a whole number");
_Static_assert(PP_CLOCK_HZ >= 8000000u && PP_CLOCK_HZ <= 64000000u, "the PLL multiplies 4 MHz by 2 to 16");

static void start_clock(void) {
    RCC_CFGR = CFGR_CLOCK;
    RCC_CR |= CR_PLL_ON;
    if (pp_await(&RCC_CR, CR_PLL_READY, CR_PLL_READY)) {
        if (WAITS != 0u) { /* an STM32F100 has neither these bits nor needs them */
            FLASH_ACR = ACR_PREFETCH | WAITS;
        }
        RCC_CFGR = CFGR_CLOCK | CFGR_PLL;
        (void)pp_await(&RCC_CFGR, 3u << 2, CFGR_ON_PLL);
    }
}

void pp_port_init(void) {
    start_clock();
    RCC_APB2ENR |= 1u << 2 | 1u << 14; /* GPIOA, USART1 */
    (void)RCC_APB2ENR;                 /* the clock takes two cycles to arrive */
    GPIOA_BSRR = 1u << 10;             /* a line that is not wired reads as idle */
    GPIOA_CRH = (GPIOA_CRH & ~(0xFFu << 4)) | 0x8Bu << 4; /* PA10: input, pulled up; PA9: the USART's output */
    pp_usart_start(PP_CLOCK_HZ);
}
