/* Rows by dot products of four bytes (SDOT), each row a lane. See pp_neon.h. */
#include "pp_neon_windows.h"

enum { LARGER = 16, WINDOWS = 4, WINDOWS_S16 = 2 };

typedef enum { BYTES, NIBBLES, BYTES_S16 } kind_t;

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)

#include "pp_neon_finish.h"

/* Sixteen, eight or four inputs, those of 16 bits as their lower bytes less 128 and their upper ones. */
PP_INLINE int8x16_t load(const int8_t *from, uint32_t inputs, bool wide, int8x16_t *upper)
{
    int8x16_t a = vdupq_n_s8(0), b = a;
    if (inputs == 16u) {
        a = vld1q_s8(from);
        b = wide ? vld1q_s8(from + 16) : a;
    } else if (inputs == 8u) {
        a = wide ? vld1q_s8(from) : vcombine_s8(vld1_s8(from), vdup_n_s8(0));
    } else if (wide) {
        a = vcombine_s8(vld1_s8(from), vdup_n_s8(0));
    } else {
        int32_t four;
        memcpy(&four, from, sizeof four);
        a = vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    *upper = wide ? vuzp2q_s8(a, b) : a;
    return wide ? veorq_s8(vuzp1q_s8(a, b), vdupq_n_s8(-128)) : a;
}

/* A block of 4 * `vectors` rows over some windows. In nibbles weights are taken sixteen times too large, which needs
 * fewer instructions than to extend their sign; the sums are divided by sixteen, without a remainder. Inputs of 16 bits
 * are multiplied byte by byte; what the lower ones lack is in the biases, and sums may wrap before both are together.
 * Returns what lies behind the block. */
PP_INLINE const uint32_t *block(const pp_neon_ending_t *ending, const pp_neon_windows_t *windows,
                                const uint32_t *words, int count, int vectors, kind_t kind, uint32_t first,
                                bool whole)
{
    const bool nibbles = kind == NIBBLES, wide = kind == BYTES_S16;
    const bool held = !wide || count > 1;
    const uint32_t bytes = wide ? 2 : 1;
    int32x4_t uppers[WINDOWS][4];
    int32x4_t sums[WINDOWS][4];
    PP_UNROLL
    for (int i = 0; i < count; i++) {
        __asm__("" : "+r"(words)); /* loaded again, two at a time, which takes fewer instructions than to copy them */
        PP_UNROLL
        for (int v = 0; v < vectors; v++) {
            const int32x4_t bias = vld1q_s32((const int32_t *)words + 4 * v);
            sums[i][v] = nibbles ? vshlq_n_s32(bias, 4) : bias;
            uppers[i][v] = vdupq_n_s32(0);
        }
    }
    const int8_t *weights = (const int8_t *)(words + 4 * vectors);

#define DOTS(w, lane) \
    PP_UNROLL \
    for (int i = 0; i < count; i++) { \
        PP_UNROLL \
        for (int v = 0; v < vectors; v++) { \
            sums[i][v] = vdotq_laneq_s32(sums[i][v], w[v], x[i], lane); \
            if (held) { \
                PP_WHOLE(sums[i][v]); \
            } \
            if (wide) { \
                uppers[i][v] = vdotq_laneq_s32(uppers[i][v], w[v], upper[i], lane); \
            } \
        } \
    }

/* Sums stay in their registers: else compilers move them from one to another around a loop. */
#define HOLD \
    PP_UNROLL \
    for (int i = 0; i < count && held; i++) { \
        PP_UNROLL \
        for (int v = 0; v < vectors; v++) { \
            PP_WHOLE(sums[i][v]); \
        } \
    }

#define LOAD(w) \
    int8x16_t w[4]; \
    PP_UNROLL \
    for (int v = 0; v < vectors; v++) { \
        w[v] = vld1q_s8(weights + 16 * v); \
    } \
    weights += 16 * vectors;

#define OF_BYTES(lane) \
    { \
        LOAD(w) \
        DOTS(w, lane) \
    }

#define OF_NIBBLES(lane) \
    { \
        LOAD(both) \
        int8x16_t low[4], high[4]; \
        PP_UNROLL \
        for (int v = 0; v < vectors; v++) { \
            low[v] = vshlq_n_s8(both[v], 4); \
            high[v] = vandq_s8(both[v], vdupq_n_s8(-16)); \
        } \
        DOTS(low, lane) \
        DOTS(high, lane + 1) \
    }

    const uint32_t inputs = windows->row->inputs;
    const int32_t *offset = windows->row->offsets;
    for (uint32_t left = windows->row->parts; left != 0u; left--, offset++) {
        const int8_t *from[WINDOWS];
        int8x16_t x[WINDOWS], upper[WINDOWS];
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            from[i] = windows->from[i] + *offset;
        }
        HOLD
        for (uint32_t steps = inputs / 16u; steps != 0u; steps--) {
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                x[i] = load(from[i], 16, wide, upper + i);
                from[i] += 16u * bytes;
            }
            if (nibbles) {
                OF_NIBBLES(0)
                OF_NIBBLES(2)
            } else {
                OF_BYTES(0)
                OF_BYTES(1)
                OF_BYTES(2)
                OF_BYTES(3)
            }
        }
        HOLD
        if (whole) {
            continue;
        }
        if (nibbles) {
            if (inputs % 16u != 0u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    x[i] = load(from[i], 8, wide, upper + i);
                }
                OF_NIBBLES(0)
            }
        } else {
            if (inputs % 16u >= 8u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    x[i] = load(from[i], 8, wide, upper + i);
                    from[i] += 8u * bytes;
                }
                OF_BYTES(0)
                OF_BYTES(1)
            }
            if (inputs % 8u != 0u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    x[i] = load(from[i], 4, wide, upper + i);
                }
                OF_BYTES(0)
            }
        }
    }
    HOLD
    int32x4_t multipliers[4];
    PP_UNROLL
    for (int v = 0; v < vectors; v++) {
        multipliers[v] = vld1q_s32((const int32_t *)(const void *)weights + 4 * v);
    }
    PP_UNROLL
    for (int i = 0; i < count; i++) {
        PP_UNROLL
        for (int v = 0; v < vectors; v++) {
            sums[i][v] = nibbles ? vshrq_n_s32(sums[i][v], 4) : sums[i][v];
            sums[i][v] = wide ? vaddq_s32(sums[i][v], vshlq_n_s32(uppers[i][v], 8)) : sums[i][v];
        }
        pp_neon_store(sums[i], multipliers, vectors, ending, windows->to[i], first);
    }
    return (const uint32_t *)(const void *)weights + 4 * vectors;
}

