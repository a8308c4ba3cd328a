/* Update verbs of the bridge, and the statuses of their replies. */
#ifndef PP_BOOT_VERBS_H
#define PP_BOOT_VERBS_H

/* Requests, as docs/bridge-protocol.md numbers them. The firmware knows the first two as well. */
#define PP_BOOT_ENTER 0x10u
#define PP_BOOT_CONFIRM 0x11u
#define PP_BOOT_STATUS 0x12u
#define PP_BOOT_BEGIN 0x13u
#define PP_BOOT_WRITE 0x14u
#define PP_BOOT_FINISH 0x15u
#define PP_BOOT_START 0x16u

/* Statuses of replies beside those of pp_bridge.h (0 to 3) and of pp_image_result_t. */
#define PP_BOOT_DOWNGRADE 20u    /* not newer than the confirmed image */
#define PP_BOOT_RETIRED_KEY 21u  /* signed by a key that comes before the confirmed image's */
#define PP_BOOT_ACTIVE_SLOT 22u  /* linked for the slot that is in use, or for none */
#define PP_BOOT_FLASH_FAILED 23u /* the flash did not take what was written */
#define PP_BOOT_BAD_OFFSET 24u   /* not where the last write ended */
#define PP_BOOT_NOT_BEGUN 26u    /* no image has been begun, or not all of it has come */

#endif
