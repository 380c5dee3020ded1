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

/* A square of LANES rows of units from `from` on as columns: zeros beyond `count` rows and `units` units. */
INLINE void take_square(const char *from, long stride, long count, long units, words *square) {
    for (int r = 0; r < LANES; r++) {
        square[r] = all_words(0);
        if (r < count) memcpy(square + r, from + r * stride, (size_t)(units < LANES ? units : LANES) * 4);
    }
    transpose(square);
}

INLINE void product_of(const enum unit unit, const int add, const struct tile *rows, const words *columns,
                       const long vectors, floats *out) {
    for (long first = 0, count; first < rows->rows; first += count) {
        const unit_t *x[MAX_ROWS];
        count = next_rows(rows->rows - first);
        for (long r = 0; r < count; r++) x[r] = (const unit_t *)(rows->at + (first + r) * rows->stride);
        for (long v = 0, wide; v < vectors; v += wide) {
            floats sum[MAX_ROWS * WIDE];
            const long left = vectors - v;
            wide = left >= WIDE ? WIDE : left >= 2 ? 2 : 1;
#define MULTIPLY(n, w) multiply(unit, 1, n, w, columns + v, vectors, x, rows->units, columns, 0, sum, w)
#define OF_ROWS(n) \
    if (wide == WIDE) MULTIPLY(n, WIDE); \
    else if (wide == 2) MULTIPLY(n, 2); \
    else MULTIPLY(n, 1)
            WITH_ROWS(count, OF_ROWS)
#undef OF_ROWS
#undef MULTIPLY
            for (long r = 0; r < count; r++) {
                floats *to = out + (first + r) * vectors + v;
                if (add) for (long i = 0; i < wide; i++) to[i] += sum[r * wide + i];
                else for (long i = 0; i < wide; i++) to[i] = sum[r * wide + i];
            }
        }
    }
}

static void product_of_floats(int add, const struct tile *rows, const words *columns, long vectors, floats *out) {
    product_of(FLOAT, add, rows, columns, vectors, out);
}
static void product_of_pairs(int add, const struct tile *rows, const words *columns, long vectors, floats *out) {
    product_of(BFLOAT_PAIR, add, rows, columns, vectors, out);
}

/* out[row · vectors + v] = Σ_units rows · columns, or added to what is there. */
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

struct forward_work {
    unit_t query_columns[BLOCK * MAX_WIDTH];
    floats scores[BLOCK * BLOCK_VECTORS];
    words weights[BLOCK * BLOCK_VECTORS];
    floats out[MAX_WIDTH * BLOCK_VECTORS];
};

/* Scores of a block of keys become weights; what was gathered before shrinks by the rise of the maximum. */
INLINE void weigh(const enum unit unit, const int all, const struct training_attention *a, struct forward_work *work,
                  const struct sight *sight, long key, long num_keys, float slope, floats *largest, floats *sums) {
    for (int v = 0; v < BLOCK_VECTORS; v++) {
        floats most = largest[v];
        for (long k = 0; k < num_keys; k++) {
            floats *score = work->scores + k * BLOCK_VECTORS + v;
            *score = score_of(all, *score, sight, v, key + k, a->scale, slope);
            most = max_floats(most, *score);
        }
        /* A query that has seen nothing yet: any finite number does for its maximum. */
        const floats base = select_floats(most > -INFINITY, most, all_floats(0));
        const floats factor = exponential(largest[v] - base);
        floats sum = sums[v] * factor;
        largest[v] = most;
        for (long k = 0; k < BLOCK; k += 2) {
            floats low = all_floats(0), high = all_floats(0);
            if (k < num_keys) low = weight_of(work->scores[k * BLOCK_VECTORS + v] - base);
            if (k + 1 < num_keys) high = weight_of(work->scores[(k + 1) * BLOCK_VECTORS + v] - base);
            sum += low + high;
            if (unit == FLOAT) {
                work->weights[k * BLOCK_VECTORS + v] = (words)low;
                work->weights[(k + 1) * BLOCK_VECTORS + v] = (words)high;
            } else work->weights[k / 2 * BLOCK_VECTORS + v] = pair_bfloats(low, high).paired;
        }
        sums[v] = sum;
        if (key == sight->oldest / BLOCK * BLOCK) continue;
        for (long c = 0; c < a->width; c++) work->out[c * BLOCK_VECTORS + v] *= factor;
    }
}

