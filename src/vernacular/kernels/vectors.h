/* Vectors of 4-byte lanes and the one product that every kernel is made of.

   A row of activations is a row of 4-byte units: one float, two bfloat16 or two 16-bit integers. A matrix is laid out
   so that a vector holds the same unit of neighbouring columns. `multiply` then adds, unit by unit in order, to one sum
   per row and column: what a row receives depends on the number of units and on nothing else, whatever rows stand
   beside it.

   Written in GCC's vector extension, which GCC and Clang translate for any processor; the products of pairs have a
   second form where AVX-512 has an instruction for them. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* LANES of a vector, as many as the processor's registers have. WIDE: vectors of columns that are multiplied at a time,
   so that the sums of MAX_ROWS rows stay in registers. Neither shows in a layout or in a result. */
#if defined(__AVX512F__)
enum { LANES = 16, WIDE = 4 };
#elif defined(__AVX2__)
enum { LANES = 8, WIDE = 2 };
#elif defined(__aarch64__)
enum { LANES = 4, WIDE = 4 };
#else
enum { LANES = 4, WIDE = 2 };
#endif
enum { MAX_ROWS = 6 };
enum unit { FLOAT, BFLOAT_PAIR, SHORT_PAIR };

typedef float floats __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t words __attribute__((vector_size(4 * LANES), may_alias));
typedef int16_t shorts __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t unit_t __attribute__((may_alias));

INLINE floats all_floats(float x) { return x - (floats){0}; }
INLINE words all_words(uint32_t x) { return x + (words){0}; }
INLINE floats select_floats(ints mask, floats yes, floats no) {
    return (floats)(((ints)yes & mask) | ((ints)no & ~mask));
}
INLINE floats max_floats(floats a, floats b) { return select_floats(a > b, a, b); }

INLINE float as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
INLINE uint32_t as_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* LANES rows of LANES 4-byte units become columns. */
INLINE void transpose(words *rows) {
#if defined(__AVX512F__)
    static const int32_t counted[] __attribute__((aligned(64))) = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const ints lane = *(const ints *)counted;
    UNROLL for (int width = 1; width < LANES; width *= 2) {
        const ints odd = (lane & width) != 0;
        const __m512i low = (__m512i)(lane + (odd & (LANES - width)));
        const __m512i high = (__m512i)(lane + width + (odd & (LANES - width)));
        UNROLL for (int r = 0; r < LANES; r++) {
            if (r & width) continue;
            const __m512i a = (__m512i)rows[r], b = (__m512i)rows[r + width];
            rows[r] = (words)_mm512_permutex2var_epi32(a, low, b);
            rows[r + width] = (words)_mm512_permutex2var_epi32(a, high, b);
        }
    }
#else
    words columns[LANES];
    for (int r = 0; r < LANES; r++)
        for (int i = 0; i < LANES; i++) ((unit_t *)(columns + i))[r] = ((const unit_t *)(rows + r))[i];
    memcpy(rows, columns, sizeof columns);
#endif
}

/* bfloat16 is the upper half of a float; rounding is to nearest, ties to even; a NaN stays one. */
INLINE words round_to_bfloat(floats x) {
    words bits = (words)x;
    words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    words quiet = (bits >> 16) | 0x40;
    return (words)select_floats(x == x, (floats)rounded, (floats)quiet);
}
typedef uint16_t halves __attribute__((vector_size(2 * LANES), may_alias, aligned(2)));
INLINE void store_bfloats(words rounded, void *to) { *(halves *)to = __builtin_convertvector(rounded, halves); }
/* Rounded. Where the processor does it by itself, numbers below 2⁻¹²⁶ become 0, as in its products. */
INLINE halves bfloats_of(floats x) {
#if defined(__AVX512BF16__)
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#else
    return __builtin_convertvector(round_to_bfloat(x), halves);
#endif
}
INLINE void store_as_bfloats(floats x, void *to) { *(halves *)to = bfloats_of(x); }
INLINE uint16_t bfloat_of(float x) {
    uint32_t bits = as_bits(x);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
INLINE float float_of(uint16_t bfloat) { return as_float((uint32_t)bfloat << 16); }

/* eˣ / 2ⁿ, n the integer nearest to x / ln 2. Coefficients: Cephes, expf. */
INLINE floats exponential_of_rest(floats x, floats n) {
    const floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    floats y = all_floats(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    return y;
}

/* eˣ for x ≤ 0, within 2 units in the last place; 0 below -87. */
INLINE floats exponential(floats x) {
    const ints normal = x > -87.0f;
    x = select_floats(normal, x, all_floats(0));
    const floats magic = all_floats(12582912.0f); /* 1.5 · 2²³ rounds to an integer in the low bits */
    const floats shifted = x * 1.44269504088896341f + magic;
    const floats n = shifted - magic;
    const floats y = exponential_of_rest(x, n);
    const floats power = (floats)(((ints)shifted + (127 - 0x4b400000)) << 23);
    return select_floats(normal, y * power, all_floats(0));
}

/* x / (1 + e⁻ˣ). */
INLINE floats silu(floats x) {
#if defined(__AVX512F__)
    /* The order of the arguments keeps a NaN. Within these bounds the power reaches 0 and infinity to the last bit: the
       result is x at one end, and 0 from -89 on, where it would be nearer to 0 than -2⁻¹²¹. */
    const floats y = (floats)_mm512_max_ps((__m512)all_floats(-100), _mm512_min_ps((__m512)all_floats(100), (__m512)-x));
    const floats n = (floats)_mm512_roundscale_ps((__m512)(y * 1.44269504088896341f), _MM_FROUND_TO_NEAREST_INT);
    return x / ((floats)_mm512_scalef_ps((__m512)exponential_of_rest(y, n), (__m512)n) + 1.0f);
#else
    const ints positive = x > 0;
    const floats small = exponential(select_floats(positive, -x, x)); /* e^-|x| */
    return x * select_floats(positive, all_floats(1), small) / (small + 1.0f);
#endif
}

/* sum + w0·x0 + w1·x1 for the two bfloat16 of each lane. */
INLINE floats add_bfloat_pair(floats sum, words w, uint32_t x) {
#if defined(__AVX512BF16__)
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)all_words(x));
#else
    sum += (floats)(w << 16) * all_floats(as_float(x << 16));
    return sum + (floats)(w & 0xffff0000u) * all_floats(as_float(x & 0xffff0000u));
#endif
}

