/* Windows of a layer, row by row. See pp_neon.h. */
#include "pp_neon_windows.h"

#include <string.h>

enum { CHUNK = 16 }; /* bytes that are copied at once */

static inline void copy_chunk(int8_t *to, const int8_t *from)
{
    memcpy(to, from, CHUNK);
}

/* Runs are short and many, so they are copied here, the last bytes perhaps twice. */
static inline void copy(int8_t *to, const int8_t *from, uint32_t bytes)
{
    if (bytes >= 16u) {
        uint32_t at = 0;
        for (; at + 64u < bytes; at += 64u) {
            memcpy(to + at, from + at, 64);
        }
        for (; at + 16u < bytes; at += 16u) {
            copy_chunk(to + at, from + at);
        }
        copy_chunk(to + bytes - 16u, from + bytes - 16u);
    } else if (bytes >= 8u) {
        memcpy(to, from, 8);
        memcpy(to + bytes - 8u, from + bytes - 8u, 8);
    } else {
        for (uint32_t at = 0; at < bytes; at++) {
            to[at] = from[at];
        }
    }
}

static void compute(const pp_neon_t *layer, pp_neon_row_kernel_t *kernel, const pp_neon_phase_t *phase,
                    pp_neon_row_t row)
{
    row.blocks = phase->blocks;
    row.parts = phase->parts;
    row.inputs = phase->inputs;
    for (uint32_t group = 0; group < layer->groups; group++) {
        kernel(layer, &row);
        row.from += layer->depth * layer->input_bytes;
        row.to += layer->share * layer->output_bytes;
        row.blocks += phase->words;
    }
}

/* All pixels where they lie; the last ones from a copy, if vectors reach beyond the image. */
static void compute_pixels(const pp_neon_t *layer, pp_neon_row_kernel_t *kernel, uint32_t most, const int8_t *input,
                           int8_t *output, int8_t *scratch)
{
    static const int32_t offset = 0;
    const uint32_t pixel = (uint32_t)layer->input.channels * layer->input_bytes;
    const uint32_t count = (uint32_t)layer->output.height * layer->output.width;
    const uint32_t to_step = (uint32_t)layer->output.channels * layer->output_bytes;
    const uint32_t copied = pixel == layer->slot_step ? 0 : (count - 1u) % most + 1u;
    const uint32_t first = count - copied;
    pp_neon_row_t row = {.offsets = &offset, .from_step = pixel, .to_step = to_step, .from = input, .to = output};
    row.count = first;
    if (first != 0u) {
        compute(layer, kernel, layer->phases, row);
    }
    if (copied != 0u) {
        copy(scratch, input + first * pixel, copied * pixel);
        row.from = scratch;
        row.to = output + first * to_step;
        row.count = copied;
        compute(layer, kernel, layer->phases, row);
    }
}

/* Windows as one piece each, from the ring. */
static void compute_gathered(const pp_neon_t *layer, pp_neon_row_kernel_t *kernel, const pp_neon_phase_t *phase,
                             pp_neon_row_t row, const int32_t *offsets, int8_t *slots)
{
    static const int32_t offset = 0;
    const int8_t *from = row.from;
    const uint32_t from_step = row.from_step;
    uint32_t left = row.count;
    row.offsets = &offset;
    row.from = slots;
    row.from_step = layer->slot_step;
    for (; left != 0u; left -= row.count, from += row.count * from_step, row.to += row.count * row.to_step) {
        row.count = left < layer->slots ? left : layer->slots;
        for (uint32_t run = 0; run < phase->count; run++) {
            for (uint32_t at = 0; at < phase->run_bytes; at += CHUNK) {
                const int8_t *source = from + offsets[run] + at;
                int8_t *target = slots + run * phase->run_bytes + at;
                for (uint32_t i = 0; i < row.count; i++, source += from_step, target += layer->slot_step) {
                    copy_chunk(target, source);
                }
            }
        }
        compute(layer, kernel, phase, row);
    }
}

/* The image's rows that the windows of an output's row see, those beyond it included. */
typedef struct {
    const pp_neon_t *layer;
    const int8_t *input;
    int8_t *place;       /* of the first row's first pixel in the image */
    uint32_t bytes;      /* of a row that lie in the image */
    uint32_t image_step;
    uint32_t next;       /* row, counted from the first that any window sees */
} ring_t;