INLINE void forward_task(const enum unit unit, const struct training_attention *a, long task, char *out, float *norms,
                         struct forward_work *work, char *turned_values) {
    const long size = unit == FLOAT ? 4 : 2, units = a->width * size / 4, halves = 4 / size;
    const long batch = task / a->key_heads, key_head = task % a->key_heads, group = a->heads / a->key_heads;
    const char *keys = a->keys + (batch * a->strides[2] + key_head * a->width) * size;
    const char *values = a->values + (batch * a->strides[4] + key_head * a->width) * size;
    const long padded = blocks_of(a->tokens, BLOCK) * BLOCK;
    turn_numbers(unit, values, a->strides[5] * size, a->tokens, a->width, turned_values);
    for (long query = 0; query < a->tokens; query += BLOCK) {
        struct sight sight;
        look(a, batch, query, &sight);
        const long num_queries = a->tokens - query < BLOCK ? a->tokens - query : BLOCK;
        for (long head = key_head * group; head < (key_head + 1) * group; head++) {
            const char *queries = a->queries + (batch * a->strides[0] + query * a->strides[1] + head * a->width) * size;
            const float slope = a->slopes ? a->slopes[head] : 0;
            floats largest[BLOCK_VECTORS], sums[BLOCK_VECTORS];
            for (int v = 0; v < BLOCK_VECTORS; v++) largest[v] = all_floats(-INFINITY), sums[v] = all_floats(0);
            turn(queries, a->strides[1] * size, num_queries, units, work->query_columns);
            for (long key = sight.oldest / BLOCK * BLOCK; key < query + num_queries; key += BLOCK) {
                const long num_keys = a->tokens - key < BLOCK ? a->tokens - key : BLOCK;
                const struct tile key_rows = {keys + key * a->strides[3] * size, a->strides[3] * size, num_keys, units};
                product(unit, 0, &key_rows, (const words *)work->query_columns, BLOCK_VECTORS, work->scores);
                if (key >= sight.none_hidden_from && key + num_keys <= sight.none_hidden_to)
                    weigh(unit, 1, a, work, &sight, key, num_keys, slope, largest, sums);
                else weigh(unit, 0, a, work, &sight, key, num_keys, slope, largest, sums);
                const struct tile value_rows = {turned_values + key * size, padded * size, a->width, BLOCK / halves};
                if (key == sight.oldest / BLOCK * BLOCK)
                    product(unit, 0, &value_rows, work->weights, BLOCK_VECTORS, work->out);
                else product(unit, 1, &value_rows, work->weights, BLOCK_VECTORS, work->out);
            }
            char *to = out + ((batch * a->tokens + query) * a->heads + head) * a->width * size;
            floats over[BLOCK_VECTORS];
            for (int v = 0; v < BLOCK_VECTORS; v++) over[v] = 1.0f / sums[v];
            turn_back(unit, work->out, over, num_queries, a->width, to, a->heads * a->width * size);
            for (long i = 0; i < num_queries; i++) {
                norms[(batch * a->heads + head) * a->tokens + query + i] =
                    ((const float *)largest)[i] + logf(((const float *)sums)[i]);
            }
        }
    }
}

/* Each row is [q; k; v] of `strides` {q row, q token, k row, k token, v row, v token}; the heads of a token stand side
   by side. out [B, T, H, C]; norms [B, H, T]: logsumexp of each query's scores. Returns 0, or 2 without memory. */