PP_INLINE void tile(const pp_neon_t *layer, const pp_neon_ending_t *ending, const pp_neon_windows_t *windows, int count,
                    kind_t kind)
{
    const uint32_t *words = windows->row->blocks;
    uint32_t first = 0;
    (void)layer;
    for (; ending->share - first >= LARGER; first += LARGER) {
        words = block(ending, windows, words, count, LARGER / 4, kind, first, false);
    }
    if (ending->share - first >= 8u) {
        words = block(ending, windows, words, count, 2, kind, first, false);
        first += 8u;
    }
    for (; first < ending->share; first += 4u) {
        words = block(ending, windows, words, count, 1, kind, first, false);
    }
}

/* The windows of a row, four by four, of bytes that are whole steps, the rows of weights being whole blocks and the ending
 * plain. Compilers find registers for this alone more easily. */
static __attribute__((noinline)) void whole_tiles(const pp_neon_t *layer, const pp_neon_row_t *row)
{
    pp_neon_ending_t ending = pp_neon_ending(layer);
    ending.plain = true;
    ending.bytes = 1;
    pp_neon_windows_t windows = {.row = row};
    const int8_t *from = row->from;
    int8_t *to = row->to;
    for (uint32_t left = row->count; left >= WINDOWS; left -= WINDOWS) {
        const uint32_t *words = row->blocks;
        PP_UNROLL
        for (int i = 0; i < WINDOWS; i++) {
            windows.from[i] = from;
            windows.to[i] = to;
            from += row->from_step;
            to += row->to_step;
        }
        for (uint32_t first = 0; first < ending.share; first += LARGER) {
            words = block(&ending, &windows, words, WINDOWS, LARGER / 4, BYTES, first, true);
        }
    }
}

static bool is_whole(const pp_neon_t *layer, const pp_neon_row_t *row)
{
    return row->inputs % 16u == 0u && layer->share % LARGER == 0u && layer->output_bytes == 1u && layer->shift == 0;
}

#else

#include "pp_neon_twin.h"

static void whole_tiles(const pp_neon_t *layer, const pp_neon_row_t *row)
{
    (void)layer;
    (void)row;
}

static bool is_whole(const pp_neon_t *layer, const pp_neon_row_t *row)
{
    (void)layer;
    (void)row;
    return false;
}

static void tile(const pp_neon_t *layer, const pp_neon_ending_t *ending, const pp_neon_windows_t *windows,
                 uint32_t count, kind_t kind)
{
    (void)ending;
    pp_neon_tile(layer, windows, count, 4, kind == NIBBLES ? 2u : 1u, kind == BYTES_S16 ? 128 : 0);
}

#endif

PP_NEON_ROW(any_bytes, WINDOWS, BYTES)

static void bytes_row(const pp_neon_t *layer, const pp_neon_row_t *row)
{
    if (!is_whole(layer, row)) {
        any_bytes(layer, row);
        return;
    }
    whole_tiles(layer, row);
    pp_neon_row_t rest = *row;
    const uint32_t done = row->count / WINDOWS * WINDOWS;
    rest.from += done * row->from_step;
    rest.to += done * row->to_step;
    rest.count -= done;
    any_bytes(layer, &rest);
}

void pp_neon_dot_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch)
{
    pp_neon_convolve(layer, bytes_row, WINDOWS, input, output, scratch);
}

PP_NEON_KERNEL(pp_neon_dot_nibbles, WINDOWS, NIBBLES)
PP_NEON_KERNEL(pp_neon_dot_bytes_s16, WINDOWS_S16, BYTES_S16)
