/* Causal attention of whole rows of tokens, and its gradient.

   One task is one key head of one row, with all query heads that read it. Everything is computed transposed: keys are
   rows, queries are columns, so that a query's maximum, sum and gradient are lanes of a vector, and what comes out of
   one product is what the next one takes. With 64 queries as columns and 64 keys as rows at a time
   (arXiv 2205.14135),

       forward:   Sᵀ = K · Qᵀ,  Pᵀ = exp(Sᵀ - largest),  Oᵀ += Vᵀ · Pᵀ
       backward:  Pᵀ = exp(K · Qᵀ - logsumexp),  dPᵀ = V · dOᵀ,  dSᵀ = Pᵀ ∘ (dPᵀ - Σ_c dO ∘ O),
                  dV += Pᵀ · dO,  dK += dSᵀ · Q,  dQᵀ += Kᵀ · dSᵀ

   Query q sees the keys first[q] … q: documents and windows are both ranges of keys. Blocks that no query sees are
   never computed. Sums are in float and in one order: results do not depend on the number of threads. */
#pragma once

#include <stdlib.h>

#include "numbers.h"

enum { BLOCK = 64, BLOCK_VECTORS = BLOCK / LANES, MAX_WIDTH = 256, MAX_VECTORS = MAX_WIDTH / LANES };

struct training_attention {
    const char *queries, *keys, *values; /* [B, T, H, C], [B, T, K, C] twice */
    const int32_t *first;                /* [B, T] */
    const float *slopes;                 /* [H], or null */
    long tokens, heads, key_heads, width;
    long strides[6];                     /* numbers from row to row, and from token to token: of q, k, v */
    float scale;
};

/* A matrix of this task: `units` 4-byte units a row. */
struct tile {
    const char *at;
    long stride; /* bytes from row to row */
    long rows, units;
};

INLINE long blocks_of(long count, long size) { return (count + size - 1) / size; }

