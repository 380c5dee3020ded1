/* Causal attention of whole rows of tokens: forward. See training_attention.h. */
#include "training_attention.h"

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
