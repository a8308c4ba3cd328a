/* The commands of MLPerf Tiny's runner on the line of the bridge, which goes on answering its frames.
 *
 * A command is text that ends in '%'; its answer is lines that end in CR LF, the last of them "m-ready". A frame begins
 * with a byte of zero, which no text has, and its second byte after that is the protocol version, which no text is:
 * what is one never reads as the other. docs/mlperf-tiny.md has every command. */
#ifndef PP_MLPERF_H
#define PP_MLPERF_H

#include "pp_bridge.h"

/* Take one byte from the line; where it ends a command or a request, carry that out and answer it. */
void pp_mlperf_byte(uint8_t byte);

#endif
