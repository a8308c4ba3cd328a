/* What drives the inner functions of pp_conv.S, and their twin in C for every other core. See pp_conv.h. */
#include "pp_conv.h"

/* The place of a window: its upper left tap in the input, which may lie outside the image. */
typedef struct {
    int32_t y;
    int32_t x;
    int32_t offset; /* bytes from the start of the input */
} pp_place_t;

/* What every place of a layer needs. */
typedef struct {
    const pp_conv_t *layer;
    const int8_t *input;
    uint32_t inside_y;   /* a window whose y and x, as unsigned, are below these is inside the image */
    uint32_t inside_x;
    uint32_t pair_x;     /* one whose x is below this has its neighbour on the right inside too */
    int32_t end_x;       /* x behind the last place of a row */
    int32_t step_offset; /* to the next place, and from the last of a row to the first of the next */
    int32_t wrap_offset;
} pp_path_t;

/* The bytes of a window's row that lie in the image, amid padding; four at a time where there are four. */
static void pp_patch_row(const pp_conv_t *layer, const int8_t *row, int32_t x, int8_t *patch)
{
    const int32_t channels = layer->input_channels;
    const int32_t beyond = x + layer->kernel_width - layer->input_width;
    int32_t i = x < 0 ? -x * channels : 0;
    const int32_t end = layer->window.bytes - (beyond > 0 ? beyond * channels : 0);
    for (; i + 4 <= end; i += 4) {
        __builtin_memcpy(patch + i, row + i, 4);
    }
    for (; i < end; i++) {
        patch[i] = row[i];
    }
}

/* A window's row: where it lies in the image, or in the patch, where taps outside the image read the padding. */
static const int8_t *pp_window_row(const pp_path_t *path, pp_place_t place, int32_t i, int8_t *patch)
{
    const pp_conv_t *const layer = path->layer;
    const int8_t *const row = path->input + place.offset + i * layer->input_width * layer->input_channels;
    const int is_row = (uint32_t)(place.y + i) < layer->input_height;
    if (is_row && (uint32_t)place.x < path->inside_x) {
        return row;
    }
    const uint32_t padding = (uint8_t)layer->padding * UINT32_C(0x01010101);
    for (uint32_t at = 0; at < 4 * (uint32_t)layer->window.groups; at += 4) {
        __builtin_memcpy(patch + at, &padding, 4);
    }
    if (is_row) {
        pp_patch_row(layer, row, place.x, patch);
    }
    return patch;
}

/* The windows at two places as columns, row by row: at a border, or at the ends of two rows. */
static void pp_fill_at_border(const pp_path_t *path, pp_place_t a, pp_place_t b, int16_t *columns)
{
    const pp_conv_window_t *const window = &path->layer->window;
    const pp_conv_window_t row = {.rows = 1, .groups = window->groups, .skip = 0, .bytes = window->bytes};
    int8_t *const patch_a = (int8_t *)(columns + 4 * path->layer->steps);
    int8_t *const patch_b = patch_a + 4 * window->groups;
    for (int32_t i = 0; i < window->rows; i++) {
        const int8_t *const row_a = pp_window_row(path, a, i, patch_a);
        const int8_t *const row_b = pp_window_row(path, b, i, patch_b);
        columns = pp_widen_windows(row_a, row_b, columns, &row);
    }
}

static uint32_t pp_inside(int32_t size, int32_t kernel)
{
    return size < kernel ? 0 : (uint32_t)(size - kernel + 1);
}

static pp_path_t pp_start_path(const pp_conv_t *layer, const int8_t *input)
{
    const int32_t pixel = layer->input_channels;
    const int32_t row = layer->input_width * pixel;
    return (pp_path_t){
        .layer = layer,
        .input = input,
        .inside_y = pp_inside(layer->input_height, layer->window.rows),
        .inside_x = pp_inside(layer->input_width, layer->kernel_width),
        .pair_x = pp_inside(layer->input_width, layer->kernel_width + layer->stride_x),
        .end_x = layer->output_width * layer->stride_x - layer->pad_left,
        .step_offset = layer->stride_x * pixel,
        .wrap_offset = layer->stride_y * row - layer->output_width * layer->stride_x * pixel,
    };
}

