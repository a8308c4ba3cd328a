#include "pp_boot.h"

#include "pp_boot_build.h"
#include "pp_bridge.h"
#include "pp_flash.h"
#include "pp_frame.h"
#include "pp_mem.h"

#define WRITE_BYTES 8u /* before the data of a WRITE: offset, CRC-32 */
#define STATUS_BYTES 8u
#define SLOT_BYTES 8u /* before the header in a slot's row of STATUS */

typedef enum { UNKNOWN = 0, VALID, INVALID } validity_t;

static const uint32_t sectors[PP_SECTOR_COUNT] = PP_SECTORS;

static struct {
    uint8_t checked[PP_SLOT_COUNT]; /* a validity_t each: a check takes a signature and a hash */
    uint8_t target;                 /* slot of the update that has begun, or PP_SLOT_NONE */
    uint32_t next;                  /* where its next byte goes, from the beginning of the firmware */
} boot;

static const uint8_t *header_of(uint32_t slot) { return pp_flash_at(pp_slot_base(slot)); }

static uint32_t version_of(uint32_t slot) { return pp_get32(header_of(slot) + PP_IMAGE_AT_VERSION); }

static uint32_t size_of(uint32_t slot) { return pp_get32(header_of(slot) + PP_IMAGE_AT_SIZE); }

static bool is_valid(uint32_t slot) {
    if (boot.checked[slot] == UNKNOWN) {
        boot.checked[slot] = pp_image_check(slot) == PP_IMAGE_GOOD ? VALID : INVALID;
    }
    return boot.checked[slot] == VALID;
}

static bool is_confirmed(uint32_t slot) {
    return pp_flag_is_set(slot, PP_FLAG_CONFIRMED) && !pp_flag_is_set(slot, PP_FLAG_ABANDONED) && is_valid(slot);
}

/* The image to start: of those that were confirmed the newest that is whole. */
static uint32_t active(void) {
    uint32_t best = PP_SLOT_NONE;
    for (uint32_t slot = 0; slot < PP_SLOT_COUNT; slot++) {
        if (is_confirmed(slot) && (best == PP_SLOT_NONE || version_of(slot) > version_of(best))) {
            best = slot;
        }
    }
    return best;
}

/* Whether a header may replace what there is: newer, and its key not before the confirmed image's key. */
static uint8_t may_follow(const uint8_t *header, uint32_t old) {
    if (old == PP_SLOT_NONE) {
        return PP_OK;
    }
    if (pp_get32(header + PP_IMAGE_AT_VERSION) <= version_of(old)) {
        return PP_BOOT_DOWNGRADE;
    }
    return pp_image_key(header) < pp_image_key(header_of(old)) ? (uint8_t)PP_BOOT_RETIRED_KEY : (uint8_t)PP_OK;
}

static bool is_untried(uint32_t slot) {
    return !pp_flag_is_set(slot, PP_FLAG_TRIED) && !pp_flag_is_set(slot, PP_FLAG_CONFIRMED) &&
           !pp_flag_is_set(slot, PP_FLAG_ABANDONED);
}

static bool may_be_tried(uint32_t slot) {
    return slot < PP_SLOT_COUNT && pp_flag_is_set(slot, PP_FLAG_READY) && is_untried(slot) && is_valid(slot) &&
           may_follow(header_of(slot), active()) == PP_OK;
}

static bool may_be_confirmed(uint32_t slot) {
    return slot < PP_SLOT_COUNT && pp_flag_is_set(slot, PP_FLAG_READY) && pp_flag_is_set(slot, PP_FLAG_TRIED) &&
           !pp_flag_is_set(slot, PP_FLAG_ABANDONED) && is_valid(slot);
}

pp_boot_choice_t pp_boot_choose(pp_command_t command, uint32_t slot) {
    pp_boot_choice_t choice = {PP_SLOT_NONE, false};
    (void)memset(&boot, 0, sizeof boot);
    boot.target = PP_SLOT_NONE;
    if (command == PP_COMMAND_ENTER) {
        return choice;
    }
    if (command == PP_COMMAND_CONFIRM && may_be_confirmed(slot)) {
        (void)pp_flag_set(slot, PP_FLAG_CONFIRMED); /* where that fails the old image goes on, as it should */
    }
    /* Marked first, then started: an image that never comes to be confirmed is never started again. */
    if (command == PP_COMMAND_TRY && may_be_tried(slot) && pp_flag_set(slot, PP_FLAG_TRIED)) {
        choice.slot = slot;
        choice.trial = true;
        return choice;
    }
    choice.slot = active();
    return choice;
}

