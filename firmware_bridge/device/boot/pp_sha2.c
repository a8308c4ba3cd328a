#include "pp_sha2.h"

#include "pp_mem.h"

/* Fractions of the cube roots of the first 80 primes and of the square roots of the first 8. SHA-256's constants are the
 * upper halves of the same ones (FIPS 180-4, 4.2 and 5.3), so one table serves both. */
static const uint64_t cube_roots[80] = {
    0x428A2F98D728AE22u, 0x7137449123EF65CDu, 0xB5C0FBCFEC4D3B2Fu, 0xE9B5DBA58189DBBCu,
    0x3956C25BF348B538u, 0x59F111F1B605D019u, 0x923F82A4AF194F9Bu, 0xAB1C5ED5DA6D8118u,
    0xD807AA98A3030242u, 0x12835B0145706FBEu, 0x243185BE4EE4B28Cu, 0x550C7DC3D5FFB4E2u,
    0x72BE5D74F27B896Fu, 0x80DEB1FE3B1696B1u, 0x9BDC06A725C71235u, 0xC19BF174CF692694u,
    0xE49B69C19EF14AD2u, 0xEFBE4786384F25E3u, 0x0FC19DC68B8CD5B5u, 0x240CA1CC77AC9C65u,
    0x2DE92C6F592B0275u, 0x4A7484AA6EA6E483u, 0x5CB0A9DCBD41FBD4u, 0x76F988DA831153B5u,
    0x983E5152EE66DFABu, 0xA831C66D2DB43210u, 0xB00327C898FB213Fu, 0xBF597FC7BEEF0EE4u,
    0xC6E00BF33DA88FC2u, 0xD5A79147930AA725u, 0x06CA6351E003826Fu, 0x142929670A0E6E70u,
    0x27B70A8546D22FFCu, 0x2E1B21385C26C926u, 0x4D2C6DFC5AC42AEDu, 0x53380D139D95B3DFu,
    0x650A73548BAF63DEu, 0x766A0ABB3C77B2A8u, 0x81C2C92E47EDAEE6u, 0x92722C851482353Bu,
    0xA2BFE8A14CF10364u, 0xA81A664BBC423001u, 0xC24B8B70D0F89791u, 0xC76C51A30654BE30u,
    0xD192E819D6EF5218u, 0xD69906245565A910u, 0xF40E35855771202Au, 0x106AA07032BBD1B8u,
    0x19A4C116B8D2D0C8u, 0x1E376C085141AB53u, 0x2748774CDF8EEB99u, 0x34B0BCB5E19B48A8u,
    0x391C0CB3C5C95A63u, 0x4ED8AA4AE3418ACBu, 0x5B9CCA4F7763E373u, 0x682E6FF3D6B2B8A3u,
    0x748F82EE5DEFB2FCu, 0x78A5636F43172F60u, 0x84C87814A1F0AB72u, 0x8CC702081A6439ECu,
    0x90BEFFFA23631E28u, 0xA4506CEBDE82BDE9u, 0xBEF9A3F7B2C67915u, 0xC67178F2E372532Bu,
    0xCA273ECEEA26619Cu, 0xD186B8C721C0C207u, 0xEADA7DD6CDE0EB1Eu, 0xF57D4F7FEE6ED178u,
    0x06F067AA72176FBAu, 0x0A637DC5A2C898A6u, 0x113F9804BEF90DAEu, 0x1B710B35131C471Bu,
    0x28DB77F523047D84u, 0x32CAAB7B40C72493u, 0x3C9EBE0A15C9BEBCu, 0x431D67C49C100D4Cu,
    0x4CC5D4BECB3E42B6u, 0x597F299CFC657E2Au, 0x5FCB6FAB3AD6FAECu, 0x6C44198C4A475817u,
};
static const uint64_t square_roots[8] = {
    0x6A09E667F3BCC908u, 0xBB67AE8584CAA73Bu, 0x3C6EF372FE94F82Bu, 0xA54FF53A5F1D36F1u,
    0x510E527FADE682D1u, 0x9B05688C2B3E6C1Fu, 0x1F83D9ABFB41BD6Bu, 0x5BE0CD19137E2179u,
};

/* Where the next bytes come from: two pieces of memory, then the padding. */
typedef struct {
    const uint8_t *pieces[2];
    size_t bytes[2];
    size_t at; /* of the whole */
} source_t;

static uint32_t rotated32(uint32_t value, uint32_t by) { return value >> by | value << (32u - by); }

static uint64_t rotated64(uint64_t value, uint32_t by) { return value >> by | value << (64u - by); }

/* The next byte of the padded message: the data, a one bit, zeros, and the data's length in bits at the very end. */
static uint8_t next_byte(source_t *source, size_t padded_bytes) {
    const size_t total = source->bytes[0] + source->bytes[1];
    const size_t at = source->at++;
    const size_t left = padded_bytes - at; /* this byte included */
    if (at < source->bytes[0]) {
        return source->pieces[0][at];
    }
    if (at < total) {
        return source->pieces[1][at - source->bytes[0]];
    }
    if (at == total) {
        return 0x80u;
    }
    if (left > 8u) {
        return 0u;
    }
    return (uint8_t)((uint64_t)total * 8u >> 8u * (uint32_t)(left - 1u));
}