/* The places in the order of the output, `steps` on. */
static inline pp_place_t pp_next_place(const pp_path_t *path, pp_place_t place, int32_t steps)
{
    place.x += steps * path->layer->stride_x;
    place.offset += steps * path->step_offset;
    if (place.x == path->end_x) {
        place.x = -path->layer->pad_left;
        place.y += path->layer->stride_y;
        place.offset += path->wrap_offset;
    }
    return place;
}

/* Channels beyond the last multiple of four, through a buffer: a block writes four. */
static void pp_rest(const pp_columns_t *work, pp_columns_kernel_t *kernel, int8_t *output, int32_t distance,
                    uint32_t count)
{
    int32_t words[2];
    int8_t *const channels = (int8_t *)words;
    kernel(work, channels, channels + 4, 4);
    for (uint32_t i = 0; i < count; i++) {
        output[i] = channels[i];
        output[distance + (int32_t)i] = channels[4 + i];
    }
}

static void pp_run(const pp_conv_t *layer, const int8_t *input, int8_t *output, int16_t *scratch,
                   pp_columns_kernel_t *kernel, uint32_t words_per_step)
{
    const uint32_t channels = layer->output_channels;
    const uint32_t whole = channels & ~UINT32_C(3);
    const uint32_t pixels = (uint32_t)layer->output_height * layer->output_width;
    const pp_columns_t work = {layer->blocks, scratch, layer->zero_point, layer->steps, layer->shift};
    pp_columns_t rest = work;
    rest.blocks += whole / 4 * (words_per_step * layer->steps + 8);
    const pp_path_t path = pp_start_path(layer, input);
    pp_place_t a = {-layer->pad_top, -layer->pad_left,
                    -(layer->pad_top * layer->input_width + layer->pad_left) * layer->input_channels};
    for (uint32_t pixel = 0; pixel < pixels; pixel += 2, output += 2 * channels) {
        int32_t distance = (int32_t)channels;
        if ((uint32_t)a.y < path.inside_y && (uint32_t)a.x < path.pair_x) {
            const int8_t *const first = input + a.offset;
            (void)pp_widen_windows(first, first + path.step_offset, scratch, &layer->window);
            a = pp_next_place(&path, a, 2);
        } else {
            /* The last of an odd number is computed twice. */
            const int is_pair = pixel + 1 < pixels;
            const pp_place_t b = is_pair ? pp_next_place(&path, a, 1) : a;
            distance = is_pair ? distance : 0;
            pp_fill_at_border(&path, a, b, scratch);
            a = pp_next_place(&path, b, 1);
        }
        if (whole != 0) {
            kernel(&work, output, output + whole, distance);
        }
        if (whole != channels) {
            pp_rest(&rest, kernel, output + whole, distance, channels - whole);
        }
    }
}

