/* The watchdog over an image's first start: nothing feeds it, so the processor is reset unless the image is confirmed
 * in time, which resets it as well. A driver lies beside the flash's in flash/. */
#ifndef PP_WATCHDOG_H
#define PP_WATCHDOG_H

/* Start it with the longest time it has. A reset of the processor stops it. */
void pp_watchdog_start(void);

#endif
