/* The gradient of causal attention of whole rows of tokens. See training_attention.h. */
#include "training_attention.h"

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