static ring_t begin_ring(const pp_neon_t *layer, const int8_t *input, int8_t *rows)
{
    const int32_t pixel = layer->input.channels * layer->input_bytes;
    const int32_t first = layer->first_column < 0 ? 0 : layer->first_column;
    const int32_t behind = layer->first_column + layer->ring_columns;
    const int32_t last = behind < layer->input.width ? behind : layer->input.width;
    memset(rows, layer->padding, layer->ring_rows * layer->row_bytes);
    const ring_t ring = {
        .layer = layer,
        .input = input + first * pixel,
        .place = rows + (first - layer->first_column) * pixel,
        .bytes = last > first ? (uint32_t)((last - first) * pixel) : 0u,
        .image_step = (uint32_t)(layer->input.width * pixel),
    };
    return ring;
}

/* Copies what is missing of the rows from `first` on. */
static void advance_ring(ring_t *ring, uint32_t first)
{
    const pp_neon_t *const layer = ring->layer;
    if (ring->next < first) {
        ring->next = first;
    }
    for (; ring->next < first + layer->ring_rows; ring->next++) {
        const int32_t y = layer->first_row + (int32_t)ring->next;
        int8_t *const to = ring->place + ring->next % layer->ring_rows * layer->row_bytes;
        if (y >= 0 && y < layer->input.height) {
            copy(to, ring->input + (uint32_t)y * ring->image_step, ring->bytes);
        } else {
            memset(to, layer->padding, ring->bytes);
        }
    }
}

static void find_runs(const pp_neon_t *layer, const pp_neon_phase_t *phase, uint32_t first, int32_t *offsets)
{
    const uint32_t pixel = (uint32_t)layer->input.channels * layer->input_bytes;
    for (uint32_t i = 0; i < phase->count; i++) {
        const uint32_t row = first + phase->runs[i].y;
        const uint32_t place = row < layer->ring_rows ? row : row - layer->ring_rows;
        offsets[i] = (int32_t)(place * layer->row_bytes + phase->runs[i].x * pixel);
    }
}

static void compute_rows(const pp_neon_t *layer, pp_neon_row_kernel_t *kernel, const int8_t *input, int8_t *output,
                         int8_t *scratch)
{
    const uint32_t input_pixel = (uint32_t)layer->input.channels * layer->input_bytes;
    const uint32_t output_pixel = (uint32_t)layer->output.channels * layer->output_bytes;
    int32_t *const offsets = (int32_t *)(void *)scratch;
    int8_t *const rows = scratch + layer->ring_first;
    ring_t ring = begin_ring(layer, input, rows);
    for (uint32_t y = 0; y < layer->output.height; y++, output += layer->output.width * output_pixel) {
        const uint32_t first = y / layer->step_y * layer->stride_y;
        const pp_neon_phase_t *phase = layer->phases + y % layer->step_y * layer->step_x;
        advance_ring(&ring, first);
        for (uint32_t x = 0; x < layer->step_x && x < layer->output.width; x++, phase++) {
            const pp_neon_row_t row = {
                .offsets = offsets,
                .count = (layer->output.width - x + layer->step_x - 1u) / layer->step_x,
                .from_step = layer->stride_x * input_pixel,
                .to_step = layer->step_x * output_pixel,
                .from = rows,
                .to = output + x * output_pixel,
            };
            find_runs(layer, phase, first % layer->ring_rows, offsets);
            if (layer->reading == PP_NEON_GATHERED) {
                compute_gathered(layer, kernel, phase, row, offsets, scratch + layer->slot_first);
            } else {
                compute(layer, kernel, phase, row);
            }
        }
    }
}

void pp_neon_convolve(const pp_neon_t *layer, pp_neon_row_kernel_t *kernel, uint32_t most, const int8_t *input,
                      int8_t *output, int8_t *scratch)
{
    if (layer->reading == PP_NEON_PIXELS) {
        compute_pixels(layer, kernel, most, input, output, scratch);
    } else {
        compute_rows(layer, kernel, input, output, scratch);
    }
}
