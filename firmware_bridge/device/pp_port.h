/* What a port supplies: one serial line, polled. A port is one C file in ports/. */
#ifndef PP_PORT_H
#define PP_PORT_H

#include <stdbool.h>
#include <stdint.h>

/* Set the UART up (PP_UART_BASE, PP_CLOCK_HZ, PP_BAUD of pp_build.h) with its receive interrupt on, so that a byte
 * wakes the processor; no handler is installed for it. */
void pp_port_init(void);

/* Whether a received byte waits. */
bool pp_port_readable(void);

/* Take that byte. Only after pp_port_readable() said so. */
uint8_t pp_port_read(void);

/* Send a byte, waiting until the line takes it. */
void pp_port_write(uint8_t byte);

/* Wait until the last byte has left. */
void pp_port_flush(void);

/* Clear the receive interrupt at the UART. Called before the line is looked at again, never after: a byte that comes
 * in between raises it anew. */
void pp_port_acknowledge(void);

#endif
