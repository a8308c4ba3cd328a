/* Image encoder. See pp_codec.h; the same integers as core/codec_latents.py and core/range_coder.py. */
#include "pp_codec.h"

#include "policy.h"

#define CHANNELS PP_CODEC_CHANNELS
#define PREDICTED PP_CODEC_PREDICTED
#define NEIGHBOURS PP_CODEC_NEIGHBOURS
#define REACH (int32_t)PP_CODEC_REACH
#define ESCAPE (PP_CODEC_SYMBOLS - 1u)
#define RAW (16u - PP_CODEC_ESCAPE_BITS)
#define HALF (1 << (PP_CODEC_ESCAPE_BITS - 1u))
#define TOP (1u << 24)

_Static_assert(PP_INPUT_SIZE == PP_CODEC_PIXELS && PP_INPUT_BITS == 8, "the network must take a block as int8");
_Static_assert(PP_OUTPUT_SIZE == CHANNELS && PP_OUTPUT_BITS == 16, "the network must give every channel as int16");

typedef struct {
    pp_codec_take_t take;
    void *context;
} sink_t;

static void give(const sink_t *sink, uint32_t part, uint32_t byte, uint32_t count)
{
    if (count != 0u) {
        sink->take(sink->context, part, (uint8_t)byte, count);
    }
}

/* Move the highest byte of low out; it is held back as long as a carry may still reach it. */
static void shift(pp_codec_range_t *range, uint32_t part, const sink_t *sink)
{
    if (range->carry != 0u || range->low < 0xFF000000u) {
        give(sink, part, (uint32_t)range->held + range->carry, range->holds);
        give(sink, part, 0xFFu + range->carry, range->ones);
        range->ones = 0u;
        range->holds = 1u;
        range->held = (uint8_t)(range->low >> 24);
    } else {
        range->ones++;
    }
    range->carry = 0u;
    range->low <<= 8;
}

static void put(pp_codec_range_t *range, uint32_t below, uint32_t frequency, uint32_t part, const sink_t *sink)
{
    const uint32_t unit = range->range >> 16;
    const uint32_t low = range->low;
    range->low += unit * below;
    range->carry |= (uint8_t)(range->low < low);
    range->range = unit * frequency;
    while (range->range < TOP) {
        range->range <<= 8;
        shift(range, part, sink);
    }
}

static uint32_t level_of(uint32_t sum)
{
    uint32_t level = 0u;
    for (uint32_t step = PP_CODEC_LEVELS / 2u; step != 0u; step /= 2u) {
        if (sum >= pp_codec_thresholds[level + step - 1u]) {
            level += step;
        }
    }
    return level;
}

static int32_t quantized(int32_t output, uint32_t factor, uint32_t offset)
{
    const uint32_t size = (uint32_t)(output < 0 ? -output : output);
    const uint64_t scaled = (uint64_t)size * factor + ((uint64_t)offset << 24);
    const uint32_t steps = (uint32_t)(scaled >> 32);
    const int32_t limited = (int32_t)(steps < PP_CODEC_LARGEST ? steps : PP_CODEC_LARGEST);
    return output < 0 ? -limited : limited;
}

/* Median of left, above and left + above - corner. */
static int32_t predicted(int32_t left, int32_t above, int32_t corner)
{
    const int32_t low = left < above ? left : above, high = left < above ? above : left;
    const int32_t plane = left + above - corner;
    return plane < low ? low : (plane > high ? high : plane);
}

/* The number to code in place of a quantized one of the first channels. */
static int32_t difference(pp_codec_t *codec, uint32_t channel, int32_t number)
{
    int16_t *const here = codec->numbers + (codec->column + 1u) * PREDICTED + channel;
    const int32_t above = *here;
    const int32_t guess = predicted(here[-(int32_t)PREDICTED], above, codec->corner_numbers[channel]);
    codec->corner_numbers[channel] = (int16_t)above;
    *here = (int16_t)number;
    return number - guess;
}

static uint32_t context_level(pp_codec_t *codec, uint32_t channel)
{
    const uint8_t *const weights = pp_codec_weights[channel];
    const uint8_t *const left = codec->sizes + codec->column * CHANNELS;
    const uint8_t *const here = left + CHANNELS, *const right = here + CHANNELS;
    uint32_t sum = (uint32_t)weights[0] * left[channel] + (uint32_t)weights[1] * here[channel] +
                   (uint32_t)weights[2] * codec->corner_sizes[channel] + (uint32_t)weights[3] * right[channel];
    for (uint32_t i = 0u; i < PP_CODEC_REFERENCES; i++) {
        sum += (uint32_t)weights[NEIGHBOURS + i] * here[pp_codec_references[channel][i]];
    }
    return level_of(sum);
}

