/* Fuzzing of the device library on the host: see device_fuzz.c. */
#ifndef DEVICE_FUZZ_H
#define DEVICE_FUZZ_H

#include <stdint.h>

/* Feed so many inputs, print how many and what came back; exit with 1 where an answer is no frame. */
int fuzz(uint64_t seed, uint64_t inputs);

/* Take a byte that the device sends. */
void fuzz_answer(uint8_t byte);

#endif
