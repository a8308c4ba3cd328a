/* The firmware's side of an update: asks the bootloader, over a reset, to stay for an update, or to confirm this image.
 * Built into the images of policyport sign; any other firmware answers these requests with status 1. */
#include "pp_agent_build.h"
#include "pp_boot_verbs.h"
#include "pp_bridge.h"
#include "pp_mailbox.h"

pp_status_t pp_boot_verb(uint8_t type) {
    if (type != PP_BOOT_ENTER && type != PP_BOOT_CONFIRM) {
        return PP_UNKNOWN_TYPE;
    }
    pp_mailbox_put((volatile pp_mailbox_t *)(uintptr_t)PP_MAILBOX,
                   type == PP_BOOT_ENTER ? PP_COMMAND_ENTER : PP_COMMAND_CONFIRM, PP_SLOT);
    return PP_OK;
}
