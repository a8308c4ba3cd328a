/* ARM CMSDK APB UART (MPS2 and MPS3 boards): Cortex-M System Design Kit TRM, DDI 0479, section 4.3. */
#include "pp_build.h"
#include "pp_port.h"
#include "pp_registers.h"

#define DATA PP_REGISTER(PP_UART_BASE + 0x00u)
#define STATE PP_REGISTER(PP_UART_BASE + 0x04u)
#define CTRL PP_REGISTER(PP_UART_BASE + 0x08u)
#define INTCLEAR PP_REGISTER(PP_UART_BASE + 0x0Cu)
#define BAUDDIV PP_REGISTER(PP_UART_BASE + 0x10u)

#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define CTRL_TX_ON 1u
#define CTRL_RX_ON 2u
#define CTRL_RX_INTERRUPT 8u
#define INT_RX 2u

void pp_port_init(void) {
    BAUDDIV = PP_CLOCK_HZ / PP_BAUD;
    CTRL = CTRL_TX_ON | CTRL_RX_ON | CTRL_RX_INTERRUPT;
    (void)DATA; /* throws away a byte from before, and lets QEMU's model start to receive */
}

bool pp_port_readable(void) { return (STATE & STATE_RX_FULL) != 0u; }

uint8_t pp_port_read(void) { return (uint8_t)DATA; }

void pp_port_write(uint8_t byte) {
    while ((STATE & STATE_TX_FULL) != 0u) {
    }
    DATA = byte;
}

void pp_port_flush(void) {
    while ((STATE & STATE_TX_FULL) != 0u) {
    }
}

void pp_port_acknowledge(void) { INTCLEAR = INT_RX; }
