/* USART of the STM32F1, F2 and F4: reference manuals RM0008, section 27, and RM0090, section 30. A port includes this once
 * and adds its chip's clock and pins; the functions are pp_port.h's. */
#ifndef PP_STM32_USART_H
#define PP_STM32_USART_H

#include "pp_build.h"
#include "pp_port.h"
#include "pp_registers.h"

#define PP_USART_SR PP_REGISTER(PP_UART_BASE + 0x00u)
#define PP_USART_DR PP_REGISTER(PP_UART_BASE + 0x04u)
#define PP_USART_BRR PP_REGISTER(PP_UART_BASE + 0x08u)
#define PP_USART_CR1 PP_REGISTER(PP_UART_BASE + 0x0Cu)

#define PP_USART_RXNE (1u << 5)
#define PP_USART_TC (1u << 6)
#define PP_USART_TXE (1u << 7)
#define PP_USART_ON (1u << 13 | 1u << 3 | 1u << 2) /* the USART, its transmitter, its receiver */
#define PP_USART_RXNE_INTERRUPT (1u << 5)

/* Start it. clock_hz: of its bus. */
static inline void pp_usart_start(uint32_t clock_hz) {
    PP_USART_BRR = (clock_hz + PP_BAUD / 2u) / PP_BAUD;
    PP_USART_CR1 = PP_USART_ON | PP_USART_RXNE_INTERRUPT;
}

bool pp_port_readable(void) { return (PP_USART_SR & PP_USART_RXNE) != 0u; }

uint8_t pp_port_read(void) { return (uint8_t)PP_USART_DR; }

void pp_port_write(uint8_t byte) {
    while ((PP_USART_SR & PP_USART_TXE) == 0u) {
    }
    PP_USART_DR = byte;
}

void pp_port_flush(void) {
    while ((PP_USART_SR & PP_USART_TC) == 0u) {
    }
}

void pp_port_acknowledge(void) {} /* reading DR clears it */

#endif
