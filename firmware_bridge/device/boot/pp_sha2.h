/* SHA-256 and SHA-512 (FIPS 180-4), small rather than fast. */
#ifndef PP_SHA2_H
#define PP_SHA2_H

#include <stddef.h>
#include <stdint.h>

/* Hash of one piece of memory. */
void pp_sha256(uint8_t digest[32], const uint8_t *data, size_t count);

/* Hash of two pieces, one behind the other. */
void pp_sha512(uint8_t digest[64], const uint8_t *first, size_t first_bytes, const uint8_t *second, size_t second_bytes);

#endif
