/* What main serves the line with: the bridge. An image for MLPerf Tiny's runner has mlperf/pp_serve.h instead. */
#ifndef PP_SERVE_H
#define PP_SERVE_H

#include "pp_bridge.h"

static inline void pp_serve_start(pp_reset_cause_t cause) { pp_bridge_start(cause); }

static inline void pp_serve_byte(uint8_t byte) { pp_bridge_byte(byte); }

#endif