static uint64_t next_word(source_t *source, size_t padded_bytes, uint32_t width) {
    uint64_t word = 0u;
    for (uint32_t i = 0; i < width; i++) {
        word = word << 8 | next_byte(source, padded_bytes);
    }
    return word;
}

/* The message with its padding: whole blocks, with room for the one bit and the length. */
static size_t padded(size_t count, size_t block, size_t length_bytes) {
    return (count + 1u + length_bytes + block - 1u) / block * block;
}

static void block256(uint32_t state[8], source_t *source, size_t padded_bytes) {
    uint32_t w[16];
    uint32_t s[8];
    (void)memcpy(s, state, sizeof s);
    for (uint32_t i = 0; i < 64u; i++) {
        uint32_t *now = &w[i & 15u];
        if (i < 16u) {
            *now = (uint32_t)next_word(source, padded_bytes, 4u);
        } else {
            const uint32_t a = w[(i + 1u) & 15u];
            const uint32_t b = w[(i + 14u) & 15u];
            *now += (rotated32(a, 7u) ^ rotated32(a, 18u) ^ a >> 3) + w[(i + 9u) & 15u] +
                    (rotated32(b, 17u) ^ rotated32(b, 19u) ^ b >> 10);
        }
        const uint32_t t = s[7] + (rotated32(s[4], 6u) ^ rotated32(s[4], 11u) ^ rotated32(s[4], 25u)) +
                           ((s[4] & s[5]) ^ (~s[4] & s[6])) + (uint32_t)(cube_roots[i] >> 32) + *now;
        const uint32_t u = (rotated32(s[0], 2u) ^ rotated32(s[0], 13u) ^ rotated32(s[0], 22u)) +
                           ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        (void)memmove(s + 1, s, 7u * sizeof s[0]);
        s[4] += t;
        s[0] = t + u;
    }
    for (uint32_t i = 0; i < 8u; i++) {
        state[i] += s[i];
    }
}

static void block512(uint64_t state[8], source_t *source, size_t padded_bytes) {
    uint64_t w[16];
    uint64_t s[8];
    (void)memcpy(s, state, sizeof s);
    for (uint32_t i = 0; i < 80u; i++) {
        uint64_t *now = &w[i & 15u];
        if (i < 16u) {
            *now = next_word(source, padded_bytes, 8u);
        } else {
            const uint64_t a = w[(i + 1u) & 15u];
            const uint64_t b = w[(i + 14u) & 15u];
            *now += (rotated64(a, 1u) ^ rotated64(a, 8u) ^ a >> 7) + w[(i + 9u) & 15u] +
                    (rotated64(b, 19u) ^ rotated64(b, 61u) ^ b >> 6);
        }
        const uint64_t t = s[7] + (rotated64(s[4], 14u) ^ rotated64(s[4], 18u) ^ rotated64(s[4], 41u)) +
                           ((s[4] & s[5]) ^ (~s[4] & s[6])) + cube_roots[i] + *now;
        const uint64_t u = (rotated64(s[0], 28u) ^ rotated64(s[0], 34u) ^ rotated64(s[0], 39u)) +
                           ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        (void)memmove(s + 1, s, 7u * sizeof s[0]);
        s[4] += t;
        s[0] = t + u;
    }
    for (uint32_t i = 0; i < 8u; i++) {
        state[i] += s[i];
    }
}

void pp_sha256(uint8_t digest[32], const uint8_t *data, size_t count) {
    uint32_t state[8];
    source_t source = {{data, data}, {count, 0u}, 0u};
    const size_t padded_bytes = padded(count, 64u, 8u);
    for (uint32_t i = 0; i < 8u; i++) {
        state[i] = (uint32_t)(square_roots[i] >> 32);
    }
    while (source.at < padded_bytes) {
        block256(state, &source, padded_bytes);
    }
    for (uint32_t i = 0; i < 32u; i++) {
        digest[i] = (uint8_t)(state[i / 4u] >> (24u - 8u * (i % 4u)));
    }
}

void pp_sha512(uint8_t digest[64], const uint8_t *first, size_t first_bytes, const uint8_t *second,
               size_t second_bytes) {
    uint64_t state[8];
    source_t source = {{first, second}, {first_bytes, second_bytes}, 0u};
    const size_t padded_bytes = padded(first_bytes + second_bytes, 128u, 16u);
    (void)memcpy(state, square_roots, sizeof state);
    while (source.at < padded_bytes) {
        block512(state, &source, padded_bytes);
    }
    for (uint32_t i = 0; i < 64u; i++) {
        digest[i] = (uint8_t)(state[i / 8u] >> (56u - 8u * (i % 8u)));
    }
}
