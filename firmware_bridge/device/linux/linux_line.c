#define _GNU_SOURCE
#include "linux_line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "linux_platform.h"

#define BUFFER_BYTES 4096u

void line_fail(const char *what, const char *which) {
    (void)fprintf(stderr, "%s %s: %s\n", what, which, strerror(errno));
    exit(EXIT_UNUSABLE);
}

line_t line_wait(const line_options_t *options) {
    if (options->serial != NULL) {
        return line_open_serial(options->serial, options->baud);
    }
    if (options->listen != NULL) {
        return line_accept(options->listen);
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
