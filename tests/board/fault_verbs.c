/* Requests by which tests break a firmware: an undefined instruction, a stack without end, a hang, a read of an address. */
#include <string.h>

#include "pp_bridge.h"

static volatile int sink;

static int deepen(int left) {
    volatile uint8_t room[64];
    room[0] = (uint8_t)left;
    if (left > 0) {
        sink = deepen(left - 1) + room[0];
    }
    return room[0];
}

pp_status_t pp_user_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                            size_t *reply_bytes) {
    uintptr_t nowhere = 16;
    (void)memcpy(&nowhere, payload, payload_bytes == sizeof nowhere ? payload_bytes : 0u);
    switch (type) {
        case 0x40: __asm volatile("udf #0"); break;
        case 0x41: sink = deepen(20000); break;
        case 0x42: for (;;) { sink = 1; }
        case 0x43: sink = *(volatile int *)nowhere; break;
        default: return PP_UNKNOWN_TYPE;
    }
    reply[0] = 1u;
    *reply_bytes = 1u;
    return PP_OK;
}
