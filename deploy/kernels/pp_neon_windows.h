/* What the kernels of pp_neon.h share: windows, several at a time, and the blocks of rows that multiply them. */
#ifndef PP_NEON_WINDOWS_H
#define PP_NEON_WINDOWS_H

#include "pp_neon.h"

enum { PP_NEON_MOST = 4, PP_NEON_MOST_ROWS = 16 }; /* windows at once, rows of a block */

/* Windows of one group of channels, and where their outputs go. */
typedef struct {
    const pp_neon_phase_t *phase;
    const uint32_t *blocks;
    const int8_t *from[PP_NEON_MOST];
    int8_t *to[PP_NEON_MOST];
} pp_neon_windows_t;

typedef void pp_neon_tile_t(const pp_neon_t *layer, const pp_neon_windows_t *windows);

/* Kernels of a layout. */
typedef struct {
    pp_neon_tile_t *one;     /* for one window */
    pp_neon_tile_t *several;
    uint32_t windows;        /* that `several` takes */
} pp_neon_tiles_t;

/* Computes a layer. */
void pp_neon_convolve(const pp_neon_t *layer, const pp_neon_tiles_t *tiles, const int8_t *input, int8_t *output,
                      int8_t *scratch);

/* A kernel `name` from `tile(layer, windows, count, kind)`, which is compiled for one window and for `most`. */
#define PP_NEON_KERNEL(name, most, kind) \
    static void name##_of_one(const pp_neon_t *layer, const pp_neon_windows_t *windows) \
    { \
        tile(layer, windows, 1, kind); \
    } \
    static void name##_of_several(const pp_neon_t *layer, const pp_neon_windows_t *windows) \
    { \
        tile(layer, windows, most, kind); \
    } \
    void name(const pp_neon_t *layer, const void *input, void *output, void *scratch) \
    { \
        const pp_neon_tiles_t tiles = {name##_of_one, name##_of_several, most}; \
        pp_neon_convolve(layer, &tiles, input, output, scratch); \
    }

#endif
