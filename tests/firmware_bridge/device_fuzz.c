/* Fuzzing of the device's parser and server: streams of frames, harmed, into the bridge; its answers must be frames. */
#include "device_fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pp_bridge.h"
#include "pp_frame.h"

#define STREAM_MAX 8192u
#define ALIVE_EVERY 1000u /* inputs between two questions whether the server still works */

static uint64_t state;
static uint8_t stream[STREAM_MAX];
static size_t stream_bytes;
static pp_receiver_t answers;
static uint64_t answered;
static uint64_t refused; /* NAK */
static uint64_t denied;  /* a status other than PP_OK */
static uint64_t fed;
static bool echoed;

/* xorshift64*, Vigna 2016: a number below limit. */
static uint32_t chance(uint32_t limit) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1DULL) >> 33) % limit;
}

static void complain(const char *what) {
    (void)fprintf(stderr, "%s after %llu bytes\n", what, (unsigned long long)fed);
    exit(1);
}

void fuzz_answer(uint8_t byte) {
    const pp_frame_result_t result = pp_receive(&answers, byte);
    if (result == PP_FRAME_NONE) {
        return;
    }
    if (result != PP_FRAME_READY) {
        complain("the device sent something that is no frame");
    }
    answered++;
    refused += answers.buffer[PP_AT_TYPE] == PP_NAK;
    denied += answers.buffer[PP_AT_TYPE] != PP_NAK && answers.buffer[PP_AT_STATUS] != PP_OK;
    echoed = answers.buffer[PP_AT_TYPE] == (PP_ECHO | PP_REPLY) && answers.payload_bytes == 5u &&
             memcmp(answers.buffer + PP_HEADER_BYTES, "alive", 5) == 0;
}

static void append(uint8_t byte) {
    if (stream_bytes < STREAM_MAX) {
        stream[stream_bytes++] = byte;
    }
}

/* A payload's length: most are what some request takes, a few are long. */
static size_t payload_length(void) {
    static const uint16_t usual[] = {0u, 1u, 2u, 5u, 8u, 10u, 16u, 18u, 64u};
    return chance(32u) == 0u ? chance(PP_PAYLOAD_MAX + 1u) : usual[chance(sizeof usual / sizeof usual[0])];
}

static void append_frame(void) {
    uint8_t body[PP_BODY_MAX];
    const size_t payload_bytes = payload_length();
    for (size_t i = 0; i < payload_bytes; i++) {
        body[PP_HEADER_BYTES + i] = chance(3u) == 0u ? (uint8_t)chance(256u) : (uint8_t)chance(3u);
    }
    const uint8_t type = (uint8_t)(chance(8u) == 0u ? chance(256u) : 1u + chance(10u));
    const size_t body_bytes = pp_frame_finish(body, type, (uint8_t)chance(256u), 0u, payload_bytes);
    pp_frame_write(body, body_bytes, append);
}

/* Flip, cut out, double or put in bytes. */
static void harm(void) {
    const size_t at = chance((uint32_t)stream_bytes);
    const size_t span = 1u + chance(4u);
    const size_t end = at + span < stream_bytes ? at + span : stream_bytes;
    switch (chance(4u)) {
        case 0u: stream[at] = (uint8_t)(stream[at] ^ (1u << chance(8u))); break;
        case 1u:
            memmove(stream + at, stream + end, stream_bytes - end);
            stream_bytes -= end - at;
            break;
        case 2u:
            if (2u * stream_bytes <= STREAM_MAX) {
                memcpy(stream + stream_bytes, stream, stream_bytes);
                stream_bytes *= 2u;
            }
            break;
        default:
            for (size_t i = 0; i < span; i++) {
                append((uint8_t)chance(256u));
            }
    }
}

static void feed(void) {
    for (size_t i = 0; i < stream_bytes; i++) {
        pp_bridge_byte(stream[i]);
    }
    fed += stream_bytes;
    stream_bytes = 0;
}

/* One stream: one to three frames, or noise, harmed up to three times. */
static void one_input(void) {
    for (uint32_t frames = 1u + chance(3u); frames > 0u; frames--) {
        append_frame();
    }
    for (uint32_t harms = chance(4u); harms > 0u && stream_bytes > 0u; harms--) {
        harm();
    }
    feed();
}

static void ask_whether_alive(uint8_t sequence) {
    uint8_t body[PP_BODY_MAX];
    memcpy(body + PP_HEADER_BYTES, "alive", 5);
    pp_frame_write(body, pp_frame_finish(body, PP_ECHO, sequence, 0u, 5u), append);
    echoed = false;
    feed();
    if (!echoed) {
        complain("the device does not answer any more");
    }
}

int fuzz(uint64_t seed, uint64_t inputs) {
    state = seed * 2u + 1u;
    pp_bridge_start(PP_RESET_POWER);
    for (uint64_t input = 1; input <= inputs; input++) {
        one_input();
        if (input % ALIVE_EVERY == 0u) {
            ask_whether_alive((uint8_t)(input / ALIVE_EVERY));
        }
    }
    printf("%llu inputs, %llu bytes, %llu answers, %llu of them refuse a frame, %llu a request\n",
           (unsigned long long)inputs, (unsigned long long)fed, (unsigned long long)answered,
           (unsigned long long)refused, (unsigned long long)denied);
    return 0;
}
