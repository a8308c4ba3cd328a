/* The bootloader's core on the host: a flash in RAM whose power can be cut at every write and erase.
 *
 * Standard input holds commands of a letter and its arguments, numbers little-endian; each is answered by K, or by X where
 * the power was cut meanwhile, and what belongs to it:
 *   L content          the whole flash
 *   D                  K content
 *   C at32 seed32      cut power at that many writes and erases from here, 0 for never; the seed says what is left
 *   N                  K writes and erases so far, 32 bits
 *   P command slot     start: K slot trial
 *   R type count16 payload      K status count16 reply
 *   T                  K slot to try
 *   H count32 header   K result of pp_image_check_header
 *   5 count32 data     K SHA-512        2 count32 data     K SHA-256
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pp_boot.h"
#include "pp_boot_build.h"
#include "pp_flash.h"
#include "pp_frame.h"
#include "pp_sha2.h"

static const uint32_t sectors[PP_SECTOR_COUNT] = PP_SECTORS;
static uint32_t flash[1 << 14];
static uint32_t flash_bytes;
static uint32_t operations;
static uint32_t cut_at; /* counts down; 0: never */
static uint32_t random_state;
static jmp_buf power_off;
static uint8_t *payload; /* of the request at hand, of its very length: a sanitizer then sees what is behind */

static uint32_t next_random(void) { /* xorshift (Marsaglia, 2003) */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static bool is_cut(void) {
    operations++;
    return cut_at != 0u && --cut_at == 0u;
}

const uint8_t *pp_flash_at(uint32_t address) {
    if (address < PP_FLASH_BASE || address - PP_FLASH_BASE >= flash_bytes) {
        abort(); /* outside of the flash */
    }
    return (const uint8_t *)flash + (address - PP_FLASH_BASE);
}

bool pp_flash_program(uint32_t address, uint32_t word) {
    uint32_t *at = &flash[(address - PP_FLASH_BASE) / 4u];
    (void)pp_flash_at(address);
    const uint32_t whole = *at & word;
    if (is_cut()) { /* some of the bits that were to fall have fallen */
        *at &= whole | next_random();
        longjmp(power_off, 1);
    }
    *at = whole;
    return *at == whole;
}

bool pp_flash_erase(uint32_t sector) {
    uint32_t begin = 0u;
    for (uint32_t i = 0; i < sector; i++) {
        begin += sectors[i] / 4u;
    }
    const bool cut = is_cut();
    const uint32_t kind = next_random() % 3u;
    for (uint32_t i = 0; i < sectors[sector] / 4u; i++) {
        uint32_t *at = &flash[begin + i];
        if (!cut) {
            *at = PP_ERASED;
        } else if (kind == 0u) { /* single bits have risen */
            *at |= next_random();
        } else if (kind == 1u) { /* an erase first programs all to zero */
            *at = next_random() % 2u != 0u ? 0u : *at;
        } else { /* words here and there are erased already, or anything */
            const uint32_t now = next_random();
            *at = now % 3u == 0u ? PP_ERASED : now % 3u == 1u ? *at : next_random();
        }
    }
    if (cut) {
        longjmp(power_off, 1);
    }
    return true;
}

static void take(void *into, size_t count) {
    if (fread(into, 1, count, stdin) != count) {
        exit(1);
    }
}

static uint32_t take_number(uint32_t bytes) {
    uint8_t number[4] = {0};
    take(number, bytes);
    return pp_get32(number);
}

static void give(const void *from, size_t count) { (void)fwrite(from, 1, count, stdout); }

static void give_byte(uint32_t byte) { (void)putchar((int)byte); }

static void start(void) {
    const uint32_t command = take_number(1);
    const uint32_t slot = take_number(1);
    const pp_boot_choice_t choice = pp_boot_choose((pp_command_t)command, slot);
    give_byte('K');
    give_byte(choice.slot);
    give_byte(choice.trial ? 1u : 0u);
}

static void request(void) {
    static uint8_t reply[PP_PAYLOAD_MAX];
    const uint8_t type = (uint8_t)take_number(1);
    const uint32_t count = take_number(2);
    free(payload);
    payload = malloc(count == 0u ? 1u : count);
    size_t reply_bytes = 0;
    uint8_t head[3];
    take(payload, count);
    head[0] = pp_boot_request(type, payload, count, reply, &reply_bytes);
    pp_put16(head + 1, (uint32_t)reply_bytes);
    give_byte('K');
    give(head, sizeof head);
    give(reply, reply_bytes);
}

static void examine(int what) {
    const uint32_t count = take_number(4);
    uint8_t *data = malloc(count == 0u ? 1u : count);
    uint8_t digest[64];
    take(data, count);
    give_byte('K');
    if (what == 'H') {
        give_byte((uint32_t)pp_image_check_header(data));
    } else if (what == '2') {
        pp_sha256(digest, data, count);
        give(digest, 32);
    } else { /* in two pieces, cut where it may be */
        pp_sha512(digest, data, count / 3u, data + count / 3u, count - count / 3u);
        give(digest, 64);
    }
    free(data);
}

static void carry_out(int command) {
    uint8_t number[4];
    switch (command) {
        case 'L': take(flash, flash_bytes); give_byte('K'); break;
        case 'D': give_byte('K'); give(flash, flash_bytes); break;
        case 'C':
            cut_at = take_number(4);
            random_state = take_number(4) | 1u;
            give_byte('K');
            break;
        case 'N':
            pp_put32(number, operations);
            give_byte('K');
            give(number, 4);
            break;
        case 'P': start(); break;
        case 'R': request(); break;
        case 'T': give_byte('K'); give_byte(pp_boot_to_try()); break;
        default: examine(command); break;
    }
}

int main(void) {
    for (uint32_t i = 0; i < PP_SECTOR_COUNT; i++) {
        flash_bytes += sectors[i];
    }
    for (int command = getchar(); command != EOF; command = getchar()) {
        if (setjmp(power_off) == 0) {
            carry_out(command);
        } else {
            give_byte('X');
        }
        (void)fflush(stdout);
    }
    free(payload);
    return 0;
}
