/* The bootloader's decisions and its update verbs, on top of pp_flash.h; no registers, so it also runs on a host.
 *
 *     pp_boot_choice_t choice = pp_boot_choose(command, slot);
 *     if (choice.slot != PP_SLOT_NONE) start(choice.slot, choice.trial);
 *     else serve: pp_boot_request(...)
 */
#ifndef PP_BOOT_H
#define PP_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pp_boot_verbs.h"
#include "pp_image.h"
#include "pp_mailbox.h"

typedef struct {
    uint32_t slot; /* to start, or PP_SLOT_NONE: stay in the bootloader */
    bool trial;    /* it is started for the first time: watch it */
} pp_boot_choice_t;

/* Decide what to start. Forgets any update that was under way; what of it is in flash stays.
 * command, slot: from the mailbox, PP_COMMAND_NONE after power came. */
pp_boot_choice_t pp_boot_choose(pp_command_t command, uint32_t slot);

/* Carry out a request; returns its status. reply: room for PP_PAYLOAD_MAX bytes. */
uint8_t pp_boot_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                        size_t *reply_bytes);

/* The slot whose image is whole and may be tried after PP_BOOT_START, or PP_SLOT_NONE. */
uint32_t pp_boot_to_try(void);

#endif
