/* What start-up, exception vectors and main share. */
#ifndef PP_PLATFORM_H
#define PP_PLATFORM_H

#include <stdint.h>

#include "pp_bridge.h"

/* Written over the whole stack before C runs; what is still there later was never used. */
#define PP_STACK_PAINT 0xC5C5C5C5u

/* Why the processor started; asked once. */
pp_reset_cause_t pp_platform_cause(void);

/* Entered from the fault vector on a fresh stack: reports over the bridge and restarts.
 * frame: the stack pointer at the fault; exception: its number (3 HardFault, 4 MemManage, 5 BusFault, 6 UsageFault). */
void pp_fault_report(const uint32_t *frame, uint32_t exception);

void pp_systick_handler(void);

int main(void);

#endif
