/* A process on Linux as the bridge's platform: faults, watchdog, stack figures, restart. */
#define _GNU_SOURCE
#include "linux_platform.h"

#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <ucontext.h>
#include <unistd.h>

#include "pp_build.h"
#include "pp_counter.h"
#include "pp_frame.h"

/* A request that runs longer than this is taken for a hang: its process is ended. */
#ifndef PP_WATCHDOG_S
#define PP_WATCHDOG_S 60u
#endif

#define PAINT 0xC5C5C5C5u
#define GUARD_BYTES 65536u /* a multiple of every page size that Linux has on ARM */
#define SIGNAL_STACK_BYTES 65536u
#define SIGNAL 0x1000u            /* before a signal's number, where a Cortex-M has its exception's */
#define STACK_OVERFLOW (1u << 20) /* as a Cortex-M says it: CFSR.STKOF */

_Static_assert(PP_STACK_BYTES % sizeof(uint32_t) == 0u && PP_STACK_BYTES >= 131072u, "glibc wants so much of a thread");

/* Where everything runs that answers the host. What lies below it may not be touched. */
static struct {
    uint8_t guard[GUARD_BYTES];
    uint32_t words[PP_STACK_BYTES / sizeof(uint32_t)];
} pp_stack __attribute__((aligned(GUARD_BYTES), used));

static uint8_t signal_stack[SIGNAL_STACK_BYTES];
static uintptr_t stack_top; /* where the thread began: what libc keeps above is not ours */
static line_t host;
static pp_reset_cause_t reset_cause;

/* The linker puts it where the ELF header is loaded. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static uint32_t writable_bytes(void) {
    const ElfW(Phdr) *segment = (const ElfW(Phdr) *)((uintptr_t)&__ehdr_start + __ehdr_start.e_phoff);
    size_t bytes = 0;
    for (unsigned i = 0; i < __ehdr_start.e_phnum; i++) {
        if (segment[i].p_type == PT_LOAD && (segment[i].p_flags & PF_W) != 0u) {
            bytes += segment[i].p_memsz;
        }
    }
    return (uint32_t)bytes;
}

pp_memory_t pp_platform_memory(void) {
    const uint32_t *lowest = pp_stack.words;
    while ((uintptr_t)lowest < stack_top && *lowest == PAINT) {
        lowest++;
    }
    const pp_memory_t memory = {
        .stack_bytes = PP_STACK_BYTES,
        .stack_used_bytes = (uint32_t)(stack_top - (uintptr_t)lowest),
        .static_bytes = writable_bytes() - (uint32_t)sizeof pp_stack,
    };
    return memory;
}

void pp_platform_write(uint8_t byte) { line_write(host, byte); }

void pp_platform_restart(pp_reset_cause_t cause) {
    line_flush(host);
    _exit(EXIT_RESET + (int)cause);
}

/* SIGALRM is left to end the process: whoever forked it takes that for the watchdog. */
void pp_platform_request(bool running) { (void)alarm(running ? PP_WATCHDOG_S : 0u); }

static void put_registers(uint8_t *payload, const ucontext_t *context) {
#if defined(__aarch64__)
    pp_put32(payload + 4, (uint32_t)context->uc_mcontext.pc);
    pp_put32(payload + 8, (uint32_t)context->uc_mcontext.regs[30]);
    pp_put32(payload + 12, (uint32_t)context->uc_mcontext.pstate);
    pp_put32(payload + 32, (uint32_t)context->uc_mcontext.sp);
#else
    (void)payload;
    (void)context;
#endif
}

static void on_fault(int number, siginfo_t *info, void *context) {
    uint8_t payload[36] = {0};
    const uintptr_t at = (uintptr_t)info->si_addr;
    pp_put32(payload, SIGNAL | (uint32_t)number);
    put_registers(payload, context);
    if (at - (uintptr_t)pp_stack.guard < GUARD_BYTES) {
        pp_put32(payload + 16, STACK_OVERFLOW);
    }
    pp_put32(payload + 28, (uint32_t)at);
    pp_bridge_announce(PP_FAULT, payload, sizeof payload);
    pp_platform_restart(PP_RESET_FAULT);
}

static void report_faults(void) {
    const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    const stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
    action.sa_sigaction = on_fault;
    (void)sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        (void)sigaction(faults[i], &action, NULL);
    }
}

static void *answer(void *count_file) {
    stack_top = (uintptr_t)__builtin_frame_address(0);
    report_faults();
    if (!counter_open(count_file)) {
        (void)fprintf(stderr, "cannot read the counts in %s\n", (const char *)count_file);
        _exit(EXIT_UNUSABLE);
    }
    pp_counter_init();
    pp_bridge_start(reset_cause);
    for (;;) {
        pp_bridge_byte(line_read(host));
    }
}

void platform_serve(line_t line, pp_reset_cause_t cause, const char *count_file) {
    pthread_attr_t attributes;
    pthread_t thread;
    host = line;
    reset_cause = cause;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* nobody is left behind */
    for (size_t i = 0; i < PP_STACK_BYTES / sizeof(uint32_t); i++) {
        pp_stack.words[i] = PAINT;
    }
    if (mprotect(pp_stack.guard, GUARD_BYTES, PROT_NONE) != 0 || pthread_attr_init(&attributes) != 0 ||
        pthread_attr_setstack(&attributes, pp_stack.words, PP_STACK_BYTES) != 0 ||
        pthread_create(&thread, &attributes, answer, (void *)(uintptr_t)count_file) != 0) {
        (void)fprintf(stderr, "cannot start the thread that answers\n");
        _exit(EXIT_UNUSABLE);
    }
    (void)pthread_join(thread, NULL);
    _exit(EXIT_UNUSABLE); /* it never ends by itself */
}
