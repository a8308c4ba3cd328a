/* STM32F4 USART1 on PA9 (TX) and PA10 (RX): reference manual RM0090, sections 7 (RCC), 8 (GPIO) and 30 (USART). */
#include "pp_build.h"
#include "pp_port.h"
#include "pp_registers.h"

#define RCC_AHB1ENR PP_REGISTER(0x40023830u)
#define RCC_APB2ENR PP_REGISTER(0x40023844u)
#define GPIOA_MODER PP_REGISTER(0x40020000u)
#define GPIOA_AFRH PP_REGISTER(0x40020024u)
#define SR PP_REGISTER(PP_UART_BASE + 0x00u)
#define DR PP_REGISTER(PP_UART_BASE + 0x04u)
#define BRR PP_REGISTER(PP_UART_BASE + 0x08u)
#define CR1 PP_REGISTER(PP_UART_BASE + 0x0Cu)

#define SR_RXNE (1u << 5)
#define SR_TC (1u << 6)
#define SR_TXE (1u << 7)
#define CR1_RE (1u << 2)
#define CR1_TE (1u << 3)
#define CR1_RXNEIE (1u << 5)
#define CR1_UE (1u << 13)

void pp_port_init(void) {
    RCC_AHB1ENR |= 1u << 0; /* GPIOA */
    RCC_APB2ENR |= 1u << 4; /* USART1 */
    (void)RCC_APB2ENR;      /* the clock takes two cycles to arrive */
    GPIOA_MODER = (GPIOA_MODER & ~(0xFu << 18)) | 0xAu << 18; /* PA9 and PA10: alternate function */
    GPIOA_AFRH = (GPIOA_AFRH & ~(0xFFu << 4)) | 0x77u << 4;   /* function 7 is USART1 */
    BRR = (PP_CLOCK_HZ + PP_BAUD / 2u) / PP_BAUD;
    CR1 = CR1_UE | CR1_TE | CR1_RE | CR1_RXNEIE;
}

bool pp_port_readable(void) { return (SR & SR_RXNE) != 0u; }

uint8_t pp_port_read(void) { return (uint8_t)DR; }

void pp_port_write(uint8_t byte) {
    while ((SR & SR_TXE) == 0u) {
    }
    DR = byte;
}

void pp_port_flush(void) {
    while ((SR & SR_TC) == 0u) {
    }
}

void pp_port_acknowledge(void) {} /* reading DR clears it */
