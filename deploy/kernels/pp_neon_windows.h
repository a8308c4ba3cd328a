/* What the kernels of pp_neon.h share: windows, several at a time, and the blocks of rows that multiply them. */
#ifndef PP_NEON_WINDOWS_H
#define PP_NEON_WINDOWS_H

#include "pp_neon.h"
#include "pp_neon_inline.h"

enum { PP_NEON_MOST = 4, PP_NEON_MOST_ROWS = 16 }; /* windows at once, rows of a block */

/* Windows of one group of channels, evenly apart. */
typedef struct {
    const uint32_t *blocks;
    const int32_t *offsets; /* bytes from a window's origin to each part */
    uint32_t parts;
    uint32_t inputs;        /* of a part */
    uint32_t count;
    uint32_t from_step;     /* bytes from a window's origin to the next one's */
    uint32_t to_step;       /* and between their outputs */
    const int8_t *from;
    int8_t *to;
} pp_neon_row_t;

typedef void pp_neon_row_kernel_t(const pp_neon_t *layer, const pp_neon_row_t *row);

/* Those of them that are computed at once. */
typedef struct {
    const pp_neon_row_t *row;
    const int8_t *from[PP_NEON_MOST];
    int8_t *to[PP_NEON_MOST];
} pp_neon_windows_t;

/* Computes a layer.
 *   most  windows that the kernel computes at once */
void pp_neon_convolve(const pp_neon_t *layer, pp_neon_row_kernel_t *kernel, uint32_t most, const int8_t *input,
                      int8_t *output, int8_t *scratch);

/* `count` windows from one on; the last again, where there are too few. */
PP_INLINE void pp_neon_take(pp_neon_windows_t *windows, uint32_t first, uint32_t count)
{
    const pp_neon_row_t *const row = windows->row;
    const int8_t *from = row->from + first * row->from_step;
    int8_t *to = row->to + first * row->to_step;
    PP_UNROLL
    for (uint32_t i = 0; i < count; i++) {
        windows->from[i] = from;
        windows->to[i] = to;
        if (first + i + 1u < row->count) {
            from += row->from_step;
            to += row->to_step;
        }
    }
}

/* A kernel of rows `name` from `tile(layer, ending, windows, count, kind)`, which is compiled for one window and for `most`. */
#define PP_NEON_ROW(name, most, kind) \
    static void name(const pp_neon_t *layer, const pp_neon_row_t *row) \
    { \
        const pp_neon_ending_t ending = pp_neon_ending(layer); \
        const pp_neon_row_t here = *row; /* which no output can change */ \
        pp_neon_windows_t windows = {.row = &here}; \
        uint32_t i = 0; \
        for (; i + 1u < here.count; i += most) { \
            pp_neon_take(&windows, i, most); \
            tile(layer, &ending, &windows, most, kind); \
        } \
        if (i < here.count) { \
            pp_neon_take(&windows, i, 1); \
            tile(layer, &ending, &windows, 1, kind); \
        } \
    }

/* And one of layers. */
#define PP_NEON_KERNEL(name, most, kind) \
    PP_NEON_ROW(name##_row, most, kind) \
    void name(const pp_neon_t *layer, const void *input, void *output, void *scratch) \
    { \
        pp_neon_convolve(layer, name##_row, most, input, output, scratch); \
    }

#endif
