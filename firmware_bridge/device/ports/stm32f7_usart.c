/* STM32F746, USART3 on PD8 (TX) and PD9 (RX), which a Nucleo-144 wires to its ST-LINK: reference manual RM0385, sections 3
 * (flash), 4 (PWR), 5 (RCC), 6 (GPIO), 31 (USART); caches: programming manual PM0253, section 4.8. */
#include "pp_build.h"
#include "pp_m7_cache.h"
#include "pp_port.h"
#include "pp_registers.h"

#define FLASH_ACR PP_REGISTER(0x40023C00u)
#define RCC_CR PP_REGISTER(0x40023800u)
#define RCC_PLLCFGR PP_REGISTER(0x40023804u)
#define RCC_CFGR PP_REGISTER(0x40023808u)
#define RCC_AHB1ENR PP_REGISTER(0x40023830u)
#define RCC_APB1ENR PP_REGISTER(0x40023840u)
#define PWR_CR1 PP_REGISTER(0x40007000u)
#define PWR_CSR1 PP_REGISTER(0x40007004u)
#define GPIOD_MODER PP_REGISTER(0x40020C00u)
#define GPIOD_AFRH PP_REGISTER(0x40020C24u)
#define CR1 PP_REGISTER(PP_UART_BASE + 0x00u)
#define BRR PP_REGISTER(PP_UART_BASE + 0x0Cu)
#define ISR PP_REGISTER(PP_UART_BASE + 0x1Cu)
#define ICR PP_REGISTER(PP_UART_BASE + 0x20u)
#define RDR PP_REGISTER(PP_UART_BASE + 0x24u)
#define TDR PP_REGISTER(PP_UART_BASE + 0x28u)
#define SCB_CCR PP_REGISTER(0xE000ED14u)
#define SCB_CACR PP_REGISTER(0xE000EF9Cu)
#define DWT_LAR PP_REGISTER(0xE0001FB0u)

#define ACR_PREFETCH_7_WAITS (1u << 8 | 7u)
#define PLL_216_MHZ (9u << 24 | 432u << 6 | 16u) /* from the internal 16 MHz: / 16 * 432 / 2 */
#define CR_PLL_ON (1u << 24)
#define CR_PLL_READY (1u << 25)
#define CFGR_BUSES (5u << 10 | 4u << 13) /* APB1 at a fourth, APB2 at half of the clock */
#define CFGR_PLL 2u
#define CFGR_ON_PLL (2u << 2)
#define OVERDRIVE (1u << 16)
#define OVERDRIVE_SWITCH (1u << 17)
#define APB1_HZ (PP_CLOCK_HZ / 4u)
#define CCR_DATA_CACHE (1u << 16)
#define CCR_INSTRUCTION_CACHE (1u << 17)
#define CACR_WRITE_THROUGH (1u << 2)
#define UART_ON (1u << 0 | 1u << 2 | 1u << 3) /* the USART, its receiver, its transmitter */
#define RXNE (1u << 5)
#define TC (1u << 6)
#define TXE (1u << 7)
#define OVERRUN (1u << 3)

_Static_assert(PP_CLOCK_HZ == 216000000u, "this port sets its clock to 216 MHz");

static void start_clock(void) {
    RCC_APB1ENR |= 1u << 28; /* PWR */
    RCC_PLLCFGR = PLL_216_MHZ;
    RCC_CR |= CR_PLL_ON;
    PWR_CR1 |= OVERDRIVE; /* above 180 MHz */
    (void)pp_await(&PWR_CSR1, OVERDRIVE, OVERDRIVE);
    PWR_CR1 |= OVERDRIVE_SWITCH;
    (void)pp_await(&PWR_CSR1, OVERDRIVE_SWITCH, OVERDRIVE_SWITCH);
    if (pp_await(&RCC_CR, CR_PLL_READY, CR_PLL_READY)) {
        FLASH_ACR = ACR_PREFETCH_7_WAITS;
        RCC_CFGR = CFGR_BUSES;
        RCC_CFGR = CFGR_BUSES | CFGR_PLL;
        (void)pp_await(&RCC_CFGR, 3u << 2, CFGR_ON_PLL);
    }
}

/* The data cache writes through: the cause of a restart, and what a probe reads, is then in RAM. */
static void start_caches(void) {
    pp_instruction_cache_forget();
    pp_data_cache_forget();
    SCB_CACR |= CACR_WRITE_THROUGH;
    __asm volatile("dsb\n isb" ::: "memory");
    SCB_CCR |= CCR_DATA_CACHE | CCR_INSTRUCTION_CACHE;
    __asm volatile("dsb\n isb" ::: "memory");
}

void pp_port_init(void) {
    start_clock();
    start_caches();
    DWT_LAR = 0xC5ACCE55u;   /* lets the cycle counter be written */
    RCC_AHB1ENR |= 1u << 3;  /* GPIOD */
    RCC_APB1ENR |= 1u << 18; /* USART3 */
    (void)RCC_APB1ENR;       /* the clock takes two cycles to arrive */
    GPIOD_MODER = (GPIOD_MODER & ~(0xFu << 16)) | 0xAu << 16; /* PD8 and PD9: alternate function */
    GPIOD_AFRH = (GPIOD_AFRH & ~0xFFu) | 0x77u;               /* function 7 is USART3 */
    BRR = (APB1_HZ + PP_BAUD / 2u) / PP_BAUD;
    CR1 = UART_ON | RXNE; /* the interrupt has the bit of its flag */
}

bool pp_port_readable(void) { return (ISR & RXNE) != 0u; }

uint8_t pp_port_read(void) { return (uint8_t)RDR; }

void pp_port_write(uint8_t byte) {
    while ((ISR & TXE) == 0u) {
    }
    TDR = byte;
}

void pp_port_flush(void) {
    while ((ISR & TC) == 0u) {
    }
}

void pp_port_acknowledge(void) { ICR = OVERRUN; } /* reading RDR clears the other */