int training_attention(int bfloat, const char *queries, const char *keys, const char *values, const long *strides,
                       const int32_t *first, const float *slopes, long rows, long tokens, long heads, long key_heads,
                       long width, float scale, char *out, float *norms, int threads) {
    struct training_attention a = {queries, keys, values, first, slopes, tokens, heads, key_heads, width, {0}, scale};
    memcpy(a.strides, strides, sizeof a.strides);
    const size_t turned = (size_t)(blocks_of(tokens, BLOCK) * BLOCK * width * (bfloat ? 2 : 4) + 63) / 64 * 64;
    const size_t own = (sizeof(struct forward_work) + 63) / 64 * 64 + turned;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct forward_work *work = aligned_alloc(64, own);
        failed |= !work;
        char *turned_values = (char *)work + own - turned;
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < rows * key_heads; task++) {
            if (!work) continue;
            if (bfloat) forward_task(BFLOAT_PAIR, &a, task, out, norms, work, turned_values);
            else forward_task(FLOAT, &a, task, out, norms, work, turned_values);
        }
        free(work);
    }
    return failed ? 2 : 0;
}

struct backward_work {
    unit_t query_columns[BLOCK * MAX_WIDTH], answer_columns[BLOCK * MAX_WIDTH];
    unit_t query_pairs[BLOCK * MAX_WIDTH], answer_pairs[BLOCK * MAX_WIDTH];
    floats scores[BLOCK * BLOCK_VECTORS], slants[BLOCK * BLOCK_VECTORS];
    unit_t weights[BLOCK * BLOCK], score_gradients[BLOCK * BLOCK]; /* [key][query] */
    words paired_gradients[BLOCK * BLOCK_VECTORS];                 /* of keys */
    floats query_gradients[MAX_WIDTH * BLOCK_VECTORS];
    floats norms[BLOCK_VECTORS], drifts[BLOCK_VECTORS], scales[BLOCK_VECTORS];
};

/* Pᵀ and dSᵀ of a block of keys, as rows for dV and dK and paired for dQ. */
INLINE void differentiate(const enum unit unit, const int all, const struct training_attention *a,
                          struct backward_work *work, const struct sight *sight, long key, long num_keys,
                          float slope) {
    for (long k = 0; k < BLOCK; k += 2) {
        for (int v = 0; v < BLOCK_VECTORS; v++) {
            floats weight[2], gradient[2];
            for (int i = 0; i < 2; i++) {
                const long at = (k + i) * BLOCK_VECTORS + v;
                weight[i] = gradient[i] = all_floats(0);
                if (k + i >= num_keys) continue;
                const floats score = score_of(all, work->scores[at], sight, v, key + k + i, a->scale, slope);
                weight[i] = weight_of(score - work->norms[v]);
                gradient[i] = weight[i] * (work->slants[at] - work->drifts[v]);
                if (unit == FLOAT) {
                    ((floats *)work->weights)[at] = weight[i];
                    ((floats *)work->score_gradients)[at] = gradient[i];
                }
            }
            if (unit == FLOAT) {
                work->paired_gradients[k * BLOCK_VECTORS + v] = (words)gradient[0];
                work->paired_gradients[(k + 1) * BLOCK_VECTORS + v] = (words)gradient[1];
                continue;
            }
            const struct bfloat_pair weights = pair_bfloats(weight[0], weight[1]);
            const struct bfloat_pair gradients = pair_bfloats(gradient[0], gradient[1]);
            work->paired_gradients[k / 2 * BLOCK_VECTORS + v] = gradients.paired;
            uint16_t *weight_rows = (uint16_t *)work->weights + k * BLOCK + v * LANES;
            uint16_t *gradient_rows = (uint16_t *)work->score_gradients + k * BLOCK + v * LANES;
            *(halves *)weight_rows = weights.low;
            *(halves *)(weight_rows + BLOCK) = weights.high;
            *(halves *)gradient_rows = gradients.low;
            *(halves *)(gradient_rows + BLOCK) = gradients.high;
        }
    }
}

