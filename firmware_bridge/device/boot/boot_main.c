/* The bootloader on a Cortex-M: starts the image that pp_boot_choose names, or serves the update verbs.
 * Start-up, frames, memory functions and the UART's port are those of the firmware. */
#include "pp_boot.h"
#include "pp_boot_build.h"
#include "pp_bridge.h"
#include "pp_build.h"
#include "pp_flash.h"
#include "pp_frame.h"
#include "pp_mem.h"
#include "pp_platform.h"
#include "pp_port.h"
#include "pp_registers.h"
#include "pp_watchdog.h"

static pp_receiver_t receiver;
static uint8_t last_reply[PP_BODY_MAX]; /* for when the host asks again: nothing is carried out twice */
static size_t last_reply_bytes;
static uint32_t last_request_crc;

static volatile pp_mailbox_t *mailbox(void) { return (volatile pp_mailbox_t *)(uintptr_t)PP_MAILBOX; }

__attribute__((noreturn)) static void restart(pp_command_t command, uint32_t slot) {
    pp_port_flush();
    pp_mailbox_put(mailbox(), command, slot);
    __asm volatile("dsb" ::: "memory");
    PP_AIRCR = PP_AIRCR_SYSRESETREQ;
    for (;;) {
    }
}

/* Hand over as a reset does: stack pointer and address from the image's vectors. Its start-up sets all the rest. */
__attribute__((noreturn)) static void start(uint32_t slot) {
    const uint8_t *vectors = pp_flash_at(pp_slot_base(slot) + PP_IMAGE_ROOM);
    const uint32_t stack = pp_get32(vectors);
    const uint32_t address = pp_get32(vectors + 4);
    PP_MPU_CTRL = 0u; /* the guard of this stack is RAM of the image */
    __asm volatile("dsb\n isb\n msr msp, %0\n bx %1" ::"r"(stack), "r"(address) : "memory");
    for (;;) {
    }
}

static void write_byte(uint8_t byte) { pp_port_write(byte); }

static void answer(void) {
    const uint8_t *body = receiver.buffer;
    const uint8_t type = body[PP_AT_TYPE];
    const size_t payload_bytes = receiver.payload_bytes;
    const uint32_t crc = pp_get32(body + PP_HEADER_BYTES + payload_bytes);
    if (last_reply_bytes == 0u || crc != last_request_crc) {
        size_t reply_bytes = 0u;
        last_reply_bytes = 0u;
        const uint8_t status = pp_boot_request(type, body + PP_HEADER_BYTES, payload_bytes,
                                               last_reply + PP_HEADER_BYTES, &reply_bytes);
        last_reply_bytes = pp_frame_finish(last_reply, (uint8_t)(type | PP_REPLY), body[PP_AT_SEQUENCE], status,
                                           status == PP_OK ? reply_bytes : 0u);
        last_request_crc = crc;
    }
    pp_frame_write(last_reply, last_reply_bytes, write_byte);
    if (type == PP_BOOT_START) {
        const uint32_t slot = pp_boot_to_try();
        restart(slot == PP_SLOT_NONE ? PP_COMMAND_NONE : PP_COMMAND_TRY, slot);
    }
}

static void refuse(pp_frame_result_t why) {
    uint8_t body[PP_HEADER_BYTES + PP_CRC_BYTES];
    pp_frame_write(body, pp_frame_finish(body, PP_NAK, 0u, (uint8_t)why, 0u), write_byte);
}

static uint8_t next_byte(void) {
    while (!pp_port_readable()) {
        pp_port_acknowledge(); /* first clear, then look, then sleep: no byte is missed in between */
        PP_NVIC_ICPR(PP_UART_IRQ) = PP_NVIC_BIT(PP_UART_IRQ);
        if (pp_port_readable()) {
            break;
        }
        __asm volatile("dsb\n wfi" ::: "memory");
    }
    return pp_port_read();
}

/* A fault of the bootloader itself: start over. */
void pp_fault_report(const uint32_t *frame, uint32_t exception) {
    (void)frame;
    (void)exception;
    restart(PP_COMMAND_NONE, PP_SLOT_NONE);
}

void pp_systick_handler(void) {}

int main(void) {
    const bool asked = pp_mailbox_holds(mailbox()) != 0;
    const pp_command_t command = asked ? (pp_command_t)mailbox()->command : PP_COMMAND_NONE;
    const uint32_t slot = mailbox()->slot;
    pp_mailbox_put(mailbox(), PP_COMMAND_NONE, PP_SLOT_NONE); /* asked once, done once */
    const pp_boot_choice_t choice = pp_boot_choose(command, slot);
    if (choice.trial) {
        pp_watchdog_start();
    }
    if (choice.slot != PP_SLOT_NONE) {
        start(choice.slot);
    }
    pp_port_init();
    PP_NVIC_ISER(PP_UART_IRQ) = PP_NVIC_BIT(PP_UART_IRQ);
    for (;;) {
        const pp_frame_result_t result = pp_receive(&receiver, next_byte());
        if (result == PP_FRAME_READY) {
            answer();
        } else if (result != PP_FRAME_NONE) {
            refuse(result);
        }
    }
}
