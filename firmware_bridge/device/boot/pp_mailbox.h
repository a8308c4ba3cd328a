/* What the firmware and the bootloader tell each other over a reset: 16 bytes of RAM that neither's start-up touches, at
 * PP_MAILBOX of the build's header. Power takes them away, and with them whatever was asked. */
#ifndef PP_MAILBOX_H
#define PP_MAILBOX_H

#include <stdint.h>

typedef enum {
    PP_COMMAND_NONE = 0,
    PP_COMMAND_ENTER = 1,   /* stay in the bootloader */
    PP_COMMAND_TRY = 2,     /* start the image in this slot, once */
    PP_COMMAND_CONFIRM = 3  /* the image in this slot has started and is good */
} pp_command_t;

typedef struct {
    uint32_t command; /* a pp_command_t */
    uint32_t slot;    /* of TRY: to start; else of the image that runs */
    uint32_t spare;
    uint32_t check;
} pp_mailbox_t;

#define PP_MAILBOX_MAGIC 0x50504D42u

static inline uint32_t pp_mailbox_check(uint32_t command, uint32_t slot) {
    return PP_MAILBOX_MAGIC ^ (command * 0x9E3779B1u) ^ (slot * 0x85EBCA77u);
}

static inline void pp_mailbox_put(volatile pp_mailbox_t *box, pp_command_t command, uint32_t slot) {
    box->command = (uint32_t)command;
    box->slot = slot;
    box->check = pp_mailbox_check((uint32_t)command, slot);
}

/* Whether it holds what pp_mailbox_put wrote, not what RAM holds after power came. */
static inline int pp_mailbox_holds(const volatile pp_mailbox_t *box) {
    return box->check == pp_mailbox_check(box->command, box->slot);
}

#endif