#define PP_CONV_KERNEL(layout, words_per_step) \
    void pp_conv_##layout(const pp_conv_t *layer, const int8_t *input, int8_t *output, int16_t *scratch) \
    { \
        pp_run(layer, input, output, scratch, pp_columns_##layout, words_per_step); \
    }

PP_CONV_KERNEL(pairs, 2)
PP_CONV_KERNEL(pairs_shifted, 2)
PP_CONV_KERNEL(nibbles, 1)
PP_CONV_KERNEL(nibbles_shifted, 1)

#if !defined(__ARM_FEATURE_DSP)

#include "pp_intrinsics.h"
#include "pp_simd.h"

int16_t *pp_widen_windows(const int8_t *first, const int8_t *second, int16_t *columns, const pp_conv_window_t *window)
{
    static const uint8_t order[4] = {0, 2, 1, 3};
    for (uint32_t row = 0; row < window->rows; row++) {
        for (uint32_t i = 0; i < 4 * (uint32_t)window->groups; i++) {
            /* Bytes behind the row are not read; the weight there is zero. */
            const int is_there = (i & ~UINT32_C(3)) + order[i & 3] < window->bytes;
            int16_t *const to = columns + 4 * (i / 2) + i % 2;
            to[0] = is_there ? first[order[i & 3]] : 0;
            to[2] = is_there ? second[order[i & 3]] : 0;
            first += (i & 3) == 3 ? 4 : 0;
            second += (i & 3) == 3 ? 4 : 0;
        }
        columns += 8 * window->groups;
        first += window->skip;
        second += window->skip;
    }
    return columns;
}

typedef void pp_unpack_t(const uint32_t *step, uint32_t half, int32_t weights[4]);

static void pp_unpack_pairs(const uint32_t *step, uint32_t half, int32_t weights[4])
{
    for (uint32_t pair = 0; pair < 2; pair++) {
        const int32_t both = pp_half(step[pair], half);
        weights[2 * pair + 1] = (int8_t)(both & 0xFF);
        weights[2 * pair] = (both - weights[2 * pair + 1]) / 256;
    }
}

static void pp_unpack_nibbles(const uint32_t *step, uint32_t half, int32_t weights[4])
{
    const int32_t all = pp_half(step[0], half);
    weights[0] = (all & 15) - 8;
    weights[1] = (all >> 4 & 15) - 8;
    weights[2] = (all >> 8 & 15) - 8;
    weights[3] = all >> 12;
}

/* The biases that are in a block's start values, which wrap. */
static void pp_biases_pairs(const uint32_t *start, int32_t bias[4])
{
    bias[0] = (int32_t)(start[0] - start[1]) / 256;
    bias[1] = (int32_t)start[1];
    bias[2] = (int32_t)(start[2] - start[3]) / 256;
    bias[3] = (int32_t)start[3];
}

static void pp_biases_nibbles(const uint32_t *start, int32_t bias[4])
{
    bias[0] = (int32_t)start[0];
    bias[1] = (int32_t)(start[1] - start[0]) / 16;
    bias[2] = (int32_t)(start[2] - start[1]) / 256;
    bias[3] = (int32_t)(start[3] - start[2]) / 4096;
}

static void pp_one_column(const pp_columns_t *work, const uint32_t *weights, const int16_t *column, int32_t sums[4],
                          pp_unpack_t *unpack, uint32_t words_per_step)
{
    for (uint32_t step = 0; step < work->steps; step++, weights += words_per_step, column += 4) {
        for (uint32_t half = 0; half < 2; half++) {
            int32_t w[4];
            unpack(weights, half, w);
            for (uint32_t i = 0; i < 4; i++) {
                sums[i] += w[i] * column[half];
            }
        }
    }
}

static void pp_columns(const pp_columns_t *work, int8_t *output, const int8_t *end, int32_t distance, uint32_t shift,
                       uint32_t words_per_step, pp_unpack_t *unpack, void (*biases)(const uint32_t *start, int32_t *))
{
    const uint32_t weights = words_per_step * work->steps;
    for (const uint32_t *block = work->blocks; output != end; block += weights + 8, output += 4) {
        for (int32_t pixel = 1; pixel >= 0; pixel--) {
            int32_t sums[4];
            biases(block, sums);
            pp_one_column(work, block + 4, work->columns + 2 * pixel, sums, unpack, words_per_step);
            for (uint32_t i = 0; i < 4; i++) {
                const int32_t shifted = sums[i] * (int32_t)(UINT32_C(1) << shift);
                const int32_t multiplier = (int32_t)block[4 + weights + i];
                const int32_t q = pp_multiply_high_round(shifted, multiplier) + work->zero_point;
                output[(int32_t)i + pixel * distance] = (int8_t)pp_saturate_s8(q);
            }
        }
    }
}

#define PP_COLUMNS_KERNEL(name, layout, words_per_step, shift) \
    void pp_columns_##name(const pp_columns_t *work, int8_t *output, const int8_t *end, int32_t distance) \
    { \
        pp_columns(work, output, end, distance, shift, words_per_step, pp_unpack_##layout, pp_biases_##layout); \
    }

PP_COLUMNS_KERNEL(pairs, pairs, 2, 0)
PP_COLUMNS_KERNEL(pairs_shifted, pairs, 2, work->shift)
PP_COLUMNS_KERNEL(nibbles, nibbles, 1, 0)
PP_COLUMNS_KERNEL(nibbles_shifted, nibbles, 1, work->shift)

#endif
