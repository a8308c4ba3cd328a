/* Pictures over the bridge: rows of pixels in, bytes of the coded parts out. docs/bridge-protocol.md has every byte. */
#include "pp_bridge.h"
#include "pp_codec.h"
#include "pp_counter.h"
#include "pp_frame.h"
#include "pp_mem.h"

#define BEGIN_BYTES 5u
#define ROWS_BYTES 4u /* before the pixels */
#define REPLY_BYTES 8u /* before the coded bytes */
#define RUN 0x80u /* in a record's part: the byte comes as often as the 32 bits behind it say */
#define NO_MORE 0u
#define MORE 1u
#define ROW_MAX (PP_CODEC_WIDTH_MAX * 3u)

/* Records that one block, or the end of a picture, can yield at the most: of each number two symbols, of each symbol
 * two bytes moved out, of each byte a record of 2 and one of 6 bytes. */
#define BLOCK_RECORDS (PP_CODEC_CHANNELS * 32u)
#define FINISH_RECORDS (PP_CODEC_PARTS * 40u)
#define ONE_MORE (BLOCK_RECORDS > FINISH_RECORDS ? BLOCK_RECORDS : FINISH_RECORDS)
#define ROOM (PP_PAYLOAD_MAX - REPLY_BYTES)

static pp_codec_t codec;
static uint8_t rows[PP_CODEC_BLOCK * ROW_MAX];
static uint8_t records[ROOM + ONE_MORE];
static int8_t pixels[PP_CODEC_PIXELS] __attribute__((aligned(4)));

static struct {
    uint32_t width, height;
    uint32_t next;   /* byte of the picture that is expected */
    uint32_t column; /* block of the strip that is coded next; as many as there are: none is left */
    uint32_t rows;   /* of pixels that have come */
    uint32_t taken, given; /* bytes of records */
    bool finished;
} picture;

static void take(void *context, uint32_t part, uint8_t byte, uint32_t count)
{
    uint8_t *const record = records + picture.taken;
    (void)context;
    record[0] = (uint8_t)(count == 1u ? part : part | RUN);
    record[1] = byte;
    picture.taken += 2u;
    if (count != 1u) {
        pp_put32(record + 2, count);
        picture.taken += 4u;
    }
}

static bool strip_waits(void) { return picture.column < codec.columns; }

/* Code blocks of the strip until it ends, or what they yield fills a reply. */
static uint32_t code_blocks(void)
{
    uint32_t ticks = 0u;
    while (strip_waits() && picture.taken < ROOM) {
        const uint32_t begin = pp_counter_begin();
        pp_codec_cut(rows, picture.width, picture.column, pixels);
        pp_codec_block(&codec, pixels, take, NULL);
        ticks += pp_counter_now() - begin - pp_counter_overhead();
        picture.column++;
    }
    return ticks;
}

static uint32_t finish(void)
{
    const uint32_t begin = pp_counter_begin();
    pp_codec_finish(&codec, take, NULL);
    picture.finished = true;
    return pp_counter_now() - begin - pp_counter_overhead();
}

static pp_status_t answer(uint8_t *reply, size_t *reply_bytes)
{
    uint32_t ticks = 0u;
    if (picture.given == picture.taken) {
        picture.given = picture.taken = 0u;
        ticks = code_blocks();
        if (!strip_waits() && picture.rows == picture.height && picture.taken == 0u && !picture.finished) {
            ticks += finish();
        }
    }
    const uint32_t left = picture.taken - picture.given;
    const uint32_t bytes = left < ROOM ? left : ROOM;
    (void)memcpy(reply + REPLY_BYTES, records + picture.given, bytes);
    picture.given += bytes;
    const bool ends = !strip_waits() && picture.given == picture.taken &&
                      (picture.rows != picture.height || picture.finished);
    pp_put32(reply, ticks);
    pp_put32(reply + 4, ends ? NO_MORE : MORE);
    *reply_bytes = REPLY_BYTES + bytes;
    return PP_OK;
}

static pp_status_t start(const uint8_t *payload, size_t payload_bytes, uint8_t *reply, size_t *reply_bytes)
{
    if (payload_bytes != BEGIN_BYTES) {
        return PP_BAD_LENGTH;
    }
    const uint32_t width = pp_get16(payload), height = pp_get16(payload + 2);
    if (width == 0u || width > PP_CODEC_WIDTH_MAX || height == 0u || payload[4] >= PP_CODEC_QUALITIES) {
        return PP_BAD_ARGUMENT;
    }
    pp_codec_begin(&codec, width, payload[4]);
    (void)memset(&picture, 0, sizeof picture);
    picture.width = width;
    picture.height = height;
    picture.column = codec.columns;
    pp_put16(reply, PP_CODEC_WIDTH_MAX);
    *reply_bytes = 2u;
    return PP_OK;
}

/* The strip below a picture whose height is no multiple of 8 repeats the last row. */
static void repeat_last_row(void)
{
    const uint32_t row_bytes = picture.width * 3u;
    for (uint32_t row = picture.rows % PP_CODEC_BLOCK; row != 0u && row < PP_CODEC_BLOCK; row++) {
        (void)memcpy(rows + row * row_bytes, rows + (row - 1u) * row_bytes, row_bytes);
    }
}

static pp_status_t take_rows(const uint8_t *payload, size_t payload_bytes, uint8_t *reply, size_t *reply_bytes)
{
    const uint32_t row_bytes = picture.width * 3u, strip_bytes = row_bytes * PP_CODEC_BLOCK;
    if (payload_bytes <= ROWS_BYTES || row_bytes == 0u) {
        return PP_BAD_LENGTH;
    }
    const uint32_t bytes = (uint32_t)payload_bytes - ROWS_BYTES, at = picture.next % strip_bytes;
    if (pp_get32(payload) != picture.next || at + bytes > strip_bytes || strip_waits() ||
        picture.next + bytes > row_bytes * picture.height) {
        return PP_BAD_ARGUMENT;
    }
    (void)memcpy(rows + at, payload + ROWS_BYTES, bytes);
    picture.next += bytes;
    picture.rows = picture.next / row_bytes;
    if (at + bytes == strip_bytes || picture.next == row_bytes * picture.height) {
        repeat_last_row();
        picture.column = 0u;
    }
    return answer(reply, reply_bytes);
}

pp_status_t pp_codec_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                             size_t *reply_bytes)
{
    switch (type) {
        case PP_CODEC_BEGIN: return start(payload, payload_bytes, reply, reply_bytes);
        case PP_CODEC_ROWS: return take_rows(payload, payload_bytes, reply, reply_bytes);
        case PP_CODEC_MORE: return payload_bytes == 0u ? answer(reply, reply_bytes) : PP_BAD_LENGTH;
        default: return PP_UNKNOWN_TYPE;
    }
}
