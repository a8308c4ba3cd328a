/* The processor's own counter: DWT CYCCNT where it counts, else SysTick. Ticks are processor clock cycles.
 *
 *     const uint32_t begin = pp_counter_begin();
 *     work();
 *     const uint32_t ticks = pp_counter_now() - begin;      less pp_counter_overhead()
 *
 * Both readings go through the same function in the same basic block, so that an emulator that counts by blocks
 * gives the same difference as one that counts by instructions. */
#ifndef PP_COUNTER_H
#define PP_COUNTER_H

#include <stdint.h>

/* SysTick exceptions of which the mean length is taken, in rounds of fewer than the watchdog's wraps. What two readings
 * miss of a tick is spread over all of them, so that even the most wraps that the watchdog allows miss less than one. */
#define PP_COUNTER_PROBES 16u
#define PP_COUNTER_ROUNDS 16u

typedef enum {
    PP_COUNTER_DWT = 1,
    PP_COUNTER_SYSTICK = 2,
    PP_COUNTER_EMULATOR = 3, /* from here on under Linux: instructions, as an emulator counts them */
    PP_COUNTER_PERF = 4,     /* processor cycles in user mode, as the kernel counts them */
    PP_COUNTER_CLOCK = 5     /* nanoseconds */
} pp_counter_kind_t;

/* Find out which counter there is, start it, measure its overhead and the length of SysTick's exception. */
void pp_counter_init(void);

pp_counter_kind_t pp_counter_kind(void);

/* Ticks that an empty measurement yields. */
uint32_t pp_counter_overhead(void);

/* Begin a measurement: SysTick starts from its top, so that it wraps as seldom as it can. */
uint32_t pp_counter_begin(void);

/* The count now, 32 bits; differences of up to 2^32 - 1 ticks are right. It stands still while SysTick's exception
 * runs, which counts wraps and so would be in every measurement longer than 2^24 ticks. */
uint32_t pp_counter_now(void);

/* Called at each SysTick exception: one wrap of its 24 bits. */
void pp_counter_wrapped(void);

#endif
