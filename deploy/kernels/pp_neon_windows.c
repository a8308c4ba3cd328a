/* Windows of a layer, several at a time. See pp_neon.h. */
#include "pp_neon_windows.h"

#include <string.h>

/* Windows that wait to be computed together. */
typedef struct {
    const pp_neon_t *layer;
    const pp_neon_tiles_t *tiles;
    uint32_t count;
    pp_neon_windows_t windows;
} waiting_t;

/* Runs are short and many, so they are copied here, the last bytes perhaps twice. */
static inline void copy(int8_t *to, const int8_t *from, uint32_t bytes)
{
    if (bytes >= 16u) {
        uint32_t at = 0;
        for (; at + 64u < bytes; at += 64u) {
            memcpy(to + at, from + at, 64);
        }
        for (; at + 16u < bytes; at += 16u) {
            memcpy(to + at, from + at, 16);
        }
        memcpy(to + bytes - 16u, from + bytes - 16u, 16);
    } else if (bytes >= 8u) {
        memcpy(to, from, 8);
        memcpy(to + bytes - 8u, from + bytes - 8u, 8);
    } else if (bytes >= 4u) {
        memcpy(to, from, 4);
        memcpy(to + bytes - 4u, from + bytes - 4u, 4);
    } else {
        for (uint32_t at = 0; at < bytes; at++) {
            to[at] = from[at];
        }
    }
}

/* A run of a window that may reach beyond the image. */
static void copy_run(const pp_neon_t *layer, const int8_t *input, int32_t y, int32_t x, uint32_t pixels, int8_t *to)
{
    const int32_t pixel = layer->input.channels * layer->input_bytes;
    const int32_t width = layer->input.width;
    const int32_t behind = x + (int32_t)pixels;
    if (y < 0 || y >= layer->input.height || x >= width || behind <= 0) {
        memset(to, layer->padding, pixels * (uint32_t)pixel);
        return;
    }
    const int32_t first = x < 0 ? 0 : x;
    const int32_t last = behind > width ? width : behind;
    if (first > x) {
        memset(to, layer->padding, (uint32_t)((first - x) * pixel));
    }
    copy(to + (first - x) * pixel, input + (y * width + first) * pixel, (uint32_t)((last - first) * pixel));
    if (behind > last) {
        memset(to + (last - x) * pixel, layer->padding, (uint32_t)((behind - last) * pixel));
    }
}

/* A window to scratch, its rows as far apart as in the image or run behind run; returns its origin there. */
static const int8_t *copy_window(const pp_neon_t *layer, const pp_neon_phase_t *phase, const int8_t *input, int32_t y,
                                 int32_t x, bool inside, int8_t *to)
{
    const int32_t pixel = layer->input.channels * layer->input_bytes;
    const int32_t bytes = (int32_t)phase->pixels * pixel;
    for (uint32_t i = 0; i < phase->count; i++) {
        const pp_neon_run_t run = phase->runs[i];
        const int32_t offset = (run.y * layer->input.width + run.x) * pixel;
        int8_t *const place = to + (layer->in_place ? offset : (int32_t)i * bytes);
        if (inside) {
            copy(place, input + (y * layer->input.width + x) * pixel + offset, (uint32_t)bytes);
        } else {
            copy_run(layer, input, y + run.y, x + run.x, phase->pixels, place);
        }
    }
    return to;
}

static void compute(waiting_t *waiting)
{
    const pp_neon_t *const layer = waiting->layer;
    pp_neon_windows_t *const windows = &waiting->windows;
    pp_neon_tile_t *const tile = waiting->count > 1u ? waiting->tiles->several : waiting->tiles->one;
    const uint32_t count = waiting->tiles->windows;
    for (uint32_t i = waiting->count; i < count; i++) { /* the first again, where there are too few */
        windows->from[i] = windows->from[0];
        windows->to[i] = windows->to[0];
    }
    windows->blocks = windows->phase->blocks;
    waiting->count = 0;
    tile(layer, windows);
    for (uint32_t group = 1; group < layer->groups; group++) {
        for (uint32_t i = 0; i < count; i++) {
            windows->from[i] += layer->depth * layer->input_bytes;
            windows->to[i] += layer->share * layer->output_bytes;
        }
        windows->blocks += windows->phase->words;
        tile(layer, windows);
    }
}

/* All outputs of a row that lie at one place in the step; some windows may go on waiting. */
static void compute_row(waiting_t *waiting, const int8_t *input, int32_t y, int8_t *to, uint32_t count, int8_t *scratch)
{
    const pp_neon_t *const layer = waiting->layer;
    const pp_neon_phase_t *const phase = waiting->windows.phase;
    const pp_neon_run_t first = phase->runs[0];
    const pp_neon_run_t last = phase->runs[phase->count - 1u];
    const bool rows_inside = y + first.y >= 0 && y + last.y < layer->input.height;
    const ptrdiff_t pixel = (ptrdiff_t)layer->input.channels * layer->input_bytes;
    const ptrdiff_t size = pixel * layer->input.width * layer->input.height;
    const int32_t rightmost = layer->input.width - last.x - (int32_t)phase->pixels;
    const uint32_t step = (uint32_t)layer->step_x * layer->output.channels * layer->output_bytes;
    int32_t x = layer->origin_x;
    ptrdiff_t at = ((ptrdiff_t)y * layer->input.width + x) * pixel;
    for (; count != 0u; count--, x += layer->stride_x, at += layer->stride_x * pixel, to += step) {
        const bool inside = rows_inside && x + first.x >= 0 && x <= rightmost && at + phase->reach <= size;
        const int8_t **const from = waiting->windows.from + waiting->count;
        if (inside && layer->in_place) {
            *from = input + at;
        } else {
            int8_t *const slot = scratch + layer->slot_first + waiting->count * layer->slot_step;
            *from = copy_window(layer, phase, input, y, x, inside, slot);
        }
        waiting->windows.to[waiting->count++] = to;
        if (waiting->count == waiting->tiles->windows) {
            compute(waiting);
        }
    }
}

void pp_neon_convolve(const pp_neon_t *layer, const pp_neon_tiles_t *tiles, const int8_t *input, int8_t *output,
                      int8_t *scratch)
{
    const uint32_t pixel = (uint32_t)layer->output.channels * layer->output_bytes;
    const bool has_phases = layer->step_x > 1u || layer->step_y > 1u;
    waiting_t waiting = {.layer = layer, .tiles = tiles};
    for (uint32_t y = 0; y < layer->output.height; y++, output += layer->output.width * pixel) {
        const pp_neon_phase_t *const row = layer->phases + y % layer->step_y * layer->step_x;
        const int32_t origin_y = layer->origin_y + (int32_t)(y / layer->step_y * layer->stride_y);
        for (uint32_t phase = 0; phase < layer->step_x && phase < layer->output.width; phase++) {
            const uint32_t places = (layer->output.width - phase + layer->step_x - 1u) / layer->step_x;
            waiting.windows.phase = row + phase;
            compute_row(&waiting, input, origin_y, output + phase * pixel, places, scratch);
            if (has_phases && waiting.count != 0u) { /* the next have other weights */
                compute(&waiting);
            }
        }
    }
    if (waiting.count != 0u) {
        compute(&waiting);
    }
}