/* Two vectors of bfloat16: each lane's two side by side, and each vector of its own. NaNs stay NaNs. */
struct bfloat_pair { words paired; halves low, high; };
INLINE struct bfloat_pair pair_bfloats(floats low, floats high) {
    struct bfloat_pair pair;
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
    static const uint16_t order[] __attribute__((aligned(64))) = {
        0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    pair.paired = (words)_mm512_permutexvar_epi16(*(const __m512i *)order, both);
    pair.low = (halves)_mm512_castsi512_si256(both);
    pair.high = (halves)_mm512_extracti64x4_epi64(both, 1);
#else
    const words a = round_to_bfloat(low), b = round_to_bfloat(high);
    pair.paired = a | b << 16;
    pair.low = __builtin_convertvector(a, halves);
    pair.high = __builtin_convertvector(b, halves);
#endif
    return pair;
}

/* A square of LANES rows of units from `from` on as columns: zeros beyond `count` rows and `units` units. */
INLINE void take_square(const char *from, long stride, long count, long units, words *square) {
    for (int r = 0; r < LANES; r++) {
        square[r] = all_words(0);
        if (r < count) memcpy(square + r, from + r * stride, (size_t)(units < LANES ? units : LANES) * 4);
    }
    transpose(square);
}

/* out[row · vectors + v] = Σ_units rows · columns, or with `add` added to what is there. */
void product_of_floats(int add, const struct tile *rows, const words *columns, long vectors, floats *out);
void product_of_pairs(int add, const struct tile *rows, const words *columns, long vectors, floats *out);

INLINE void product(const enum unit unit, int add, const struct tile *rows, const words *columns, long vectors,
                    floats *out) {
    if (unit == FLOAT) product_of_floats(add, rows, columns, vectors, out);
    else product_of_pairs(add, rows, columns, vectors, out);
}

/* columns[unit][row]: `count` rows of 4-byte units as BLOCK columns, zeros beyond them. */
INLINE void turn(const char *from, long stride, long count, long units, unit_t *columns) {
    for (long u = 0; u < units; u += LANES) {
        for (long r = 0; r < BLOCK; r += LANES) {
            words square[LANES];
            take_square(from + r * stride + u * 4, stride, count - r, units - u, square);
            for (long i = 0; i < LANES && u + i < units; i++) *(words *)(columns + (u + i) * BLOCK + r) = square[i];
        }
    }
}

/* columns[row, or pair of rows][number], `vectors` wide, zeros beyond the width and the rows; BLOCK rows. */
INLINE void pair_rows(const enum unit unit, const char *from, long stride, long count, long width, long vectors,
                      unit_t *columns) {
    const long padded = vectors * LANES;
    if (unit == FLOAT) {
        memset(columns, 0, (size_t)(BLOCK * padded) * 4);
        for (long r = 0; r < count; r++) memcpy(columns + r * padded, from + r * stride, (size_t)width * 4);
        return;
    }
    for (long pair = 0; pair < BLOCK / 2; pair++) {
        const uint16_t *low = (const uint16_t *)(from + 2 * pair * stride);
        const uint16_t *high = (const uint16_t *)(from + (2 * pair + 1) * stride);
        const long given = count - 2 * pair;
        unit_t *to = columns + pair * padded;
        if (given >= 2) {
            for (long c = 0; c < width; c++) to[c] = (uint32_t)high[c] << 16 | low[c];
        } else {
            for (long c = 0; c < width; c++) to[c] = given == 1 ? low[c] : 0;
        }
        for (long c = width; c < padded; c++) to[c] = 0;
    }
}

/* turned[number][row]: `count` rows as columns of numbers, padded to whole blocks with zeros. */
INLINE void turn_numbers(const enum unit unit, const char *from, long stride, long count, long width, char *turned) {
    const long padded = blocks_of(count, BLOCK) * BLOCK, units = unit == FLOAT ? width : width / 2;
    for (long r = 0; r < padded; r += LANES) {
        for (long u = 0; u < units; u += LANES) {
            words square[LANES];
            take_square(from + r * stride + u * 4, stride, count - r, units - u, square);
            for (long i = 0; i < LANES && u + i < units; i++) {
                if (unit == FLOAT) {
                    *(words *)((uint32_t *)turned + (u + i) * padded + r) = square[i];
                } else {
                    store_bfloats(square[i] & 0xffff, (uint16_t *)turned + 2 * (u + i) * padded + r);
                    store_bfloats(square[i] >> 16, (uint16_t *)turned + (2 * (u + i) + 1) * padded + r);
                }
            }
        }
    }
}

/* Rows of numbers, `step` bytes apart, from columns of BLOCK floats, each number times its column's factor. */
INLINE void turn_back(const enum unit unit, const floats *columns, const floats *factors, long count, long width,
                      char *rows, long step) {
    for (long c = 0; c < width; c += LANES) {
        for (long r = 0; r < count; r += LANES) {
            words square[LANES];
            for (long i = 0; i < LANES; i++) {
                const long at = (c + i) * BLOCK_VECTORS + r / LANES;
                square[i] = c + i < width ? (words)(columns[at] * factors[r / LANES]) : all_words(0);
            }
            transpose(square);
            for (long i = 0; i < LANES && r + i < count; i++)
                store(unit != FLOAT, rows + (r + i) * step, c, width - c, (floats)square[i]);
        }
    }
}

/* What a query sees, for BLOCK queries of which the last may be none. */
struct sight {
    ints first[BLOCK_VECTORS], last[BLOCK_VECTORS];
    long oldest;
    long query; /* of the first lane */
    long none_hidden_from, none_hidden_to; /* keys that every query of the block sees */
};

INLINE void look(const struct training_attention *a, long batch, long query, struct sight *sight) {
    const int32_t *first = a->first + batch * a->tokens;
    sight->oldest = a->tokens;
    sight->query = query;
    sight->none_hidden_from = 0;
    for (long i = 0; i < BLOCK; i++) {
        const int given = query + i < a->tokens;
        const int32_t from = given ? first[query + i] : (int32_t)a->tokens;
        ((int32_t *)sight->first)[i] = from;
        ((int32_t *)sight->last)[i] = given ? (int32_t)(query + i) : -1;
        if (given && from < sight->oldest) sight->oldest = from;
        if (from > sight->none_hidden_from) sight->none_hidden_from = from;
    }
    sight->none_hidden_to = query;
}

/* scores · scale + bias of one key, -∞ where it is hidden. `all`: no query of the block needs a mask. */
INLINE floats score_of(const int all, floats raw, const struct sight *sight, int v, long key, float scale, float slope) {
    static const int32_t counted[] __attribute__((aligned(64))) = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    floats score = raw * scale;
    if (slope != 0) {
        const ints distance = (int32_t)(key - sight->query - v * LANES) - *(const ints *)counted;
        score += __builtin_convertvector(distance, floats) * slope;
    }
    if (all) return score;
    const ints visible = (sight->first[v] <= (int32_t)key) & (sight->last[v] >= (int32_t)key);
    return select_floats(visible, score, all_floats(-INFINITY));
}
