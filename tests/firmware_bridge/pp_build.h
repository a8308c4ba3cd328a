#ifndef PP_BUILD_H
#define PP_BUILD_H

#define PP_BOARD_NAME "host"
#define PP_CLOCK_HZ 1000000u
#define PP_BUILD_ID { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 }
#define PP_COMPILER "cc"

#endif