static void code_value(pp_codec_t *codec, uint32_t channel, int32_t value, const sink_t *sink)
{
    uint8_t *const here = codec->sizes + (codec->column + 1u) * CHANNELS + channel;
    const uint16_t *const below = pp_codec_below[pp_codec_table_of[channel][context_level(codec, channel)]];
    const uint32_t part = pp_codec_part_of[channel];
    const uint32_t size = (uint32_t)(value < 0 ? -value : value);
    const uint32_t symbol = size <= (uint32_t)REACH ? (uint32_t)(value + REACH) : ESCAPE;
    pp_codec_range_t *const range = &codec->ranges[part];
    put(range, below[symbol], (uint16_t)(below[symbol + 1u] - below[symbol]), part, sink);
    if (symbol == ESCAPE) {
        put(range, (uint32_t)(value + HALF) << RAW, 1u << RAW, part, sink);
    }
    codec->corner_sizes[channel] = *here;
    *here = (uint8_t)(size < PP_CODEC_LARGEST_MAGNITUDE ? size : PP_CODEC_LARGEST_MAGNITUDE);
}

static void next_column(pp_codec_t *codec)
{
    codec->column++;
    if (codec->column == codec->columns) {
        codec->column = 0u;
        for (uint32_t channel = 0u; channel < CHANNELS; channel++) {
            codec->corner_sizes[channel] = 0u;
        }
        for (uint32_t channel = 0u; channel < PREDICTED; channel++) {
            codec->corner_numbers[channel] = 0;
        }
    }
}

void pp_codec_begin(pp_codec_t *codec, uint32_t width, uint32_t quality)
{
    __builtin_memset(codec, 0, sizeof *codec);
    codec->factor = pp_codec_factors[quality];
    codec->columns = (width + PP_CODEC_BLOCK - 1u) / PP_CODEC_BLOCK;
    for (uint32_t part = 0u; part < PP_CODEC_PARTS; part++) {
        codec->ranges[part].range = 0xFFFFFFFFu;
    }
}

void pp_codec_block(pp_codec_t *codec, const int8_t pixels[PP_CODEC_PIXELS], pp_codec_take_t take, void *context)
{
    static pp_output_t outputs[CHANNELS] __attribute__((aligned(4)));
    const sink_t sink = {take, context};
    pp_infer(pixels, outputs);
    /* References are magnitudes of this block: each channel's is in place before a later one looks at it. */
    for (uint32_t channel = 0u; channel < CHANNELS; channel++) {
        int32_t value = quantized(outputs[channel], codec->factor, pp_codec_offsets[channel]);
        if (channel < PREDICTED) {
            value = difference(codec, channel, value);
        }
        code_value(codec, channel, value, &sink);
    }
    next_column(codec);
}

void pp_codec_cut(const uint8_t *rows, uint32_t width, uint32_t column, int8_t pixels[PP_CODEC_PIXELS])
{
    const uint32_t left = column * PP_CODEC_BLOCK;
    for (uint32_t y = 0u; y < PP_CODEC_BLOCK; y++) {
        for (uint32_t x = 0u; x < PP_CODEC_BLOCK; x++) {
            const uint32_t from = left + x < width ? left + x : width - 1u;
            const uint8_t *const pixel = rows + (y * width + from) * 3u;
            for (uint32_t colour = 0u; colour < 3u; colour++) {
                *pixels++ = (int8_t)((int32_t)pixel[colour] - 128);
            }
        }
    }
}

void pp_codec_strip(pp_codec_t *codec, const uint8_t *rows, uint32_t width, pp_codec_take_t take, void *context)
{
    static int8_t pixels[PP_CODEC_PIXELS] __attribute__((aligned(4)));
    for (uint32_t column = 0u; column < codec->columns; column++) {
        pp_codec_cut(rows, width, column, pixels);
        pp_codec_block(codec, pixels, take, context);
    }
}

/* The shortest number within the range: the file's reader takes what follows for zeros. */
static void finish_range(pp_codec_range_t *range, uint32_t part, const sink_t *sink)
{
    const uint64_t low = (uint64_t)range->carry << 32 | range->low;
    const uint64_t last = low + range->range - 1u;
    uint64_t value = last;
    for (uint32_t zeros = 24u;; zeros -= 8u) {
        value = last >> zeros << zeros;
        if (value >= low) {
            break;
        }
    }
    range->low = (uint32_t)value;
    range->carry = (uint8_t)(value >> 32);
    for (uint32_t i = 0u; i < 5u; i++) {
        shift(range, part, sink);
    }
}

void pp_codec_finish(pp_codec_t *codec, pp_codec_take_t take, void *context)
{
    const sink_t sink = {take, context};
    for (uint32_t part = 0u; part < PP_CODEC_PARTS; part++) {
        finish_range(&codec->ranges[part], part, &sink);
    }
}
