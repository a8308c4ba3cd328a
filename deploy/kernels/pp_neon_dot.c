/* Rows by dot products of four bytes (SDOT), each row a lane. See pp_neon.h. */
#include "pp_neon_windows.h"

enum { LARGER = 16, WINDOWS = 4 };

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)

#include "pp_neon_finish.h"

/* A block of 4 * `vectors` rows over some windows. In nibbles weights are taken sixteen times too large, which needs
 * fewer instructions than to extend their sign; the sums are divided by sixteen, without a remainder.
 * Returns what lies behind the block. */
PP_INLINE const uint32_t *block(const pp_neon_ending_t *ending, const pp_neon_windows_t *windows,
                                const uint32_t *words, int count, int vectors, bool nibbles, uint32_t first)
{
    int32x4_t sums[WINDOWS][4];
    PP_UNROLL
    for (int v = 0; v < vectors; v++) {
        const int32x4_t bias = vld1q_s32((const int32_t *)words + 4 * v);
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            sums[i][v] = nibbles ? vshlq_n_s32(bias, 4) : bias;
        }
    }
    const int8_t *weights = (const int8_t *)(words + 4 * vectors);

#define DOTS(w, lane) \
    PP_UNROLL \
    for (int i = 0; i < count; i++) { \
        PP_UNROLL \
        for (int v = 0; v < vectors; v++) { \
            sums[i][v] = vdotq_laneq_s32(sums[i][v], w[v], x[i], lane); \
        } \
    }

#define LOAD(w) \
    int8x16_t w[4]; \
    if (vectors == 4) { \
        const int8x16x4_t four = vld1q_s8_x4(weights); \
        w[0] = four.val[0], w[1] = four.val[1], w[2] = four.val[2], w[3] = four.val[3]; \
    } else { \
        w[0] = vld1q_s8(weights); \
        w[1] = vectors == 2 ? vld1q_s8(weights + 16) : w[0]; \
    } \
    weights += 16 * vectors;

#define BYTES(lane) \
    { \
        LOAD(w) \
        DOTS(w, lane) \
    }

#define NIBBLES(lane) \
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

    const uint32_t parts = windows->phase->parts;
    const uint32_t inputs = windows->phase->inputs;
    for (uint32_t part = 0; part < parts; part++) {
        const int32_t offset = windows->phase->offsets[part];
        const int8_t *from[WINDOWS];
        int8x16_t x[WINDOWS];
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            from[i] = windows->from[i] + offset;
        }
        uint32_t left = inputs;
        for (; left >= 16u; left -= 16u) {
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                x[i] = vld1q_s8(from[i]);
                from[i] += 16;
            }
            if (nibbles) {
                NIBBLES(0)
                NIBBLES(2)
            } else {
                BYTES(0)
                BYTES(1)
                BYTES(2)
                BYTES(3)
            }
        }
        if (nibbles) {
            if (left != 0u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    x[i] = vcombine_s8(vld1_s8(from[i]), vdup_n_s8(0));
                }
                NIBBLES(0)
            }
        } else {
            if (left >= 8u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    x[i] = vcombine_s8(vld1_s8(from[i]), vdup_n_s8(0));
                    from[i] += 8;
                }
                BYTES(0)
                BYTES(1)
                left -= 8u;
            }
            if (left != 0u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    int32_t four;
                    memcpy(&four, from[i], sizeof four);
                    x[i] = vreinterpretq_s8_s32(vdupq_n_s32(four));
                }
                BYTES(0)
            }
        }
    }
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
        }
        pp_neon_store(sums[i], multipliers, vectors, ending, windows->to[i], first);
    }
    return (const uint32_t *)(const void *)weights + 4 * vectors;
}

PP_INLINE void tile(const pp_neon_t *layer, const pp_neon_windows_t *windows, int count, bool nibbles)
{
    const pp_neon_ending_t ending = pp_neon_ending(layer);
    const uint32_t *words = windows->blocks;
    uint32_t first = 0;
    for (; ending.share - first >= LARGER; first += LARGER) {
        words = block(&ending, windows, words, count, LARGER / 4, nibbles, first);
    }
    if (ending.share - first >= 8u) {
        words = block(&ending, windows, words, count, 2, nibbles, first);
        first += 8u;
    }
    for (; first < ending.share; first += 4u) {
        words = block(&ending, windows, words, count, 1, nibbles, first);
    }
}

#else

#include "pp_neon_twin.h"

static void tile(const pp_neon_t *layer, const pp_neon_windows_t *windows, uint32_t count, bool nibbles)
{
    pp_neon_tile(layer, windows, count, 4, nibbles ? 2u : 1u);
}

#endif

static void bytes_of_one(const pp_neon_t *layer, const pp_neon_windows_t *windows)
{
    tile(layer, windows, 1, false);
}

static void bytes_of_four(const pp_neon_t *layer, const pp_neon_windows_t *windows)
{
    tile(layer, windows, WINDOWS, false);
}

static void nibbles_of_one(const pp_neon_t *layer, const pp_neon_windows_t *windows)
{
    tile(layer, windows, 1, true);
}

static void nibbles_of_four(const pp_neon_t *layer, const pp_neon_windows_t *windows)
{
    tile(layer, windows, WINDOWS, true);
}

void pp_neon_dot_bytes(const pp_neon_t *layer, const void *input, void *output, void *scratch)
{
    const pp_neon_tiles_t tiles = {bytes_of_one, bytes_of_four, WINDOWS};
    pp_neon_convolve(layer, &tiles, input, output, scratch);
}

void pp_neon_dot_nibbles(const pp_neon_t *layer, const void *input, void *output, void *scratch)
{
    const pp_neon_tiles_t tiles = {nibbles_of_one, nibbles_of_four, WINDOWS};
    pp_neon_convolve(layer, &tiles, input, output, scratch);
}
