/* The bridge's device side: takes frames, runs the policy, answers. docs/bridge-protocol.md has every byte.
 *
 *     pp_bridge_start(PP_RESET_POWER);
 *     for (;;) pp_bridge_byte(next_byte());
 */
#ifndef PP_BRIDGE_H
#define PP_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Types of requests; a reply's type has PP_REPLY set. */
#define PP_HELLO 0x01u
#define PP_ECHO 0x02u
#define PP_INFER 0x03u
#define PP_RUN_MANY 0x04u
#define PP_TRACE 0x05u
#define PP_MEMORY 0x06u
#define PP_RESET 0x07u
#define PP_CODEC_BEGIN 0x08u /* these three where the network is an image encoder: pp_codec_bridge.c */
#define PP_CODEC_ROWS 0x09u
#define PP_CODEC_MORE 0x0Au
#define PP_BOOT_FIRST 0x10u /* 0x10 to 0x1F are the bootloader's: docs/update.md */
#define PP_BOOT_LAST 0x1Fu
#define PP_USER_FIRST 0x40u /* 0x40 to 0x6F are the user's own: pp_user_request */
#define PP_USER_LAST 0x6Fu
#define PP_REPLY 0x80u
#define PP_BOOT 0xF0u  /* unsolicited: the firmware has started */
#define PP_FAULT 0xF1u /* unsolicited: the processor has faulted */
#define PP_NAK 0xFFu   /* unsolicited: a frame could not be read; its status is a pp_frame_result_t */

typedef enum {
    PP_OK = 0,
    PP_UNKNOWN_TYPE = 1,
    PP_BAD_LENGTH = 2,  /* the payload is not as long as the request needs */
    PP_BAD_ARGUMENT = 3 /* a layer or an element that does not exist */
} pp_status_t;

/* Why the firmware started. */
typedef enum {
    PP_RESET_POWER = 0,    /* power, reset pin, debugger */
    PP_RESET_REQUEST = 1,  /* the host asked for it */
    PP_RESET_FAULT = 2,    /* after a fault */
    PP_RESET_WATCHDOG = 3  /* a request ran too long */
} pp_reset_cause_t;

/* Announce the start with a BOOT frame. */
void pp_bridge_start(pp_reset_cause_t cause);

/* Take one byte from the line; where it ends a request, carry that out and answer it. */
void pp_bridge_byte(uint8_t byte);

/* Send a frame nobody asked for. payload_bytes is at most 64. */
void pp_bridge_announce(uint8_t type, const uint8_t *payload, size_t payload_bytes);

/* Requests 0x40 to 0x6F. Define this function in a file of your own to add verbs; the default knows none.
 * payload: payload_bytes of the request; reply: room for PP_PAYLOAD_MAX bytes, *reply_bytes starts at 0. */
pp_status_t pp_user_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                            size_t *reply_bytes);

/* Requests for an image encoder: the default knows none. */
pp_status_t pp_codec_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                             size_t *reply_bytes);

/* Requests 0x10 to 0x1F: the default knows none. Where the status is PP_OK the firmware restarts after its reply. */
pp_status_t pp_boot_verb(uint8_t type);

/* Supplied by the platform (pp_platform.c on a Cortex-M). */
typedef struct {
    uint32_t stack_bytes;      /* reserved */
    uint32_t stack_used_bytes; /* deepest so far: the paint that is gone */
    uint32_t static_bytes;     /* .data, .bss and what keeps its value over a reset */
} pp_memory_t;

pp_memory_t pp_platform_memory(void);
void pp_platform_restart(pp_reset_cause_t cause); /* does not return */
void pp_platform_request(bool running);           /* around each request: interrupts and watchdog on, off */
void pp_platform_write(uint8_t byte);

#endif
