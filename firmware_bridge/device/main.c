/* The firmware: serve the line for ever, asleep between bytes.
 *
 * Interrupts stay masked outside requests. The UART's receive interrupt is enabled, so a byte wakes the processor from
 * WFI, but its handler never runs: the line is polled. One image so serves boards, emulators with interrupts, and
 * emulators without. */
#include "pp_build.h"
#include "pp_counter.h"
#include "pp_platform.h"
#include "pp_port.h"
#include "pp_registers.h"
#include "pp_serve.h"

static uint8_t next_byte(void) {
    while (!pp_port_readable()) {
        pp_port_acknowledge(); /* first clear, then look, then sleep: no byte is missed in between */
        PP_NVIC_ICPR(PP_UART_IRQ) = PP_NVIC_BIT(PP_UART_IRQ);
        PP_ICSR = PP_ICSR_PENDSTCLR; /* a wrap that came just as its exception went off would wake for ever */
        if (pp_port_readable()) {
            break;
        }
        __asm volatile("dsb\n wfi" ::: "memory");
    }
    return pp_port_read();
}

int main(void) {
    pp_port_init();
    PP_NVIC_ISER(PP_UART_IRQ) = PP_NVIC_BIT(PP_UART_IRQ);
    pp_counter_init();
    pp_serve_start(pp_platform_cause());
    for (;;) {
        pp_serve_byte(next_byte());
    }
}
