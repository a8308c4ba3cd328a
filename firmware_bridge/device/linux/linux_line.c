#define _GNU_SOURCE
#include "linux_line.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "linux_platform.h"

#define BUFFER_BYTES 4096u
#define REOPEN_US 200000u /* between two looks whether a serial device is there again */
#define DEAD_AFTER_S 10   /* a host that has gone without a word is noticed within twice this */

static const struct {
    uint32_t baud;
    speed_t code;
} speeds[] = {
    {9600, B9600},       {19200, B19200},     {38400, B38400},     {57600, B57600},     {115200, B115200},
    {230400, B230400},   {460800, B460800},   {921600, B921600},   {1000000, B1000000}, {1500000, B1500000},
    {2000000, B2000000}, {3000000, B3000000}, {4000000, B4000000},
};

static __attribute__((noreturn)) void fail(const char *what, const char *which) {
    (void)fprintf(stderr, "%s %s: %s\n", what, which, strerror(errno));
    exit(EXIT_UNUSABLE);
}

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
static line_t wait_serial(const char *path, uint32_t baud) {
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
            fail("cannot use the serial device", path);
        }
        if (device >= 0) {
            (void)close(device);
        }
        (void)usleep(REOPEN_US);
    }
}

static struct sockaddr_in address_of(const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_ANY)}};
    char host[INET_ADDRSTRLEN] = "";
    char *end;
    const char *colon = strrchr(text, ':');
    const char *port = colon == NULL ? text : colon + 1;
    const size_t host_bytes = colon == NULL ? 0u : (size_t)(colon - text);
    const unsigned long number = strtoul(port, &end, 10);
    bool good = end != port && *end == '\0' && number <= 65535u && host_bytes < sizeof host;
    if (good && colon != NULL) {
        (void)memcpy(host, text, host_bytes);
        good = inet_pton(AF_INET, host, &address.sin_addr) == 1;
    }
    if (!good) {
        (void)fprintf(stderr, "--listen takes PORT or IPV4-ADDRESS:PORT, not %s\n", text);
        exit(EXIT_USAGE);
    }
    address.sin_port = htons((uint16_t)number);
    return address;
}

/* Port 0 takes a free one, and keeps it; the URL is printed once. */
static int open_listener(const char *text) {
    static struct sockaddr_in address;
    static bool known;
    const int on = 1;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!known) {
        address = address_of(text);
    }
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0) {
        fail("cannot listen on", text);
    }
    if (!known) {
        char host[INET_ADDRSTRLEN];
        socklen_t length = sizeof address;
        (void)getsockname(listener, (struct sockaddr *)&address, &length);
        (void)inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
        (void)printf("socket://%s:%u\n", host, (unsigned)ntohs(address.sin_port));
        (void)fflush(stdout);
        known = true;
    }
    return listener;
}

static line_t wait_connection(const char *text) {
    const int on = 1;
    const int seconds = DEAD_AFTER_S;
    const int listener = open_listener(text);
    int host;
    do {
        host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    } while (host < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (host < 0) {
        fail("nobody can connect to", text);
    }
    (void)close(listener);
    (void)setsockopt(host, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(host, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(host, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    (void)setsockopt(host, IPPROTO_TCP, TCP_KEEPINTVL, &(int){1}, sizeof(int));
    (void)setsockopt(host, IPPROTO_TCP, TCP_KEEPCNT, &seconds, sizeof seconds);
    const line_t line = {host, host};
    return line;
}

line_t line_wait(const line_options_t *options) {
    if (options->serial != NULL) {
        return wait_serial(options->serial, options->baud);
    }
    if (options->listen != NULL) {
        return wait_connection(options->listen);
    }
    const line_t line = {STDIN_FILENO, STDOUT_FILENO};
    return line;
}

void line_close(line_t line) { (void)close(line.in); }

static struct {
    uint8_t in[BUFFER_BYTES];
    size_t taken;
    size_t count;
    uint8_t out[BUFFER_BYTES];
    size_t written;
} buffers;

uint8_t line_read(line_t line) {
    if (buffers.taken == buffers.count) {
        ssize_t got;
        line_flush(line);
        do {
            got = read(line.in, buffers.in, sizeof buffers.in);
        } while (got < 0 && errno == EINTR);
        if (got <= 0) {
            _exit(EXIT_CLOSED);
        }
        buffers.taken = 0;
        buffers.count = (size_t)got;
    }
    return buffers.in[buffers.taken++];
}

void line_flush(line_t line) {
    size_t sent = 0;
    while (sent < buffers.written) {
        const ssize_t count = write(line.out, buffers.out + sent, buffers.written - sent);
        if (count < 0 && errno != EINTR) {
            _exit(EXIT_CLOSED);
        }
        sent += count > 0 ? (size_t)count : 0u;
    }
    buffers.written = 0;
}

void line_write(line_t line, uint8_t byte) {
    if (buffers.written == sizeof buffers.out) {
        line_flush(line);
    }
    buffers.out[buffers.written++] = byte;
}
