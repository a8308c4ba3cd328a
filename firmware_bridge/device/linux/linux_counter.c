/* Counters of a board that runs Linux: an emulator's instructions, the kernel's cycles (perf_event_open(2)), the clock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "linux_platform.h"
#include "pp_counter.h"

#define EMPTY_MEASUREMENTS 64

static pp_counter_kind_t kind;
static const volatile uint64_t *emulated;
static int cycles = -1;
static uint32_t overhead;

/* Of this thread, in user mode: neither the kernel nor another process is in it. */
static int open_cycles(void) {
    struct perf_event_attr wanted = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof wanted,
        .config = PERF_COUNT_HW_CPU_CYCLES,
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .pinned = 1,
    };
    return (int)syscall(SYS_perf_event_open, &wanted, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

bool counter_open(const char *count_file) {
    kind = PP_COUNTER_CLOCK;
    if (count_file != NULL && strcmp(count_file, COUNT_CLOCK) == 0) {
        return true;
    }
    if (count_file == NULL) {
        uint64_t now;
        cycles = open_cycles();
        kind = cycles >= 0 && read(cycles, &now, sizeof now) == sizeof now ? PP_COUNTER_PERF : PP_COUNTER_CLOCK;
        return true;
    }
    const int file = open(count_file, O_RDONLY | O_CLOEXEC);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *emulated, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        return false;
    }
    (void)close(file);
    emulated = mapped;
    kind = PP_COUNTER_EMULATOR;
    return true;
}

__attribute__((noinline)) uint32_t pp_counter_now(void) {
    if (kind == PP_COUNTER_EMULATOR) {
        return (uint32_t)*emulated;
    }
    if (kind == PP_COUNTER_PERF) {
        uint64_t count = 0;
        return read(cycles, &count, sizeof count) == sizeof count ? (uint32_t)count : 0u;
    }
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
}

__attribute__((noinline)) uint32_t pp_counter_begin(void) { return pp_counter_now(); }

pp_counter_kind_t pp_counter_kind(void) { return kind; }

uint32_t pp_counter_overhead(void) { return overhead; }

/* The shortest of some empty measurements: an interrupt can only make one longer. */
void pp_counter_init(void) {
    overhead = UINT32_MAX;
    for (int i = 0; i < EMPTY_MEASUREMENTS; i++) {
        const uint32_t begin = pp_counter_begin();
        const uint32_t ticks = pp_counter_now() - begin;
        overhead = ticks < overhead ? ticks : overhead;
    }
}
