/* STM32F405 and F407, USART1 on PA9 (TX) and PA10 (RX): reference manual RM0090, sections 3 (flash), 7 (RCC), 8 (GPIO). */
#include "pp_stm32_usart.h"

#define FLASH_ACR PP_REGISTER(0x40023C00u)
#define RCC_CR PP_REGISTER(0x40023800u)
#define RCC_PLLCFGR PP_REGISTER(0x40023804u)
#define RCC_CFGR PP_REGISTER(0x40023808u)
#define RCC_AHB1ENR PP_REGISTER(0x40023830u)
#define RCC_APB2ENR PP_REGISTER(0x40023844u)
#define GPIOA_MODER PP_REGISTER(0x40020000u)
#define GPIOA_AFRH PP_REGISTER(0x40020024u)

#define ACR_CACHES_5_WAITS (1u << 8 | 1u << 9 | 1u << 10 | 5u) /* prefetch, instructions, data */
#define PLL_168_MHZ (7u << 24 | 336u << 6 | 16u)               /* from the internal 16 MHz: / 16 * 336 / 2 */
#define CR_PLL_ON (1u << 24)
#define CR_PLL_READY (1u << 25)
#define CFGR_BUSES (5u << 10 | 4u << 13) /* APB1 at a fourth, APB2 at half of the clock */
#define CFGR_PLL 2u
#define CFGR_ON_PLL (2u << 2)

_Static_assert(PP_CLOCK_HZ == 168000000u, "this port sets its clock to 168 MHz");

static void start_clock(void) {
    RCC_PLLCFGR = PLL_168_MHZ;
    RCC_CR |= CR_PLL_ON;
    if (pp_await(&RCC_CR, CR_PLL_READY, CR_PLL_READY)) {
        FLASH_ACR = ACR_CACHES_5_WAITS;
        RCC_CFGR = CFGR_BUSES;
        RCC_CFGR = CFGR_BUSES | CFGR_PLL;
        (void)pp_await(&RCC_CFGR, 3u << 2, CFGR_ON_PLL);
    }
}

void pp_port_init(void) {
    start_clock();
    RCC_AHB1ENR |= 1u << 0; /* GPIOA */
    RCC_APB2ENR |= 1u << 4; /* USART1 */
    (void)RCC_APB2ENR;      /* the clock takes two cycles to arrive */
    GPIOA_MODER = (GPIOA_MODER & ~(0xFu << 18)) | 0xAu << 18; /* PA9 and PA10: alternate function */
    GPIOA_AFRH = (GPIOA_AFRH & ~(0xFFu << 4)) | 0x77u << 4;   /* function 7 is USART1 */
    pp_usart_start(PP_CLOCK_HZ / 2u);
}
