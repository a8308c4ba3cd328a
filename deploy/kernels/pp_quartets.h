/* Four rows at a time over int16_t columns, for cores that multiply one pair at a time (Cortex-M0, M0+, M3): what pp_taps.h
 * calls there in place of pp_blocks.h.
 *
 * A block is a run of words: four biases, per input a word of four weights, one a row from the lowest byte on, four
 * multipliers; inputs are padded to a multiple of four by weights of zero. The clamp is that of the output's width. */
#ifndef PP_QUARTETS_H
#define PP_QUARTETS_H

#include "pp_blocks.h"

void pp_quartets_s8(const pp_blocks_t *layer, const int16_t *input, int16_t *output);
void pp_quartets_s16(const pp_blocks_t *layer, const int16_t *input, int16_t *output);

#endif
