/* Rows by products of bytes, widened twice (SMULL, SMLAL2, SADALP), or of halfwords. See pp_neon.h. */
#include "pp_neon_windows.h"

enum { LARGER = 8, WINDOWS = 2 };

typedef enum { BYTES, NIBBLES, BYTES_S16 } kind_t;

#if defined(__ARM_NEON) && defined(__aarch64__)

#include "pp_neon_finish.h"

enum { MOST_GROUPS = 7 }; /* of 32 nibbles that int16 holds: each lane adds four products, at most 8 * 128 each */

/* A vector of inputs that is used again only after two sums are there: else compilers compute products of many rows before
 * they add the first, and run out of registers. */
#define PP_AFTER(input, sum, other) __asm__("" : "+w"(input) : "w"(sum), "w"(other))

enum { CHAINS = 4 }; /* products that wait for one another at once: as many as each takes cycles */

/* Sums [window][row] over lanes. */
typedef struct {
    int32x4_t of[WINDOWS][LARGER];
} sums_t;

/* Sixteen inputs of 8 bits, at the end eight. Two products of at most 127 * 128 fit in int16. */
PP_INLINE const int8_t *bytes(sums_t *sums, const int8_t *const *at, const int8_t *weights, uint32_t inputs, int count,
                              int rows)
{
    const int8_t *from[WINDOWS];
    PP_UNROLL
    for (int i = 0; i < count; i++) {
        from[i] = at[i];
    }
    for (; inputs >= 16u; inputs -= 16u) {
        int8x16_t x[WINDOWS];
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            x[i] = vld1q_s8(from[i]);
            from[i] += 16;
        }
        PP_UNROLL
        for (int row = 0; row < rows; row++) {
            const int8x16_t w = vld1q_s8(weights + 16 * row);
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                const int16x8_t product = vmull_s8(vget_low_s8(x[i]), vget_low_s8(w));
                sums->of[i][row] = vpadalq_s16(sums->of[i][row], vmlal_high_s8(product, x[i], w));
            }
            if ((row + 1) * count % CHAINS == 0) {
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    PP_AFTER(x[i], sums->of[i][row - 1], sums->of[i][row]);
                }
            }
        }
        weights += 16 * rows;
    }
    if (inputs != 0u) {
        PP_UNROLL
        for (int row = 0; row < rows; row++) {
            const int8x8_t w = vld1_s8(weights + 8 * row);
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                sums->of[i][row] = vpadalq_s16(sums->of[i][row], vmull_s8(vld1_s8(from[i]), w));
            }
        }
        weights += 8 * rows;
    }
    return weights;
}

/* Thirty-two inputs of 8 bits, at the end sixteen. */
PP_INLINE const int8_t *nibbles(sums_t *sums, const int8_t *const *at, const int8_t *weights, uint32_t inputs,
                                int count, int rows)
{
    const int8_t *from[WINDOWS];
    PP_UNROLL
    for (int i = 0; i < count; i++) {
        from[i] = at[i];
    }
    while (inputs != 0u) {
        int16x8_t products[WINDOWS][LARGER];
        PP_UNROLL
        for (int row = 0; row < rows; row++) {
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                products[i][row] = vdupq_n_s16(0);
            }
        }
        for (uint32_t group = 0; group < MOST_GROUPS && inputs >= 32u; group++, inputs -= 32u) {
            int8x16_t x[WINDOWS], y[WINDOWS];
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                x[i] = vld1q_s8(from[i]);
                y[i] = vld1q_s8(from[i] + 16);
                from[i] += 32;
            }
            PP_UNROLL
            for (int row = 0; row < rows; row++) {
                const int8x16_t both = vld1q_s8(weights + 16 * row);
                const int8x16_t low = vshrq_n_s8(vshlq_n_s8(both, 4), 4);
                const int8x16_t high = vshrq_n_s8(both, 4);
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    products[i][row] = vmlal_s8(products[i][row], vget_low_s8(x[i]), vget_low_s8(low));
                    products[i][row] = vmlal_high_s8(products[i][row], x[i], low);
                    products[i][row] = vmlal_s8(products[i][row], vget_low_s8(y[i]), vget_low_s8(high));
                    products[i][row] = vmlal_high_s8(products[i][row], y[i], high);
                }
            }
            weights += 16 * rows;
        }
        if (inputs == 16u) { /* two products more: int16 still holds them */
            PP_UNROLL
            for (int row = 0; row < rows; row++) {
                const int8x8_t both = vld1_s8(weights + 8 * row);
                const int8x16_t apart = vcombine_s8(vshr_n_s8(vshl_n_s8(both, 4), 4), vshr_n_s8(both, 4));
                PP_UNROLL
                for (int i = 0; i < count; i++) {
                    const int8x16_t x = vld1q_s8(from[i]);
                    products[i][row] = vmlal_s8(products[i][row], vget_low_s8(x), vget_low_s8(apart));
                    products[i][row] = vmlal_high_s8(products[i][row], x, apart);
                }
            }
            weights += 8 * rows;
            inputs = 0;
        }
        PP_UNROLL
        for (int row = 0; row < rows; row++) {
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                sums->of[i][row] = vpadalq_s16(sums->of[i][row], products[i][row]);
            }
        }
    }
    return weights;
}

