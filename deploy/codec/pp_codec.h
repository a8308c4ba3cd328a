/* Image encoder: blocks of 8x8 pixels through the network, its outputs quantized, put into contexts, range coded.
 *
 *     static pp_codec_t codec;
 *     pp_codec_begin(&codec, width, quality);
 *     for each 8 rows, top to bottom:
 *         pp_codec_strip(&codec, rows, take, context);
 *     pp_codec_finish(&codec, take, context);
 *
 * take() gets the bytes of every part of the file as they come; the parts side by side, each with its length and
 * checksum, are the file (docs/codec.md). What is kept of a picture is one strip's magnitudes: any height goes through. */
#ifndef PP_CODEC_H
#define PP_CODEC_H

#include <stdint.h>

#include "pp_codec_tables.h"

#define PP_CODEC_BLOCK 8u
#define PP_CODEC_PIXELS (3u * PP_CODEC_BLOCK * PP_CODEC_BLOCK) /* values of a block: red, green, blue, pixel by pixel */
#define PP_CODEC_COLUMNS ((PP_CODEC_WIDTH_MAX + PP_CODEC_BLOCK - 1u) / PP_CODEC_BLOCK)
#define PP_CODEC_QUALITIES 16u

/* Bytes of one part of the file: the same byte `count` times, as a carry can release many at once. */
typedef void (*pp_codec_take_t)(void *context, uint32_t part, uint8_t byte, uint32_t count);

/* A range coder between two symbols. */
typedef struct {
    uint32_t low;
    uint32_t range;
    uint32_t ones; /* bytes 0xFF behind the one that is held */
    uint8_t carry;
    uint8_t holds; /* whether there is a byte that a carry may still change */
    uint8_t held;
} pp_codec_range_t;

typedef struct {
    uint32_t factor;  /* an output times this is 2^32 quantizer steps */
    uint32_t columns; /* of blocks */
    uint32_t column;  /* the next block's */
    pp_codec_range_t ranges[PP_CODEC_PARTS];
    /* By column and channel, a border of zeros on both sides: this row up to the next block, the row above from it on. */
    uint8_t sizes[(PP_CODEC_COLUMNS + 2u) * PP_CODEC_CHANNELS];
    int16_t numbers[(PP_CODEC_COLUMNS + 1u) * PP_CODEC_PREDICTED];
    uint8_t corner_sizes[PP_CODEC_CHANNELS]; /* above and left of the next block */
    int16_t corner_numbers[PP_CODEC_PREDICTED];
} pp_codec_t;

/* Start a picture. width: pixels, from 1 to PP_CODEC_WIDTH_MAX; quality: below PP_CODEC_QUALITIES. */
void pp_codec_begin(pp_codec_t *codec, uint32_t width, uint32_t quality);

/* Code the next block of the current row of blocks, left to right; behind the last one the next row begins.
 * pixels: each pixel less 128. */
void pp_codec_block(pp_codec_t *codec, const int8_t pixels[PP_CODEC_PIXELS], pp_codec_take_t take, void *context);

/* Code eight rows of pixels, width * 3 bytes each; a width that is no multiple of 8 repeats its last pixel. */
void pp_codec_strip(pp_codec_t *codec, const uint8_t *rows, uint32_t width, pp_codec_take_t take, void *context);

/* Cut block `column` out of eight rows of pixels. */
void pp_codec_cut(const uint8_t *rows, uint32_t width, uint32_t column, int8_t pixels[PP_CODEC_PIXELS]);

/* The last bytes of every part; zeros at the end of a part may be left out of the file. */
void pp_codec_finish(pp_codec_t *codec, pp_codec_take_t take, void *context);

/* Static tables: pp_codec_tables.c. */
extern const uint32_t pp_codec_factors[PP_CODEC_QUALITIES];
extern const uint8_t pp_codec_offsets[PP_CODEC_CHANNELS];
extern const uint8_t pp_codec_part_of[PP_CODEC_CHANNELS];
extern const uint8_t pp_codec_weights[PP_CODEC_CHANNELS][PP_CODEC_NEIGHBOURS + PP_CODEC_REFERENCES];
extern const uint8_t pp_codec_references[PP_CODEC_CHANNELS][PP_CODEC_REFERENCES];
extern const uint8_t pp_codec_table_of[PP_CODEC_CHANNELS][PP_CODEC_LEVELS];
extern const uint16_t pp_codec_thresholds[PP_CODEC_LEVELS - 1u];
extern const uint16_t pp_codec_below[PP_CODEC_TABLES][PP_CODEC_SYMBOLS + 1u]; /* the last is 2^16, kept as 0 */

#endif
