/* What main, line, counter and platform share on a board that runs Linux.
 *
 * One process waits for hosts, and forks another for each that answers it. What ends that one, a request, a fault or the
 * watchdog, is then why the next one starts: on a microcontroller it would be a reset. */
#ifndef LINUX_PLATFORM_H
#define LINUX_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>

#include "linux_line.h"
#include "pp_bridge.h"

enum {
    EXIT_USAGE = 2,
    EXIT_UNUSABLE = 3, /* no such device, port or counter: trying again is of no use */
    EXIT_CLOSED = 10,  /* the host has gone */
    EXIT_RESET = 11    /* plus a pp_reset_cause_t: start again */
};

#define COUNT_CLOCK "clock"

/* Answer a host, in a process made for it; does not return.
 * count_file: holds what the emulator counts, see counter_open */
__attribute__((noreturn)) void platform_serve(line_t line, pp_reset_cause_t cause, const char *count_file);

/* Choose the counter: the processor's cycles in user mode, where the kernel lets this process count them, else the clock,
 * in ns.
 * count_file: NULL for that choice; COUNT_CLOCK for the clock in any case; else a file in which an emulator counts
 * instructions, 64 bits at its begin. Returns whether it can be read. */
bool counter_open(const char *count_file);

#endif
