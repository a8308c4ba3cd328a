/* Frames on a byte stream: 0x00 COBS(body) 0x00, body = header, payload, CRC-32. docs/bridge-protocol.md has every byte.
 *
 *     static pp_receiver_t receiver;
 *     if (pp_receive(&receiver, byte) == PP_FRAME_READY) { handle(receiver.buffer, ...); }
 */
#ifndef PP_FRAME_H
#define PP_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define PP_PROTOCOL_VERSION 1u

/* Largest payload of a frame, in bytes, either way: 1024, or what one input or output of the network takes, or a HELLO. */
#ifndef PP_PAYLOAD_MAX
#include "policy.h"
#define PP_WIDEST (PP_INPUT_SIZE * PP_INPUT_BITS > PP_OUTPUT_SIZE * PP_OUTPUT_BITS ? \
                       PP_INPUT_SIZE * PP_INPUT_BITS / 8u : PP_OUTPUT_SIZE * PP_OUTPUT_BITS / 8u)
#define PP_HELLO_MAX (80u + 2u * 32u + 4u * PP_LAYER_COUNT)
#define PP_WIDER (PP_WIDEST + 16u > PP_HELLO_MAX ? PP_WIDEST + 16u : PP_HELLO_MAX)
#define PP_PAYLOAD_MAX (PP_WIDER > 1024u ? PP_WIDER : 1024u)
#endif

#define PP_HEADER_BYTES 6u
#define PP_CRC_BYTES 4u
#define PP_BODY_MAX (PP_HEADER_BYTES + PP_PAYLOAD_MAX + PP_CRC_BYTES)
_Static_assert(PP_BODY_MAX <= 65535u, "an input, an output or a HELLO is too large for a frame");
#define PP_ENCODED_MAX (PP_BODY_MAX + PP_BODY_MAX / 254u + 1u)

/* Header fields, by offset in the body; the length is little-endian. */
#define PP_AT_VERSION 0u
#define PP_AT_TYPE 1u
#define PP_AT_SEQUENCE 2u
#define PP_AT_STATUS 3u
#define PP_AT_LENGTH 4u

typedef enum {
    PP_FRAME_NONE = 0,    /* no frame has ended yet */
    PP_FRAME_READY = 1,   /* a frame: its body lies in receiver.buffer, checked */
    PP_FRAME_COBS = 2,    /* what came between two delimiters is no COBS, or shorter than a header */
    PP_FRAME_LENGTH = 3,  /* the header's length is not the body's, or the frame is longer than PP_PAYLOAD_MAX allows */
    PP_FRAME_CRC = 4,     /* the checksum does not match */
    PP_FRAME_VERSION = 5  /* another protocol version */
} pp_frame_result_t;

/* A receiver: all zero is its start state. */
typedef struct {
    uint8_t buffer[PP_ENCODED_MAX]; /* encoded bytes as they come; the decoded body once a frame is ready */
    uint16_t count;                 /* bytes in buffer */
    uint8_t overflow;               /* the frame did not fit: the rest of it is skipped */
    uint16_t payload_bytes;         /* of the frame that is ready */
} pp_receiver_t;

/* Take one byte from the line. After PP_FRAME_READY the body stays valid until the next call. */
pp_frame_result_t pp_receive(pp_receiver_t *receiver, uint8_t byte);

/* Fill header and checksum around a payload that lies at body + PP_HEADER_BYTES; returns the body's bytes. */
size_t pp_frame_finish(uint8_t *body, uint8_t type, uint8_t sequence, uint8_t status, size_t payload_bytes);

/* Write a body as a frame, both delimiters included, one byte at a time. */
void pp_frame_write(const uint8_t *body, size_t body_bytes, void (*write)(uint8_t byte));

/* CRC-32 as zlib computes it: polynomial 0xEDB88320 reflected, start and final xor 0xFFFFFFFF. */
uint32_t pp_crc32(const uint8_t *data, size_t count);

/* Decode COBS in place; returns the decoded bytes, or SIZE_MAX where the input is not COBS. */
size_t pp_cobs_decode(uint8_t *data, size_t count);

void pp_put16(uint8_t *at, uint32_t value);
void pp_put32(uint8_t *at, uint32_t value);
uint32_t pp_get16(const uint8_t *at);
uint32_t pp_get32(const uint8_t *at);

#endif