uint32_t pp_boot_to_try(void) {
    return boot.target != PP_SLOT_NONE && may_be_tried(boot.target) ? boot.target : PP_SLOT_NONE;
}

static size_t slot_row(uint32_t slot, uint32_t in_use, uint8_t *row) {
    static const uint32_t flags[4] = {PP_FLAG_READY, PP_FLAG_TRIED, PP_FLAG_CONFIRMED, PP_FLAG_ABANDONED};
    pp_put32(row, pp_slot_base(slot));
    pp_put32(row + 4, 0u);
    for (uint32_t i = 0; i < 4u; i++) {
        row[4] = (uint8_t)(row[4] | (pp_flag_is_set(slot, flags[i]) ? 1u << i : 0u));
    }
    row[5] = is_valid(slot) ? 1u : 0u;
    row[6] = slot == in_use ? 1u : 0u;
    (void)memcpy(row + SLOT_BYTES, header_of(slot), PP_IMAGE_SIGNED_BYTES);
    return SLOT_BYTES + PP_IMAGE_SIGNED_BYTES;
}

static uint8_t status(uint8_t *reply, size_t *reply_bytes) {
    static const uint8_t board[32] = PP_BOARD_NAME;
    const uint32_t in_use = active();
    pp_put16(reply, PP_IMAGE_FORMAT);
    pp_put16(reply + 2, PP_PAYLOAD_MAX - WRITE_BYTES);
    pp_put32(reply + 4, PP_SLOT_BYTES);
    (void)memcpy(reply + STATUS_BYTES, board, sizeof board);
    *reply_bytes = STATUS_BYTES + sizeof board;
    for (uint32_t slot = 0; slot < PP_SLOT_COUNT; slot++) {
        *reply_bytes += slot_row(slot, in_use, reply + *reply_bytes);
    }
    return PP_OK;
}

/* Erase the sectors that an image of some bytes takes, the header's last: what is half erased is then no image. */
static bool erase(uint32_t slot, uint32_t image_bytes) {
    const uint32_t begin = pp_slot_base(slot);
    const uint32_t end = begin + PP_IMAGE_ROOM + image_bytes;
    uint32_t at = PP_FLASH_BASE;
    uint32_t sector = 0u;
    while (sector < PP_SECTOR_COUNT && at < end) { /* to the first sector behind the image */
        at += sectors[sector++];
    }
    while (sector > 0u && at > begin) {
        sector--;
        at -= sectors[sector];
        if (!pp_flash_erase(sector)) {
            return false;
        }
    }
    for (at = begin; at < end; at += 4u) {
        if (pp_get32(pp_flash_at(at)) != PP_ERASED) {
            return false;
        }
    }
    return true;
}

static bool program(uint32_t address, const uint8_t *data, size_t count) {
    for (size_t i = 0; i < count; i += 4u) {
        const uint32_t word = pp_get32(data + i);
        const uint32_t at = address + (uint32_t)i;
        if (word != PP_ERASED && !pp_flash_program(at, word)) {
            return false;
        }
        if (pp_get32(pp_flash_at(at)) != word) {
            return false;
        }
    }
    return true;
}

static bool same_header(uint32_t slot, const uint8_t *header) {
    uint32_t same = 0u;
    while (same < PP_IMAGE_HEADER_BYTES && header_of(slot)[same] == header[same]) {
        same++;
    }
    return same == PP_IMAGE_HEADER_BYTES;
}

/* Where an interrupted transfer goes on: at the last word that is not erased, which may have been cut short. Written
 * once more it is whole, as the bits that are to be ones still are. */
static uint32_t resume_offset(uint32_t slot) {
    uint32_t at = size_of(slot);
    if (pp_flag_is_set(slot, PP_FLAG_READY)) {
        return at;
    }
    while (at > 0u) {
        at -= 4u;
        if (pp_get32(header_of(slot) + PP_IMAGE_ROOM + at) != PP_ERASED) {
            return at;
        }
    }
    return 0u;
}

