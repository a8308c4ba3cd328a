/* What main serves the line with: MLPerf Tiny's commands, and the bridge's frames beside them. */
#ifndef PP_SERVE_H
#define PP_SERVE_H

#include "pp_mlperf.h"

/* In a frame alone: a runner that opens the line later would take a "m-ready" for the answer to its first command. */
static inline void pp_serve_start(pp_reset_cause_t cause) { pp_bridge_start(cause); }

static inline void pp_serve_byte(uint8_t byte) { pp_mlperf_byte(byte); }

#endif