PP_INLINE int32x4_t products_s16(int32x4_t sum, int16x8_t x, int16x8_t w)
{
    return vmlal_high_s16(vmlal_s16(sum, vget_low_s16(x), vget_low_s16(w)), x, w);
}

/* Sixteen inputs of 16 bits, at the end eight. */
PP_INLINE const int8_t *bytes_s16(sums_t *sums, const int8_t *const *at, const int8_t *weights, uint32_t inputs,
                                  int count, int rows)
{
    const int16_t *from[WINDOWS];
    PP_UNROLL
    for (int i = 0; i < count; i++) {
        from[i] = (const int16_t *)(const void *)at[i];
    }
    for (; inputs >= 16u; inputs -= 16u) {
        int16x8_t x[WINDOWS], y[WINDOWS];
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            x[i] = vld1q_s16(from[i]);
            y[i] = vld1q_s16(from[i] + 8);
            from[i] += 16;
        }
        PP_UNROLL
        for (int row = 0; row < rows; row++) {
            const int8x16_t w = vld1q_s8(weights + 16 * row);
            const int16x8_t low = vmovl_s8(vget_low_s8(w));
            const int16x8_t high = vmovl_high_s8(w);
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                sums->of[i][row] = products_s16(products_s16(sums->of[i][row], x[i], low), y[i], high);
            }
        }
        weights += 16 * rows;
    }
    if (inputs != 0u) {
        PP_UNROLL
        for (int row = 0; row < rows; row++) {
            const int16x8_t w = vmovl_s8(vld1_s8(weights + 8 * row));
            PP_UNROLL
            for (int i = 0; i < count; i++) {
                sums->of[i][row] = products_s16(sums->of[i][row], vld1q_s16(from[i]), w);
            }
        }
        weights += 8 * rows;
    }
    return weights;
}

/* A block over some windows; returns what lies behind it. */
PP_INLINE const uint32_t *block(const pp_neon_ending_t *ending, const pp_neon_windows_t *windows,
                                const uint32_t *words, int count, int rows, kind_t kind, uint32_t first)
{
    sums_t sums;
    PP_UNROLL
    for (int row = 0; row < rows; row++) {
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            sums.of[i][row] = vdupq_n_s32(0);
        }
    }
    const int8_t *weights = (const int8_t *)(words + rows);
    const uint32_t inputs = windows->row->inputs;
    const uint32_t parts = windows->row->parts;
    for (uint32_t part = 0; part < parts; part++) {
        const int32_t offset = windows->row->offsets[part];
        const int8_t *at[WINDOWS];
        PP_UNROLL
        for (int i = 0; i < count; i++) {
            at[i] = windows->from[i] + offset;
        }
        weights = kind == BYTES     ? bytes(&sums, at, weights, inputs, count, rows)
                  : kind == NIBBLES ? nibbles(&sums, at, weights, inputs, count, rows)
                                    : bytes_s16(&sums, at, weights, inputs, count, rows);
    }
    int32x4_t multipliers[LARGER / 4], biases[LARGER / 4];
    PP_UNROLL
    for (int v = 0; v < rows / 4; v++) {
        biases[v] = vld1q_s32((const int32_t *)words + 4 * v);
        multipliers[v] = vld1q_s32((const int32_t *)(const void *)weights + 4 * v);
    }
    PP_UNROLL
    for (int i = 0; i < count; i++) {
        int32x4_t of_rows[LARGER / 4];
        PP_UNROLL
        for (int v = 0; v < rows / 4; v++) {
            const int32x4_t *const four = sums.of[i] + 4 * v;
            of_rows[v] = vpaddq_s32(vpaddq_s32(four[0], four[1]), vpaddq_s32(four[2], four[3]));
            of_rows[v] = vaddq_s32(of_rows[v], biases[v]);
        }
        pp_neon_store(of_rows, multipliers, rows / 4, ending, windows->to[i], first);
    }
    return (const uint32_t *)(const void *)weights + rows;
}

PP_INLINE void tile(const pp_neon_t *layer, const pp_neon_ending_t *ending,
                    const pp_neon_windows_t *windows, int count, kind_t kind)
{
    const uint32_t *words = windows->row->blocks;
    uint32_t first = 0;
    for (; layer->block_rows == LARGER && ending->share - first >= LARGER; first += LARGER) {
        words = block(ending, windows, words, count, LARGER, kind, first);
    }
    for (; first < ending->share; first += 4u) {
        words = block(ending, windows, words, count, 4, kind, first);
    }
}

#else

#include "pp_neon_twin.h"

static void tile(const pp_neon_t *layer, const pp_neon_ending_t *ending, const pp_neon_windows_t *windows,
                 uint32_t count, kind_t kind)
{
    (void)ending;
    pp_neon_tile(layer, windows, count, 16, kind == NIBBLES ? 2u : 1u, 0);
}

#endif

PP_NEON_KERNEL(pp_neon_rows_bytes, WINDOWS, BYTES)
PP_NEON_KERNEL(pp_neon_rows_nibbles, WINDOWS, NIBBLES)
PP_NEON_KERNEL(pp_neon_rows_bytes_s16, WINDOWS, BYTES_S16)