/* sum + w0·x0 + w1·x1 for the two 16-bit integers of each lane, exactly. */
INLINE ints add_short_pair(ints sum, words w, uint32_t x) {
#if defined(__AVX512VNNI__)
    return (ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)w, (__m512i)all_words(x));
#elif defined(__AVX512BW__)
    return sum + (ints)_mm512_madd_epi16((__m512i)w, (__m512i)all_words(x));
#elif defined(__AVX2__)
    return sum + (ints)_mm256_madd_epi16((__m256i)w, (__m256i)all_words(x));
#elif defined(__SSE2__)
    return sum + (ints)_mm_madd_epi16((__m128i)w, (__m128i)all_words(x));
#else
    sum += ((ints)(w << 16) >> 16) * (int32_t)(int16_t)x;
    return sum + ((ints)w >> 16) * ((int32_t)x >> 16);
#endif
}

/* The integers of one part of packed lanes, each half of a lane widened to 16 bits with its sign. */
INLINE words unpack(const int packing, const int part, words packed) {
    const int width = 16 / packing;
    return packing == 1 ? packed : (words)((shorts)packed << (16 - width * (part + 1)) >> (16 - width));
}

/* out[r · out_stride + v] = Σ_s w[s · w_stride + v] · x[r][s], s in order.

   `packing` is how many units a lane of `w` holds: 1 as they are; 2 for bytes and 4 for nibbles of integer pairs, the
   first in the lowest bits of either half. Meanwhile `fetched` vectors a step come from memory, from `ahead` on and
   w_stride apart: what is multiplied next. rows ≤ MAX_ROWS and rows · vectors ≤ MAX_ROWS · WIDE, constants where this
   is called. */
INLINE void multiply(const enum unit unit, const int packing, const int rows, const int vectors, const words *w,
                     const long w_stride, const unit_t *const *x, long steps, const words *ahead, const int fetched,
                     floats *out, const long out_stride) {
    floats sum[MAX_ROWS * WIDE];
    ints exact[MAX_ROWS * WIDE];
    UNROLL for (int i = 0; i < rows * vectors; i++) sum[i] = all_floats(0), exact[i] = (ints)all_words(0);
    for (long s = 0; s < steps; s += packing, w += w_stride, ahead += w_stride) {
        UNROLL for (int v = 0; v < fetched; v++) __builtin_prefetch(ahead + v, 0, 2); /* to the L2 cache */
        words packed[4 * WIDE];
        UNROLL for (int v = 0; v < vectors; v++) packed[v] = w[v];
        UNROLL for (int part = 0; part < packing; part++) {
            UNROLL for (int r = 0; r < rows; r++) {
                const uint32_t value = x[r][s + part];
                UNROLL for (int v = 0; v < vectors; v++) {
                    const int i = r * vectors + v;
                    const words column = unpack(packing, part, packed[v]);
                    if (unit == FLOAT) sum[i] += (floats)column * all_floats(as_float(value));
                    else if (unit == BFLOAT_PAIR) sum[i] = add_bfloat_pair(sum[i], column, value);
                    else exact[i] = add_short_pair(exact[i], column, value);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const int i = r * vectors + v;
            out[r * out_stride + v] = unit == SHORT_PAIR ? __builtin_convertvector(exact[i], floats) : sum[i];
        }
    }
}

/* Calls DO(rows) with its argument a constant. */
#define WITH_ROWS(count, DO) \
    switch (count) { \
        case 1: DO(1); break; \
        case 2: DO(2); break; \
        case 3: DO(3); break; \
        case 4: DO(4); break; \
        case 5: DO(5); break; \
        default: DO(6); break; \
    }

/* How many of `left` rows to take next: never more than MAX_ROWS, and no small remainder after large blocks. */
INLINE long next_rows(long left) {
    long blocks = (left + MAX_ROWS - 1) / MAX_ROWS;
    return (left + blocks - 1) / blocks;
}
