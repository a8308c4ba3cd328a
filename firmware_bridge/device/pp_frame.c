/* Framing: COBS (Cheshire and Baker, IEEE/ACM Trans. Networking 7(2), 1999) and CRC-32. */
#include "pp_frame.h"

void pp_put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

void pp_put32(uint8_t *at, uint32_t value) {
    pp_put16(at, value);
    pp_put16(at + 2, value >> 16);
}

uint32_t pp_get16(const uint8_t *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8; }

uint32_t pp_get32(const uint8_t *at) { return pp_get16(at) | pp_get16(at + 2) << 16; }

uint32_t pp_crc32(const uint8_t *data, size_t count) {
    /* the polynomial's remainders for four bits: a table of 64 bytes instead of 1024 */
    static const uint32_t nibble[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < count; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ nibble[crc & 15u];
        crc = crc >> 4 ^ nibble[crc & 15u];
    }
    return ~crc;
}

size_t pp_cobs_decode(uint8_t *data, size_t count) {
    size_t from = 0;
    size_t to = 0;
    while (from < count) {
        const size_t code = data[from++];
        if (code == 0u || from + code - 1u > count) {
            return SIZE_MAX;
        }
        for (size_t i = 1; i < code; i++) {
            if (data[from] == 0u) {
                return SIZE_MAX;
            }
            data[to++] = data[from++];
        }
        if (code < 255u && from < count) {
            data[to++] = 0u;
        }
    }
    return to;
}

static pp_frame_result_t check_body(pp_receiver_t *receiver, size_t body_bytes) {
    const uint8_t *body = receiver->buffer;
    if (body_bytes == SIZE_MAX || body_bytes < PP_HEADER_BYTES + PP_CRC_BYTES) {
        return PP_FRAME_COBS;
    }
    const size_t covered = body_bytes - PP_CRC_BYTES;
    if (pp_crc32(body, covered) != pp_get32(body + covered)) {
        return PP_FRAME_CRC;
    }
    if (body[PP_AT_VERSION] != PP_PROTOCOL_VERSION) {
        return PP_FRAME_VERSION;
    }
    const size_t payload_bytes = pp_get16(body + PP_AT_LENGTH);
    if (payload_bytes != covered - PP_HEADER_BYTES || payload_bytes > PP_PAYLOAD_MAX) {
        return PP_FRAME_LENGTH;
    }
    receiver->payload_bytes = (uint16_t)payload_bytes;
    return PP_FRAME_READY;
}

pp_frame_result_t pp_receive(pp_receiver_t *receiver, uint8_t byte) {
    if (byte != 0u) {
        if (receiver->count < sizeof receiver->buffer) {
            receiver->buffer[receiver->count++] = byte;
        } else {
            receiver->overflow = 1u;
        }
        return PP_FRAME_NONE;
    }
    const size_t count = receiver->count;
    const uint8_t overflow = receiver->overflow;
    receiver->count = 0u;
    receiver->overflow = 0u;
    if (overflow != 0u) {
        return PP_FRAME_LENGTH;
    }
    if (count == 0u) { /* two delimiters in a row: nothing between frames */
        return PP_FRAME_NONE;
    }
    return check_body(receiver, pp_cobs_decode(receiver->buffer, count));
}

size_t pp_frame_finish(uint8_t *body, uint8_t type, uint8_t sequence, uint8_t status, size_t payload_bytes) {
    body[PP_AT_VERSION] = PP_PROTOCOL_VERSION;
    body[PP_AT_TYPE] = type;
    body[PP_AT_SEQUENCE] = sequence;
    body[PP_AT_STATUS] = status;
    pp_put16(body + PP_AT_LENGTH, (uint32_t)payload_bytes);
    const size_t covered = PP_HEADER_BYTES + payload_bytes;
    pp_put32(body + covered, pp_crc32(body, covered));
    return covered + PP_CRC_BYTES;
}

void pp_frame_write(const uint8_t *body, size_t body_bytes, void (*write)(uint8_t byte)) {
    size_t at = 0;
    write(0u); /* ends whatever noise came before */
    do {
        size_t run = 0; /* bytes up to the next zero, at most 254 */
        while (at + run < body_bytes && run < 254u && body[at + run] != 0u) {
            run++;
        }
        write((uint8_t)(run + 1u));
        for (size_t i = 0; i < run; i++) {
            write(body[at + i]);
        }
        at += run;
        if (run < 254u) {
            at++; /* the zero that this group stands for, or the end */
            if (at == body_bytes) { /* the body ends in a zero: an empty group follows */
                write(1u);
            }
        }
    } while (at < body_bytes);
    write(0u);
}
