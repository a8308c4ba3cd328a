/* Nordic nRF51 UART: nRF51 Series Reference Manual 3.0, section 29. Pins as on the BBC micro:bit. */
#include "pp_build.h"
#include "pp_port.h"
#include "pp_registers.h"

#define TASKS_STARTRX PP_REGISTER(PP_UART_BASE + 0x000u)
#define TASKS_STARTTX PP_REGISTER(PP_UART_BASE + 0x008u)
#define EVENTS_RXDRDY PP_REGISTER(PP_UART_BASE + 0x108u)
#define EVENTS_TXDRDY PP_REGISTER(PP_UART_BASE + 0x11Cu)
#define INTENSET PP_REGISTER(PP_UART_BASE + 0x304u)
#define ENABLE PP_REGISTER(PP_UART_BASE + 0x500u)
#define PSELTXD PP_REGISTER(PP_UART_BASE + 0x50Cu)
#define PSELRXD PP_REGISTER(PP_UART_BASE + 0x514u)
#define RXD PP_REGISTER(PP_UART_BASE + 0x518u)
#define TXD PP_REGISTER(PP_UART_BASE + 0x51Cu)
#define BAUDRATE PP_REGISTER(PP_UART_BASE + 0x524u)

#define BAUD_115200 0x01D7E000u
#define INT_RXDRDY (1u << 2)

_Static_assert(PP_BAUD == 115200u, "this port is set up for 115200 baud");

static bool sending;

void pp_port_init(void) {
    ENABLE = 4u;
    PSELTXD = 24u;
    PSELRXD = 25u;
    BAUDRATE = BAUD_115200;
    TASKS_STARTRX = 1u;
    TASKS_STARTTX = 1u;
    INTENSET = INT_RXDRDY;
}

bool pp_port_readable(void) { return EVENTS_RXDRDY != 0u; }

uint8_t pp_port_read(void) {
    EVENTS_RXDRDY = 0u; /* before the byte is taken: taking it lets the next one raise the event */
    return (uint8_t)RXD;
}

void pp_port_flush(void) {
    while (sending && EVENTS_TXDRDY == 0u) {
    }
}

void pp_port_write(uint8_t byte) {
    pp_port_flush();
    sending = true;
    EVENTS_TXDRDY = 0u;
    TXD = byte;
}

void pp_port_acknowledge(void) {} /* reading clears the event */
