/* ARM PrimeCell PL011 UART: Technical Reference Manual DDI 0183, chapter 3. A port includes this once and adds its chip's
 * clock and pins; the functions are pp_port.h's. */
#ifndef PP_PL011_H
#define PP_PL011_H

#include "pp_build.h"
#include "pp_port.h"
#include "pp_registers.h"

#define PP_PL011_DR PP_REGISTER(PP_UART_BASE + 0x00u)
#define PP_PL011_FR PP_REGISTER(PP_UART_BASE + 0x18u)
#define PP_PL011_IBRD PP_REGISTER(PP_UART_BASE + 0x24u)
#define PP_PL011_FBRD PP_REGISTER(PP_UART_BASE + 0x28u)
#define PP_PL011_LCRH PP_REGISTER(PP_UART_BASE + 0x2Cu)
#define PP_PL011_CR PP_REGISTER(PP_UART_BASE + 0x30u)
#define PP_PL011_IMSC PP_REGISTER(PP_UART_BASE + 0x38u)
#define PP_PL011_ICR PP_REGISTER(PP_UART_BASE + 0x44u)

#define PP_PL011_BUSY (1u << 3)
#define PP_PL011_RX_EMPTY (1u << 4)
#define PP_PL011_TX_FULL (1u << 5)
#define PP_PL011_FIFOS (1u << 4)
#define PP_PL011_8_BITS (3u << 5)
#define PP_PL011_ON (1u << 0 | 1u << 8 | 1u << 9) /* the UART, its transmitter, its receiver */
#define PP_PL011_RX_INTERRUPTS (1u << 4 | 1u << 6) /* FIFO filled so far, or bytes in it and none came for a while */

/* Start it; its clock runs at PP_CLOCK_HZ. The divisor counts 64ths of 16 clocks a bit. */
static inline void pp_pl011_start(void) {
    const uint32_t divisor = (PP_CLOCK_HZ * 4u + PP_BAUD / 2u) / PP_BAUD;
    PP_PL011_CR = 0u;
    PP_PL011_IBRD = divisor / 64u;
    PP_PL011_FBRD = divisor % 64u;
    PP_PL011_LCRH = PP_PL011_8_BITS | PP_PL011_FIFOS; /* takes the divisor over, so it comes after it */
    PP_PL011_IMSC = PP_PL011_RX_INTERRUPTS;
    PP_PL011_CR = PP_PL011_ON;
}

bool pp_port_readable(void) { return (PP_PL011_FR & PP_PL011_RX_EMPTY) == 0u; }

uint8_t pp_port_read(void) { return (uint8_t)PP_PL011_DR; }

void pp_port_write(uint8_t byte) {
    while ((PP_PL011_FR & PP_PL011_TX_FULL) != 0u) {
    }
    PP_PL011_DR = byte;
}

void pp_port_flush(void) {
    while ((PP_PL011_FR & PP_PL011_BUSY) != 0u) {
    }
}

void pp_port_acknowledge(void) { PP_PL011_ICR = PP_PL011_RX_INTERRUPTS; }

#endif
