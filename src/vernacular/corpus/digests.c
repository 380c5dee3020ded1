// SHA-256 (FIPS 180-4) of many texts, a block of each of as many as a vector has lanes at once.

#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
enum { WORDS = 16, BLOCK = 4 * WORDS, ROUNDS = 64, STATE = 8, DIGEST = 4 * STATE, SIZE = 8 };

typedef uint32_t Lanes __attribute__((vector_size(LANES * sizeof(uint32_t))));

static const uint32_t FIRST[STATE] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint32_t CONSTANTS[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define TURNED(x, by) ((x) >> (by) | (x) << (32 - (by)))

// One block of each lane.
static void compress(Lanes state[STATE], const uint8_t *const blocks[LANES]) {
    Lanes words[WORDS];
    for (int word = 0; word < WORDS; word++) {
        for (int lane = 0; lane < LANES; lane++) {
            uint32_t value;
            memcpy(&value, blocks[lane] + 4 * word, sizeof value);
            words[word][lane] = __builtin_bswap32(value);
        }
    }
    Lanes a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
#pragma GCC unroll 64
    for (int round = 0; round < ROUNDS; round++) {
        Lanes word = words[round % WORDS];
        if (round >= WORDS) {
            Lanes early = words[(round + 1) % WORDS], late = words[(round + 14) % WORDS];
            word += (TURNED(early, 7) ^ TURNED(early, 18) ^ early >> 3) + words[(round + 9) % WORDS];
            word += TURNED(late, 17) ^ TURNED(late, 19) ^ late >> 10;
            words[round % WORDS] = word;
        }
        Lanes first = h + (TURNED(e, 6) ^ TURNED(e, 11) ^ TURNED(e, 25)) + ((e & f) ^ (~e & g)) + CONSTANTS[round] + word;
        Lanes second = (TURNED(a, 2) ^ TURNED(a, 13) ^ TURNED(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

// What is left of a text: blocks of its own, and those behind them.
typedef struct {
    const uint8_t *next;
    int64_t whole;
    int padded;
    uint8_t end[2 * BLOCK];  // the last bytes, a bit, zeros and the number of bits
    uint8_t *digest;         // nowhere where the lane has no text
} Text;

static void begin(Text *text, const uint8_t *bytes, int64_t size, uint8_t *digest) {
    int64_t rest = size % BLOCK;
    text->padded = rest < BLOCK - SIZE ? 1 : 2;
    text->whole = size / BLOCK;
    text->next = text->whole ? bytes : text->end;
    memset(text->end, 0, sizeof text->end);
    memcpy(text->end, bytes + size - rest, (size_t)rest);
    text->end[rest] = 0x80;
    uint64_t bits = __builtin_bswap64((uint64_t)size * 8);
    memcpy(text->end + text->padded * BLOCK - SIZE, &bits, SIZE);
    text->digest = digest;
}

static const uint8_t *next_block(Text *text) {
    const uint8_t *block = text->next;
    text->next += BLOCK;
    if (!text->whole) text->padded--;
    else if (!--text->whole) text->next = text->end;
    return block;
}

// The digests of texts: text uint8, offsets int64 [count + 1] into it; digests uint8 [count, DIGEST].
int sha256_texts(const uint8_t *text, const int64_t *offsets, long count, uint8_t *digests) {
    static const uint8_t NOTHING[BLOCK];
    Lanes state[STATE] = {{0}};
    const uint8_t *blocks[LANES];
    Text texts[LANES];
    long given = 0, done = 0;
    for (int lane = 0; lane < LANES; lane++) texts[lane].digest = NULL, blocks[lane] = NOTHING;
    while (done < count) {
        for (int lane = 0; lane < LANES; lane++) {
            if (!texts[lane].digest && given < count) {
                int64_t at = offsets[given];
                begin(&texts[lane], text + at, offsets[given + 1] - at, digests + given * DIGEST);
                for (int i = 0; i < STATE; i++) state[i][lane] = FIRST[i];
                given++;
            }
            blocks[lane] = texts[lane].digest ? next_block(&texts[lane]) : NOTHING;
        }
        compress(state, blocks);
        for (int lane = 0; lane < LANES; lane++) {
            if (!texts[lane].digest || texts[lane].whole || texts[lane].padded) continue;
            for (int i = 0; i < STATE; i++) {
                uint32_t value = __builtin_bswap32(state[i][lane]);
                memcpy(texts[lane].digest + 4 * i, &value, sizeof value);
            }
            texts[lane].digest = NULL;
            done++;
        }
    }
    return 0;
}