struct gradients {
    const char *answers, *answer_gradients; /* [B, T, H, C] */
    const float *norms;
    char *queries, *keys, *values; /* [B, T, H, C], [B, T, K, C] twice */
};

/* The columns of one block of queries of one head, and what each query's own gradient shifts its scores' by. */
INLINE void begin_block(const enum unit unit, const struct training_attention *a, const struct gradients *g,
                        struct backward_work *work, long batch, long query, long head, long num_queries) {
    const long size = unit == FLOAT ? 4 : 2, units = a->width * size / 4, vectors = blocks_of(a->width, LANES);
    const char *queries = a->queries + (batch * a->strides[0] + query * a->strides[1] + head * a->width) * size;
    const long place = ((batch * a->tokens + query) * a->heads + head) * a->width, step = a->heads * a->width;
    turn(queries, a->strides[1] * size, num_queries, units, work->query_columns);
    pair_rows(unit, queries, a->strides[1] * size, num_queries, a->width, vectors, work->query_pairs);
    turn(g->answer_gradients + place * size, step * size, num_queries, units, work->answer_columns);
    pair_rows(unit, g->answer_gradients + place * size, step * size, num_queries, a->width, vectors, work->answer_pairs);
    for (long i = 0; i < BLOCK; i++) {
        float drift = 0, norm = 0;
        if (i < num_queries) {
            const char *answer = g->answers + (place + i * step) * size;
            const char *change = g->answer_gradients + (place + i * step) * size;
            floats along = all_floats(0);
            for (long c = 0; c < a->width; c += LANES)
                along += load(size == 2, answer, c, a->width - c) * load(size == 2, change, c, a->width - c);
            drift = sum_of(along);
            norm = g->norms[(batch * a->heads + head) * a->tokens + query + i];
        }
        ((float *)work->norms)[i] = norm;
        ((float *)work->drifts)[i] = drift;
    }
}

