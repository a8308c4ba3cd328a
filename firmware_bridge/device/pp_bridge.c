#include "pp_bridge.h"

#include "policy.h"
#include "pp_build.h"
#include "pp_counter.h"
#include "pp_frame.h"
#include "pp_mem.h"

#define INPUT_BYTES (PP_INPUT_SIZE * sizeof(pp_input_t))
#define OUTPUT_BYTES (PP_OUTPUT_SIZE * sizeof(pp_output_t))
#define TICK_BYTES 4u
#define COUNT_BYTES 2u
#define TRACE_BYTES 8u /* before the input in a TRACE request, before the values in its reply */
#define LAYER_BYTES 4u
#define HELLO_BYTES 80u
#define ANNOUNCE_MAX 64u

_Static_assert(TRACE_BYTES + INPUT_BYTES <= PP_PAYLOAD_MAX, "the input does not fit in a frame: raise PP_PAYLOAD_MAX");
_Static_assert(COUNT_BYTES + TICK_BYTES + OUTPUT_BYTES <= PP_PAYLOAD_MAX,
               "the output does not fit in a frame: raise PP_PAYLOAD_MAX");
_Static_assert(HELLO_BYTES + LAYER_BYTES * PP_LAYER_COUNT + 64u <= PP_PAYLOAD_MAX, "too many layers for a HELLO");

typedef struct {
    const uint8_t *bytes;
    size_t count;
} request_t;

typedef struct {
    uint8_t *bytes; /* room for PP_PAYLOAD_MAX */
    size_t count;
} reply_t;

typedef pp_status_t (*handler_t)(request_t request, reply_t *reply);

static pp_receiver_t receiver;
static uint8_t last_reply[PP_BODY_MAX]; /* the answer to the last request, for when the host asks again */
static size_t last_reply_bytes;
static uint32_t last_request_crc;
static pp_reset_cause_t reset_cause;
/* Aligned, so that they are copied by words. */
static pp_input_t input[PP_INPUT_SIZE] __attribute__((aligned(4)));
static pp_output_t output[PP_OUTPUT_SIZE] __attribute__((aligned(4)));

static struct {
    uint32_t layers; /* how many have run on the input that is held, one after the other; 0: start from it anew */
    uint32_t ticks;  /* of the last */
} traced;

/* Values travel little-endian, as this processor keeps them. */
static void take_input(const uint8_t *from) {
    (void)memcpy(input, from, INPUT_BYTES);
    traced.layers = 0;
}

static bool holds_input(const uint8_t *values) {
    const uint8_t *held = (const uint8_t *)input;
    size_t same = 0;
    while (same < INPUT_BYTES && values[same] == held[same]) {
        same++;
    }
    return same == INPUT_BYTES;
}

static uint32_t measured_inference(void) {
    const uint32_t begin = pp_counter_begin();
    pp_infer(input, output);
    return pp_counter_now() - begin;
}

static uint32_t measured_layer(uint32_t layer) {
    const uint32_t begin = pp_counter_begin();
    pp_run_layer(layer);
    return pp_counter_now() - begin;
}

/* Run the layers up to one of them, and measure it; the host asks for one after the other, so those before have run. */
static void run_up_to(uint32_t layer, const uint8_t *values) {
    if (traced.layers == 0u || traced.layers > layer + 1u || !holds_input(values)) {
        take_input(values);
        pp_load(input);
    }
    while (traced.layers < layer) {
        pp_run_layer(traced.layers++);
    }
    if (traced.layers == layer) {
        traced.ticks = measured_layer(layer);
        traced.layers++;
    }
}

static void append(reply_t *reply, const void *bytes, size_t count) {
    (void)memcpy(reply->bytes + reply->count, bytes, count);
    reply->count += count;
}

#define LE16(value) (uint8_t)((value) & 0xFFu), (uint8_t)((value) >> 8 & 0xFFu)
#define LE32(value) LE16((value) & 0xFFFFu), LE16((uint32_t)(value) >> 16)
#define TEXT_BYTES(text) ((sizeof(text) - 1u) < 32u ? sizeof(text) - 1u : 32u)

