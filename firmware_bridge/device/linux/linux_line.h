/* The line to the host: a serial device, a TCP connection, or standard input and output. */
#ifndef LINUX_LINE_H
#define LINUX_LINE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *serial; /* device, /dev/ttyGS0 say; NULL for none */
    uint32_t baud;      /* of a device that has one: a UART */
    const char *listen; /* [ADDRESS:]PORT, IPv4; NULL for none. With neither the line is standard input and output */
} line_options_t;

typedef struct {
    int in;
    int out;
} line_t;

/* Wait for a host: until the device opens, or somebody connects. What can never work ends the program with its reason.
 * While a connection is open nobody else gets one: the port is closed to them. */
line_t line_wait(const line_options_t *options);

void line_close(line_t line);

/* The two ways of line_wait: linux_serial.c, linux_tcp.c. */
line_t line_open_serial(const char *device, uint32_t baud);
line_t line_accept(const char *address);

/* End the program with what could not be done, to which device or address, and errno's reason. */
__attribute__((noreturn)) void line_fail(const char *what, const char *which);

/* The three below are for the process that answers. They end it with EXIT_CLOSED where the line has gone. */
uint8_t line_read(line_t line);

void line_write(line_t line, uint8_t byte);

/* Send what was written; reading does so too before it waits. */
void line_flush(line_t line);

#endif
