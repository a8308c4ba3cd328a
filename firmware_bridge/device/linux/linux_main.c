/* The program of a board that runs Linux: serves the bridge to one host after the other.
 *
 *     firmware.elf --listen 3333                  TCP; the host opens socket://BOARD:3333
 *     firmware.elf --serial /dev/ttyGS0           a USB gadget's serial device, or a UART with --baud
 *     firmware.elf                                standard input and output
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "linux_platform.h"
#include "pp_build.h"

typedef struct {
    line_options_t line;
    const char *count_file;
} options_t;

static __attribute__((noreturn)) void usage(const char *program, const char *what) {
    (void)fprintf(stderr,
                  "%s%susage: %s [--listen [ADDRESS:]PORT | --serial DEVICE [--baud N]] [--count FILE|clock]\n"
                  "Serves the policy built for %s over policyport's bridge: TCP, a serial device, or standard input and\n"
                  "output. An inference is counted in cycles where that is allowed, else in nanoseconds: --count clock has it so\n"
                  "in any case, --count FILE counts what an emulator writes there.\n",
                  what, *what == '\0' ? "" : "\n", program, PP_BOARD_NAME);
    exit(*what == '\0' ? EXIT_SUCCESS : EXIT_USAGE);
}

static options_t parse(int count, char **arguments) {
    options_t options = {.line = {.baud = PP_BAUD}};
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i];
        if (strcmp(name, "--help") == 0) {
            usage(arguments[0], "");
        }
        if (i + 1 == count) {
            usage(arguments[0], "an option without its value, or an unknown one");
        }
        const char *value = arguments[++i];
        if (strcmp(name, "--listen") == 0) {
            options.line.listen = value;
        } else if (strcmp(name, "--serial") == 0) {
            options.line.serial = value;
        } else if (strcmp(name, "--baud") == 0) {
            options.line.baud = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(name, "--count") == 0) {
            options.count_file = value;
        } else {
            usage(arguments[0], "unknown option");
        }
    }
    if (options.line.listen != NULL && options.line.serial != NULL) {
        usage(arguments[0], "either --listen or --serial");
    }
    return options;
}

static pp_reset_cause_t cause_of(int status) {
    if (WIFEXITED(status) && WEXITSTATUS(status) >= EXIT_RESET) {
        return (pp_reset_cause_t)(WEXITSTATUS(status) - EXIT_RESET);
    }
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? PP_RESET_WATCHDOG : PP_RESET_FAULT;
}

/* Answer a host until it has gone, each time with a process as it was at the start. */
static void serve(line_t line, const char *count_file) {
    pp_reset_cause_t cause = PP_RESET_POWER;
    for (;;) {
        int status = 0;
        const pid_t child = fork();
        if (child == 0) {
            platform_serve(line, cause, count_file);
        }
        if (child < 0 || waitpid(child, &status, 0) != child) {
            perror("cannot start the process that answers");
            exit(EXIT_UNUSABLE);
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CLOSED) {
            return;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) < EXIT_CLOSED) {
            exit(WEXITSTATUS(status));
        }
        cause = cause_of(status);
    }
}

int main(int count, char **arguments) {
    const options_t options = parse(count, arguments);
    (void)signal(SIGPIPE, SIG_IGN); /* a host that has gone is noticed where it is written to */
    for (;;) {
        const line_t line = line_wait(&options.line);
        serve(line, options.count_file);
        if (options.line.listen == NULL && options.line.serial == NULL) {
            return EXIT_SUCCESS;
        }
        line_close(line);
    }
}