static pp_status_t hello(request_t request, reply_t *reply) {
    static const uint8_t build_id[16] = PP_BUILD_ID;
    /* What the build knows; the rest is filled in. */
    static const uint8_t known[HELLO_BYTES] = {
        [0] = LE16(PP_PROTOCOL_VERSION),
        [2] = LE16(PP_PAYLOAD_MAX),
        [4] = LE32(PP_CLOCK_HZ),
        [14] = PP_INPUT_BITS,
        [15] = PP_OUTPUT_BITS,
        [16] = LE32(PP_INPUT_SIZE),
        [20] = LE32(PP_OUTPUT_SIZE),
        [72] = LE16(PP_LAYER_COUNT),
        [74] = TEXT_BYTES(PP_BOARD_NAME),
        [75] = TEXT_BYTES(PP_COMPILER),
    };
    uint8_t *at = reply->bytes;
    (void)request;
    append(reply, known, HELLO_BYTES);
    pp_put32(at + 8, pp_counter_overhead());
    at[12] = (uint8_t)pp_counter_kind();
    at[13] = (uint8_t)reset_cause;
    (void)memcpy(at + 24, build_id, 16);
    (void)memcpy(at + 40, pp_model_sha256, 32);
    append(reply, PP_BOARD_NAME, TEXT_BYTES(PP_BOARD_NAME));
    append(reply, PP_COMPILER, TEXT_BYTES(PP_COMPILER));
    for (uint32_t layer = 0; layer < PP_LAYER_COUNT; layer++) {
        const uint32_t size = pp_layers[layer].size;
        const uint8_t row[LAYER_BYTES] = {LE16(size), (uint8_t)pp_layers[layer].bits, (uint8_t)(size >> 16)};
        append(reply, row, LAYER_BYTES);
    }
    return PP_OK;
}

static pp_status_t echo(request_t request, reply_t *reply) {
    append(reply, request.bytes, request.count);
    return PP_OK;
}

/* Take an input, infer, append ticks and output. */
static void append_inference(reply_t *reply, const uint8_t *from) {
    uint8_t ticks[TICK_BYTES];
    take_input(from);
    pp_put32(ticks, measured_inference());
    append(reply, ticks, TICK_BYTES);
    append(reply, output, OUTPUT_BYTES);
}

static pp_status_t infer(request_t request, reply_t *reply) {
    if (request.count != INPUT_BYTES) {
        return PP_BAD_LENGTH;
    }
    append_inference(reply, request.bytes);
    return PP_OK;
}

static pp_status_t run_many(request_t request, reply_t *reply) {
    if (request.count < COUNT_BYTES) {
        return PP_BAD_LENGTH;
    }
    const uint32_t count = pp_get16(request.bytes);
    if (request.count != COUNT_BYTES + count * INPUT_BYTES ||
        COUNT_BYTES + count * (TICK_BYTES + OUTPUT_BYTES) > PP_PAYLOAD_MAX) {
        return PP_BAD_LENGTH;
    }
    append(reply, request.bytes, COUNT_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        append_inference(reply, request.bytes + COUNT_BYTES + i * INPUT_BYTES);
    }
    return PP_OK;
}

static pp_status_t trace(request_t request, reply_t *reply) {
    if (request.count != TRACE_BYTES + INPUT_BYTES) {
        return PP_BAD_LENGTH;
    }
    const uint32_t layer = pp_get16(request.bytes);
    const uint32_t first = pp_get32(request.bytes + 4);
    if (layer >= PP_LAYER_COUNT || first >= pp_layers[layer].size) {
        return PP_BAD_ARGUMENT;
    }
    run_up_to(layer, request.bytes + TRACE_BYTES);
    pp_put32(reply->bytes, traced.ticks);
    pp_put32(reply->bytes + 4, first);
    reply->count = TRACE_BYTES;
    const size_t width = pp_layers[layer].bits / 8u;
    for (uint32_t i = first; i < pp_layers[layer].size && reply->count + width <= PP_PAYLOAD_MAX; i++) {
        uint8_t value[4];
        pp_put32(value, (uint32_t)pp_layer_value(layer, i));
        append(reply, value, width);
    }
    return PP_OK;
}

static pp_status_t memory(request_t request, reply_t *reply) {
    const pp_memory_t figures = pp_platform_memory();
    (void)request;
    pp_put32(reply->bytes, figures.stack_bytes);
    pp_put32(reply->bytes + 4, figures.stack_used_bytes);
    pp_put32(reply->bytes + 8, figures.static_bytes);
    reply->count = 12u;
    return PP_OK;
}

static pp_status_t restart(request_t request, reply_t *reply) {
    (void)request;
    (void)reply;
    return PP_OK; /* answered first, then done: see carry_out */
}

