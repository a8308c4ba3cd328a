#include "pp_image.h"

#include "monocypher.h"
#include "pp_boot_build.h"
#include "pp_flash.h"
#include "pp_frame.h"
#include "pp_mem.h"
#include "pp_sha2.h"

#define SIGNATURE_BYTES 64u
#define KEY_ID_BYTES 8u
#define FLAGS_AT 256u
#define FLAG_STRIDE 32u /* a unit of its own for each, also where flash is programmed by up to 32 bytes */

static const uint8_t keys[PP_KEY_COUNT][32] = PP_KEYS;
static const uint32_t bases[PP_SLOT_COUNT] = PP_SLOT_BASES;

_Static_assert(PP_SLOT_BYTES > PP_IMAGE_ROOM, "a slot holds at least its header");

uint32_t pp_slot_base(uint32_t slot) { return bases[slot]; }

uint32_t pp_slot_of(uint32_t address) {
    for (uint32_t slot = 0; slot < PP_SLOT_COUNT; slot++) {
        if (address == bases[slot] + PP_IMAGE_ROOM) {
            return slot;
        }
    }
    return PP_SLOT_NONE;
}

static bool equal(const uint8_t *a, const uint8_t *b, uint32_t count) {
    uint32_t differ = 0u;
    for (uint32_t i = 0; i < count; i++) {
        differ |= (uint32_t)a[i] ^ b[i];
    }
    return differ == 0u;
}

uint32_t pp_image_key(const uint8_t *header) {
    for (uint32_t key = 0; key < PP_KEY_COUNT; key++) {
        if (equal(keys[key], header + PP_IMAGE_AT_KEY, KEY_ID_BYTES)) {
            return key;
        }
    }
    return PP_KEY_NONE;
}

/* Ed25519 (RFC 8032, 5.1.7) over the signed part: the hash covers R, the public key and the message. */
static bool is_signed(const uint8_t *header, const uint8_t *key) {
    const uint8_t *signature = header + PP_IMAGE_SIGNED_BYTES;
    uint8_t message[32 + PP_IMAGE_SIGNED_BYTES];
    uint8_t digest[64];
    uint8_t reduced[32];
    (void)memcpy(message, key, 32u);
    (void)memcpy(message + 32, header, PP_IMAGE_SIGNED_BYTES);
    pp_sha512(digest, signature, 32u, message, sizeof message);
    crypto_eddsa_reduce(reduced, digest);
    return crypto_eddsa_check_equation(signature, key, reduced) == 0;
}

static bool is_for_this_board(const uint8_t *header) {
    static const uint8_t board[32] = PP_BOARD_NAME; /* the rest is zero */
    return equal(header + PP_IMAGE_AT_BOARD, board, sizeof board);
}

pp_image_result_t pp_image_check_header(const uint8_t *header) {
    const uint32_t size = pp_get32(header + PP_IMAGE_AT_SIZE);
    if (pp_get32(header) != PP_IMAGE_MAGIC || pp_get32(header + PP_IMAGE_AT_FORMAT) != PP_IMAGE_FORMAT ||
        size < 8u || size % 4u != 0u || size > PP_SLOT_BYTES - PP_IMAGE_ROOM) {
        return PP_IMAGE_MALFORMED;
    }
    if (!is_for_this_board(header)) {
        return PP_IMAGE_WRONG_BOARD;
    }
    const uint32_t key = pp_image_key(header);
    if (key == PP_KEY_NONE) {
        return PP_IMAGE_UNKNOWN_KEY;
    }
    if (pp_slot_of(pp_get32(header + PP_IMAGE_AT_ADDRESS)) == PP_SLOT_NONE) {
        return PP_IMAGE_WRONG_SLOT;
    }
    return is_signed(header, keys[key]) ? PP_IMAGE_GOOD : PP_IMAGE_BAD_SIGNATURE;
}

pp_image_result_t pp_image_check(uint32_t slot) {
    const uint8_t *header = pp_flash_at(bases[slot]);
    const pp_image_result_t result = pp_image_check_header(header);
    uint8_t digest[32];
    if (result != PP_IMAGE_GOOD) {
        return result;
    }
    if (pp_slot_of(pp_get32(header + PP_IMAGE_AT_ADDRESS)) != slot) {
        return PP_IMAGE_WRONG_SLOT;
    }
    pp_sha256(digest, header + PP_IMAGE_ROOM, pp_get32(header + PP_IMAGE_AT_SIZE));
    return equal(digest, header + PP_IMAGE_AT_HASH, sizeof digest) ? PP_IMAGE_GOOD : PP_IMAGE_BAD_HASH;
}

static uint32_t flag_address(uint32_t slot, uint32_t flag) {
    static const uint32_t flags[4] = {PP_FLAG_READY, PP_FLAG_TRIED, PP_FLAG_CONFIRMED, PP_FLAG_ABANDONED};
    uint32_t number = 0u;
    while (number < 3u && flags[number] != flag) {
        number++;
    }
    return bases[slot] + FLAGS_AT + FLAG_STRIDE * number;
}

/* A flag counts when its word is whole: one that power cut short does not. */
bool pp_flag_is_set(uint32_t slot, uint32_t flag) { return pp_get32(pp_flash_at(flag_address(slot, flag))) == flag; }

bool pp_flag_set(uint32_t slot, uint32_t flag) {
    return pp_flash_program(flag_address(slot, flag), flag) && pp_flag_is_set(slot, flag);
}
