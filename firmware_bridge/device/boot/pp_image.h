/* An image in a slot: a signed header, flags, and from PP_IMAGE_ROOM on the firmware. docs/update.md has every byte. */
#ifndef PP_IMAGE_H
#define PP_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define PP_SLOT_COUNT 2u
#define PP_SLOT_NONE 0xFFu

#define PP_IMAGE_MAGIC 0x49555050u /* "PPUI" */
#define PP_IMAGE_FORMAT 1u
#define PP_IMAGE_SIGNED_BYTES 128u
#define PP_IMAGE_HEADER_BYTES 192u /* what is signed, and the signature */
#define PP_IMAGE_ROOM 512u         /* the firmware behind it begins with its vectors, on a multiple of this */

/* Fields of the header, by offset; numbers are little-endian. */
#define PP_IMAGE_AT_FORMAT 4u
#define PP_IMAGE_AT_KEY 8u /* first 8 bytes of the public key */
#define PP_IMAGE_AT_SIZE 16u
#define PP_IMAGE_AT_ADDRESS 20u
#define PP_IMAGE_AT_VERSION 24u
#define PP_IMAGE_AT_BOARD 32u /* 32 bytes: its name, then zeros */
#define PP_IMAGE_AT_BUILD 64u
#define PP_IMAGE_AT_HASH 80u

/* Flags: a word each, written once after the header. The values are no rows of zeros or ones, as a cut erase leaves. */
#define PP_FLAG_READY 0x59444552u     /* "REDY": the whole image came, and its hash was right */
#define PP_FLAG_TRIED 0x45495254u     /* "TRIE": it has been started */
#define PP_FLAG_CONFIRMED 0x464E4F43u /* "CONF": and was found good */
#define PP_FLAG_ABANDONED 0x45444241u /* "ABDE": about to be erased, or its hash was wrong */

typedef enum {
    PP_IMAGE_GOOD = 0,
    PP_IMAGE_MALFORMED = 16,     /* no header of this format, or of an impossible size */
    PP_IMAGE_WRONG_BOARD = 17,
    PP_IMAGE_UNKNOWN_KEY = 18,
    PP_IMAGE_BAD_SIGNATURE = 19,
    PP_IMAGE_WRONG_SLOT = 22,    /* linked for another address */
    PP_IMAGE_BAD_HASH = 25
} pp_image_result_t;

uint32_t pp_slot_base(uint32_t slot);

/* The slot whose firmware begins at an address, or PP_SLOT_NONE. */
uint32_t pp_slot_of(uint32_t address);

/* Place among the bootloader's keys of the one a header names, or PP_KEY_NONE. */
#define PP_KEY_NONE 0xFFFFFFFFu
uint32_t pp_image_key(const uint8_t *header);

/* Whether a header of PP_IMAGE_HEADER_BYTES is one of ours: format, board, size, address, signature. */
pp_image_result_t pp_image_check_header(const uint8_t *header);

/* Whether a whole image lies in a slot: its header, and the hash of its firmware. */
pp_image_result_t pp_image_check(uint32_t slot);

bool pp_flag_is_set(uint32_t slot, uint32_t flag);
bool pp_flag_set(uint32_t slot, uint32_t flag);

#endif
