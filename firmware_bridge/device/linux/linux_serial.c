/* A serial device as the line: a UART, or a USB gadget's. termios(3). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "linux_line.h"
#include "linux_platform.h"

#define REOPEN_US 200000u /* between two looks whether the device is there again */

static const struct {
    uint32_t baud;
    speed_t code;
} speeds[] = {
    {9600, B9600},       {19200, B19200},     {38400, B38400},     {57600, B57600},     {115200, B115200},
    {230400, B230400},   {460800, B460800},   {921600, B921600},   {1000000, B1000000}, {1500000, B1500000},
    {2000000, B2000000}, {3000000, B3000000}, {4000000, B4000000},
};

static speed_t speed_of(uint32_t baud) {
    for (size_t i = 0; i < sizeof speeds / sizeof speeds[0]; i++) {
        if (speeds[i].baud == baud) {
            return speeds[i].code;
        }
    }
    (void)fprintf(stderr, "no such speed: --baud %u\n", (unsigned)baud);
    exit(EXIT_USAGE);
}

/* Bytes as they are, no echo, no flow control; TIOCEXCL keeps others from opening it. */
static bool make_raw(int device, speed_t speed) {
    struct termios settings;
    if (tcgetattr(device, &settings) != 0) {
        return false;
    }
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cflag &= ~(tcflag_t)CRTSCTS;
    (void)cfsetspeed(&settings, speed);
    return tcsetattr(device, TCSANOW, &settings) == 0 && ioctl(device, TIOCEXCL) == 0;
}

/* A USB gadget's device comes and goes with its cable; one that never was there, or is no serial device, is an error. */
line_t line_open_serial(const char *path, uint32_t baud) {
    static bool was_there;
    const speed_t speed = speed_of(baud);
    if (was_there) {
        (void)usleep(REOPEN_US); /* some devices say at once that nobody is there */
    }
    for (;;) {
        const int device = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (device >= 0 && make_raw(device, speed)) {
            const line_t line = {device, device};
            was_there = true;
            return line;
        }
        if (!was_there) {
            line_fail("cannot use the serial device", path);
        }
        if (device >= 0) {
            (void)close(device);
        }
        (void)usleep(REOPEN_US);
    }
}