__attribute__((weak)) pp_status_t pp_user_request(uint8_t type, const uint8_t *payload, size_t payload_bytes,
                                                  uint8_t *reply, size_t *reply_bytes) {
    (void)type;
    (void)payload;
    (void)payload_bytes;
    (void)reply;
    (void)reply_bytes;
    return PP_UNKNOWN_TYPE;
}

__attribute__((weak)) pp_status_t pp_codec_request(uint8_t type, const uint8_t *payload, size_t payload_bytes,
                                                   uint8_t *reply, size_t *reply_bytes) {
    (void)type;
    (void)payload;
    (void)payload_bytes;
    (void)reply;
    (void)reply_bytes;
    return PP_UNKNOWN_TYPE;
}

__attribute__((weak)) pp_status_t pp_boot_verb(uint8_t type) {
    (void)type;
    return PP_UNKNOWN_TYPE;
}

static bool is_boot_verb(uint8_t type) { return type >= PP_BOOT_FIRST && type <= PP_BOOT_LAST; }

static pp_status_t dispatch(uint8_t type, request_t request, reply_t *reply) {
    static const handler_t handlers[] = {
        [PP_HELLO] = hello, [PP_ECHO] = echo,     [PP_INFER] = infer,   [PP_RUN_MANY] = run_many,
        [PP_TRACE] = trace, [PP_MEMORY] = memory, [PP_RESET] = restart,
    };
    if (type < sizeof handlers / sizeof handlers[0] && handlers[type] != NULL) {
        return handlers[type](request, reply);
    }
    if (type >= PP_CODEC_BEGIN && type <= PP_CODEC_MORE) {
        return pp_codec_request(type, request.bytes, request.count, reply->bytes, &reply->count);
    }
    if (is_boot_verb(type)) {
        return pp_boot_verb(type);
    }
    if (type >= PP_USER_FIRST && type <= PP_USER_LAST) {
        return pp_user_request(type, request.bytes, request.count, reply->bytes, &reply->count);
    }
    return PP_UNKNOWN_TYPE;
}

static void carry_out(void) {
    const uint8_t *body = receiver.buffer;
    const uint8_t type = body[PP_AT_TYPE];
    const size_t payload_bytes = receiver.payload_bytes;
    const uint32_t crc = pp_get32(body + PP_HEADER_BYTES + payload_bytes);
    if (last_reply_bytes == 0u || crc != last_request_crc) { /* the checksum covers type and sequence number too */
        const request_t request = {body + PP_HEADER_BYTES, payload_bytes};
        reply_t reply = {last_reply + PP_HEADER_BYTES, 0u};
        last_reply_bytes = 0u;
        pp_platform_request(true);
        const pp_status_t status = dispatch(type, request, &reply);
        pp_platform_request(false);
        if (status != PP_OK) {
            reply.count = 0u;
        }
        last_reply_bytes = pp_frame_finish(last_reply, (uint8_t)(type | PP_REPLY), body[PP_AT_SEQUENCE],
                                           (uint8_t)status, reply.count);
        last_request_crc = crc;
    }
    pp_frame_write(last_reply, last_reply_bytes, pp_platform_write);
    if (type == PP_RESET || (is_boot_verb(type) && last_reply[PP_AT_STATUS] == PP_OK)) {
        pp_platform_restart(PP_RESET_REQUEST);
    }
}

void pp_bridge_announce(uint8_t type, const uint8_t *payload, size_t payload_bytes) {
    uint8_t body[PP_HEADER_BYTES + ANNOUNCE_MAX + PP_CRC_BYTES];
    if (payload_bytes > ANNOUNCE_MAX) {
        payload_bytes = ANNOUNCE_MAX;
    }
    (void)memcpy(body + PP_HEADER_BYTES, payload, payload_bytes);
    pp_frame_write(body, pp_frame_finish(body, type, 0u, 0u, payload_bytes), pp_platform_write);
}

static void refuse(pp_frame_result_t why) {
    uint8_t body[PP_HEADER_BYTES + PP_CRC_BYTES];
    pp_frame_write(body, pp_frame_finish(body, PP_NAK, 0u, (uint8_t)why, 0u), pp_platform_write);
}

void pp_bridge_start(pp_reset_cause_t cause) {
    const uint8_t payload[1] = {(uint8_t)cause};
    reset_cause = cause;
    pp_bridge_announce(PP_BOOT, payload, sizeof payload);
}

void pp_bridge_byte(uint8_t byte) {
    const pp_frame_result_t result = pp_receive(&receiver, byte);
    if (result == PP_FRAME_READY) {
        carry_out();
    } else if (result != PP_FRAME_NONE) {
        refuse(result);
    }
}
