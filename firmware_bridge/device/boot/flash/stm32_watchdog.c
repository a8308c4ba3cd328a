/* Independent watchdog of the STM32F4 and F7, the same in both: reference manuals RM0090, section 21, and RM0385. Its own
 * oscillator runs at 32 kHz, from 17 to 47 (data sheets of the STM32F405 and F746): the time is about 33 s, from 22 to 62. */
#include "pp_registers.h"
#include "pp_watchdog.h"

#define KR PP_REGISTER(0x40003000u)
#define PR PP_REGISTER(0x40003004u)
#define RLR PP_REGISTER(0x40003008u)
#define SR PP_REGISTER(0x4000300Cu)

#define KEY_WRITE 0x5555u
#define KEY_RELOAD 0xAAAAu
#define KEY_START 0xCCCCu
#define DIVIDE_BY_256 6u
#define LONGEST 0xFFFu

void pp_watchdog_start(void) {
    KR = KEY_START; /* starts the oscillator as well, without which the registers do not change */
    KR = KEY_WRITE;
    PR = DIVIDE_BY_256;
    RLR = LONGEST;
    while (SR != 0u) {
    }
    KR = KEY_RELOAD;
}