INLINE void backward_task(const enum unit unit, const struct training_attention *a, const struct gradients *g,
                          long task, struct backward_work *work, char *turned_keys, floats *key_sums,
                          floats *value_sums) {
    const long size = unit == FLOAT ? 4 : 2, units = a->width * size / 4, halves = 4 / size;
    const long batch = task / a->key_heads, key_head = task % a->key_heads, group = a->heads / a->key_heads;
    const long vectors = blocks_of(a->width, LANES), padded = blocks_of(a->tokens, BLOCK) * BLOCK;
    const char *keys = a->keys + (batch * a->strides[2] + key_head * a->width) * size;
    const char *values = a->values + (batch * a->strides[4] + key_head * a->width) * size;
    turn_numbers(unit, keys, a->strides[3] * size, a->tokens, a->width, turned_keys);
    for (int v = 0; v < BLOCK_VECTORS; v++) work->scales[v] = all_floats(a->scale);
    memset(key_sums, 0, (size_t)(padded * vectors) * sizeof *key_sums);
    memset(value_sums, 0, (size_t)(padded * vectors) * sizeof *value_sums);
    for (long query = 0; query < a->tokens; query += BLOCK) {
        struct sight sight;
        look(a, batch, query, &sight);
        const long num_queries = a->tokens - query < BLOCK ? a->tokens - query : BLOCK;
        for (long head = key_head * group; head < (key_head + 1) * group; head++) {
            const float slope = a->slopes ? a->slopes[head] : 0;
            begin_block(unit, a, g, work, batch, query, head, num_queries);
            memset(work->query_gradients, 0, (size_t)(a->width * BLOCK) * sizeof(float));
            for (long key = sight.oldest / BLOCK * BLOCK; key < query + num_queries; key += BLOCK) {
                const long num_keys = a->tokens - key < BLOCK ? a->tokens - key : BLOCK;
                const struct tile key_rows = {keys + key * a->strides[3] * size, a->strides[3] * size, num_keys, units};
                const struct tile value_rows = {values + key * a->strides[5] * size, a->strides[5] * size, num_keys,
                                                units};
                product(unit, 0, &key_rows, (const words *)work->query_columns, BLOCK_VECTORS, work->scores);
                product(unit, 0, &value_rows, (const words *)work->answer_columns, BLOCK_VECTORS, work->slants);
                if (key >= sight.none_hidden_from && key + num_keys <= sight.none_hidden_to)
                    differentiate(unit, 1, a, work, &sight, key, num_keys, slope);
                else differentiate(unit, 0, a, work, &sight, key, num_keys, slope);
                const struct tile weights = {(const char *)work->weights, BLOCK * size, num_keys, BLOCK / halves};
                const struct tile changes = {(const char *)work->score_gradients, BLOCK * size, num_keys,
                                             BLOCK / halves};
                const struct tile turned = {turned_keys + key * size, padded * size, a->width, BLOCK / halves};
                product(unit, 1, &weights, (const words *)work->answer_pairs, vectors, value_sums + key * vectors);
                product(unit, 1, &changes, (const words *)work->query_pairs, vectors, key_sums + key * vectors);
                product(unit, 1, &turned, work->paired_gradients, BLOCK_VECTORS, work->query_gradients);
            }
            const long place = ((batch * a->tokens + query) * a->heads + head) * a->width, step = a->heads * a->width;
            turn_back(unit, work->query_gradients, work->scales, num_queries, a->width, g->queries + place * size,
                      step * size);
        }
    }
    const long place = (batch * a->tokens * a->key_heads + key_head) * a->width, step = a->key_heads * a->width;
    for (long t = 0; t < a->tokens; t++) {
        for (long c = 0; c < a->width; c += LANES) {
            const long at = t * vectors + c / LANES, left = a->width - c;
            store(unit != FLOAT, g->keys + (place + t * step) * size, c, left, key_sums[at] * a->scale);
            store(unit != FLOAT, g->values + (place + t * step) * size, c, left, value_sums[at]);
        }
    }
}

/* Gradients of queries, keys and values, without gaps, from that of the answers. Returns 0, or 2 without memory. */
int training_attention_gradient(int bfloat, const char *queries, const char *keys, const char *values,
                                const long *strides, const int32_t *first, const float *slopes, long rows, long tokens,
                                long heads, long key_heads, long width, float scale, const char *answers,
                                const char *answer_gradients, const float *norms, char *query_gradients,
                                char *key_gradients, char *value_gradients, int threads) {
    struct training_attention a = {queries, keys, values, first, slopes, tokens, heads, key_heads, width, {0}, scale};
    memcpy(a.strides, strides, sizeof a.strides);
    const struct gradients g = {answers, answer_gradients, norms, query_gradients, key_gradients, value_gradients};
    const size_t padded = (size_t)(blocks_of(tokens, BLOCK) * BLOCK);
    const size_t turned = (padded * (size_t)width * (bfloat ? 2 : 4) + 63) / 64 * 64;
    const size_t sums = padded * (size_t)blocks_of(width, LANES) * sizeof(floats);
    const size_t own = (sizeof(struct backward_work) + 63) / 64 * 64;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        char *memory = aligned_alloc(64, own + turned + 2 * sums);
        failed |= !memory;
        struct backward_work *work = (struct backward_work *)memory;
        char *turned_keys = memory + own;
        floats *key_sums = (floats *)(memory + own + turned), *value_sums = (floats *)(memory + own + turned + sums);
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < rows * key_heads; task++) {
            if (!memory) continue;
            if (bfloat) backward_task(BFLOAT_PAIR, &a, &g, task, work, turned_keys, key_sums, value_sums);
            else backward_task(FLOAT, &a, &g, task, work, turned_keys, key_sums, value_sums);
        }
        free(memory);
    }
    return failed ? 2 : 0;
}