static bool prepare(uint32_t slot, const uint8_t *header) {
    boot.checked[slot] = UNKNOWN;
    (void)pp_flag_set(slot, PP_FLAG_ABANDONED); /* a cut erase leaves nothing to go on from; erasing follows anyway */
    return erase(slot, pp_get32(header + PP_IMAGE_AT_SIZE)) &&
           program(pp_slot_base(slot), header, PP_IMAGE_HEADER_BYTES);
}

static uint8_t begin(const uint8_t *header, size_t header_bytes, uint8_t *reply, size_t *reply_bytes) {
    boot.target = PP_SLOT_NONE;
    if (header_bytes != PP_IMAGE_HEADER_BYTES) {
        return PP_BAD_LENGTH;
    }
    const pp_image_result_t result = pp_image_check_header(header);
    if (result != PP_IMAGE_GOOD) {
        return (uint8_t)result;
    }
    const uint32_t in_use = active();
    const uint32_t slot = pp_slot_of(pp_get32(header + PP_IMAGE_AT_ADDRESS));
    const uint8_t refused = may_follow(header, in_use);
    if (refused != PP_OK) {
        return refused;
    }
    if (slot == in_use) {
        return PP_BOOT_ACTIVE_SLOT;
    }
    if (!(same_header(slot, header) && is_untried(slot)) && !prepare(slot, header)) {
        return PP_BOOT_FLASH_FAILED;
    }
    boot.target = (uint8_t)slot;
    boot.next = resume_offset(slot);
    pp_put32(reply, boot.next);
    *reply_bytes = 4u;
    return PP_OK;
}

/* Give the slot up: the next BEGIN erases it. */
static uint8_t give_up(uint8_t why) {
    (void)pp_flag_set(boot.target, PP_FLAG_ABANDONED);
    boot.target = PP_SLOT_NONE;
    return why;
}

static uint8_t write(const uint8_t *payload, size_t payload_bytes, uint8_t *reply, size_t *reply_bytes) {
    if (boot.target == PP_SLOT_NONE) {
        return PP_BOOT_NOT_BEGUN;
    }
    if (payload_bytes <= WRITE_BYTES || payload_bytes % 4u != 0u) {
        return PP_BAD_LENGTH;
    }
    const size_t count = payload_bytes - WRITE_BYTES;
    if (pp_get32(payload) != boot.next || count > size_of(boot.target) - boot.next) {
        return PP_BOOT_BAD_OFFSET;
    }
    if (pp_crc32(payload + WRITE_BYTES, count) != pp_get32(payload + 4)) {
        return PP_BAD_ARGUMENT;
    }
    boot.checked[boot.target] = UNKNOWN;
    if (!program(pp_slot_base(boot.target) + PP_IMAGE_ROOM + boot.next, payload + WRITE_BYTES, count)) {
        return give_up(PP_BOOT_FLASH_FAILED);
    }
    boot.next += (uint32_t)count;
    pp_put32(reply, boot.next);
    *reply_bytes = 4u;
    return PP_OK;
}

static uint8_t finish(void) {
    if (boot.target == PP_SLOT_NONE || boot.next != size_of(boot.target)) {
        return PP_BOOT_NOT_BEGUN;
    }
    if (!is_valid(boot.target)) {
        return give_up((uint8_t)PP_IMAGE_BAD_HASH);
    }
    return pp_flag_set(boot.target, PP_FLAG_READY) ? (uint8_t)PP_OK : give_up(PP_BOOT_FLASH_FAILED);
}

uint8_t pp_boot_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                        size_t *reply_bytes) {
    *reply_bytes = 0u;
    switch (type) {
        case PP_BOOT_ENTER: return PP_OK; /* it is in the bootloader already */
        case PP_BOOT_STATUS: return status(reply, reply_bytes);
        case PP_BOOT_BEGIN: return begin(payload, payload_bytes, reply, reply_bytes);
        case PP_BOOT_WRITE: return write(payload, payload_bytes, reply, reply_bytes);
        case PP_BOOT_FINISH: return finish();
        case PP_BOOT_START: return PP_OK; /* answered first, then done: pp_boot_to_try */
        default: return PP_UNKNOWN_TYPE;
    }
}
