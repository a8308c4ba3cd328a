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
                                const uint32_t *words, int count, int vectors, kind_t kind, uint32_t first)
{
    const bool nibbles = kind == NIBBLES, wide = kind == BYTES_S16;
    const uint32_t bytes = wide ? 2 : 1;
    int32x4_t uppers[WINDOWS][4];
    int32x4_t sums[WINDOWS][4];
    PP_UNROLL
    for (int v = 0; v < vectors; v++) {
        const int32x4_t bias = vld1q_s32((const int32_t *)words + 4 * v);
        PP_UNROLL
        for (int i = 0; i < count; i++) {
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
            if (wide) { \
                uppers[i][v] = vdotq_laneq_s32(uppers[i][v], w[v], upper[i], lane); \
            } \
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

    const uint32_t parts = windows->phase->parts;
    const uint32_t inputs = windows->phase->inputs;
    for (uint32_t part = 0; part < parts; part++) {
        const int32_t offset = windows->phase->offsets[part];
        const int8_t *from[WINDOWS];
        int8x16_t x[WINDOWS], upper[WINDOWS];
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            from[i] = windows->from[i] + offset;
        }
        uint32_t left = inputs;
        for (; left >= 16u; left -= 16u) {
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
        if (nibbles) {
            if (left != 0u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    x[i] = load(from[i], 8, wide, upper + i);
                }
                OF_NIBBLES(0)
            }
        } else {
            if (left >= 8u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    x[i] = load(from[i], 8, wide, upper + i);
                    from[i] += 8u * bytes;
                }
                OF_BYTES(0)
                OF_BYTES(1)
                left -= 8u;
            }
            if (left != 0u) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    x[i] = load(from[i], 4, wide, upper + i);
                }
                OF_BYTES(0)
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
            sums[i][v] = wide ? vaddq_s32(sums[i][v], vshlq_n_s32(uppers[i][v], 8)) : sums[i][v];
        }
        pp_neon_store(sums[i], multipliers, vectors, ending, windows->to[i], first);
    }
    return (const uint32_t *)(const void *)weights + 4 * vectors;
}

PP_INLINE void tile(const pp_neon_t *layer, const pp_neon_windows_t *windows, int count, kind_t kind)
{
    const pp_neon_ending_t ending = pp_neon_ending(layer);
    const uint32_t *words = windows->blocks;
    uint32_t first = 0;
    for (; ending.share - first >= LARGER; first += LARGER) {
        words = block(&ending, windows, words, count, LARGER / 4, kind, first);
    }
    if (ending.share - first >= 8u) {
        words = block(&ending, windows, words, count, 2, kind, first);
        first += 8u;
    }
    for (; first < ending.share; first += 4u) {
        words = block(&ending, windows, words, count, 1, kind, first);
    }
}

#else

#include "pp_neon_twin.h"

static void tile(const pp_neon_t *layer, const pp_neon_windows_t *windows, uint32_t count, kind_t kind)
{
    pp_neon_tile(layer, windows, count, 4, kind == NIBBLES ? 2u : 1u, kind == BYTES_S16 ? 128 : 0);
}

#endif

PP_NEON_KERNEL(pp_neon_dot_bytes, WINDOWS, BYTES)
PP_NEON_KERNEL(pp_neon_dot_nibbles, WINDOWS, NIBBLES)
PP_NEON_KERNEL(pp_neon_dot_bytes_s16, WINDOWS_S16, BYTES_S16)
