/* Attention over keys and values that lie in pages of 32 tokens.

   A page of keys holds, for each unit of a head (one float or two bfloat16), that unit of its 32 keys; a page of values
   holds, for each key (or two of them, paired), all numbers of the head. Both are thus matrices that `multiply` takes:
   scores = query · keys, outputs = probabilities · values. Widths are padded with zeros to multiples of 16.

   Every query goes through the pages it can see in order, with a running maximum and sum (arXiv 2112.05682), and a page
   that it cannot see changes nothing: its result depends on its own sequence up to its own position only, not on the
   queries it is computed with. */
#include <stdlib.h>

#include "numbers.h"
#include "tiles.h"

enum { PAGE_VECTORS = PAGE / LANES, MAX_QUERIES = 48, MAX_WIDTH = 256, MAX_VECTORS = MAX_WIDTH / LANES };
enum { NARROW = (int)WIDE < (int)PAGE_VECTORS ? (int)WIDE : (int)PAGE_VECTORS };

struct attention {
    const char *queries, *keys, *values; /* [N, H, C]; pages of [K, PAGE · C padded] twice */
    char *out;                           /* [N, H, C] */
    const int32_t *page_table, *sequences, *positions;
    const float *slopes; /* [H], or null */
    long query_stride, page_bytes, max_pages, num_tokens, num_heads, num_key_heads, width, window;
    float scale;
    int tiled; /* whether products go through matrix tiles */
};

/* Some heads of some tokens of one sequence, and what has been gathered for them so far. */
struct block {
    long first_token, num_tokens, key_head, first_head, num_heads;
    const unit_t *queries[MAX_QUERIES];
    int32_t positions[MAX_QUERIES], oldest[MAX_QUERIES]; /* keys that each row sees: oldest … position */
    float slopes[MAX_QUERIES];
    float largest[MAX_QUERIES];
    floats sums[MAX_QUERIES];
    struct tiling tiling;
    floats out[MAX_QUERIES * MAX_VECTORS];
    floats probabilities[MAX_QUERIES * PAGE_VECTORS];
    unit_t query_units[MAX_QUERIES * MAX_WIDTH];
};

INLINE long vectors_of(const struct attention *a) { return padded(a->width) / LANES; }

static const int32_t counted[] __attribute__((aligned(64))) = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Scores of one query against a page become probabilities, up to the factor that the running maximum decides. */
INLINE void weigh(const enum unit unit, const struct attention *a, struct block *b, long row, long first_key,
                  const floats *scores) {
    const int32_t position = b->positions[row], oldest = b->oldest[row];
    const ints count = *(const ints *)counted;
    floats *probabilities = b->probabilities + row * PAGE_VECTORS, score[PAGE_VECTORS];
    ints visible[PAGE_VECTORS];
    floats most = all_floats(-INFINITY);
    UNROLL for (int v = 0; v < PAGE_VECTORS; v++) {
        const ints key = count + (int32_t)(first_key + v * LANES);
        visible[v] = (key <= position) & (key >= oldest);
        score[v] = scores[v] * a->scale;
        if (a->slopes) score[v] += __builtin_convertvector(key - position, floats) * b->slopes[row];
        most = max_floats(most, select_floats(visible[v], score[v], all_floats(-INFINITY)));
    }
    const float before = b->largest[row], page_largest = largest_of(most);
    const float largest = page_largest > before ? page_largest : before;
    if (largest > before && before > -INFINITY) {
        const floats factor = exponential(all_floats(before - largest));
        b->sums[row] *= factor;
        for (long v = 0; v < vectors_of(a); v++) b->out[row * vectors_of(a) + v] *= factor;
    }
    b->largest[row] = largest;
    UNROLL for (int v = 0; v < PAGE_VECTORS; v++) {
        /* A score that is not a number compares with nothing; it must still reach the output. */
        floats p = select_floats(score[v] == score[v], exponential(score[v] - largest), score[v]);
        p = select_floats(visible[v], p, all_floats(0));
        if (unit == BFLOAT_PAIR) {
            const halves rounded = bfloats_of(p);
            *(halves *)((uint16_t *)probabilities + v * LANES) = rounded;
            p = widened(rounded);
        } else probabilities[v] = p;
        b->sums[row] += p;
    }
}

/* One page, `at` bytes into the pools, for all rows of a block; meanwhile the next one comes from memory. */
INLINE void visit_page(const enum unit unit, const struct attention *a, struct block *b, long first_key, long at,
                       long next) {
    const words *keys = (const words *)(a->keys + at), *values = (const words *)(a->values + at);
    const words *next_keys = (const words *)(a->keys + next), *next_values = (const words *)(a->values + next);
    const long num_rows = b->num_tokens * b->num_heads, vectors = vectors_of(a);
    const long halves = unit == BFLOAT_PAIR ? 2 : 1;
    if (unit == BFLOAT_PAIR && a->tiled) {
        floats scores[MAX_QUERIES * PAGE_VECTORS];
        const char *queries = (const char *)b->query_units;
        score_page_in_tiles(queries, num_rows, vectors * LANES / 2, a->keys + at, (float *)scores);
        for (long r = 0; r < num_rows; r++) weigh(unit, a, b, r, first_key, scores + r * PAGE_VECTORS);
        const float *probabilities = (const float *)b->probabilities;
        gather_page_in_tiles(probabilities, num_rows, a->values + at, vectors * LANES, (float *)b->out);
        return;
    }
    for (long first = 0, count; first < num_rows; first += count) {
        floats scores[MAX_ROWS * PAGE_VECTORS];
        count = next_rows(num_rows - first);
#define SCORE(n) \
    for (int v = 0; v < PAGE_VECTORS; v += NARROW) \
    multiply(unit, 1, n, NARROW, keys + v, PAGE_VECTORS, b->queries + first, vectors * LANES / halves, \
             (first ? keys : next_keys) + v, NARROW, scores + v, PAGE_VECTORS)
        WITH_ROWS(count, SCORE)
        for (long r = 0; r < count; r++) weigh(unit, a, b, first + r, first_key, scores + r * PAGE_VECTORS);
    }
    for (long first = 0, count; first < num_rows; first += count) {
        const unit_t *rows[MAX_ROWS];
        floats sum[MAX_ROWS * WIDE];
        count = next_rows(num_rows - first);
        for (long r = 0; r < count; r++) rows[r] = (const unit_t *)(b->probabilities + (first + r) * PAGE_VECTORS);
        for (long v = 0, wide; v < vectors; v += wide) {
            wide = WIDE >= 4 && vectors - v >= 4 ? 4 : NARROW == 2 && vectors - v >= 2 ? 2 : 1;
#define GATHER_WIDE(n, w) \
    multiply(unit, 1, n, w, values + v, vectors, rows, PAGE / halves, (first ? values : next_values) + v, w, sum, w)
#define GATHER(n) \
    if (wide == 1) GATHER_WIDE(n, 1); \
    else if (WIDE >= 4 && wide == 4) GATHER_WIDE(n, WIDE); \
    else if (NARROW == 2) GATHER_WIDE(n, NARROW)
            WITH_ROWS(count, GATHER)
            for (long r = 0; r < count; r++)
                for (long i = 0; i < wide; i++) b->out[(first + r) * vectors + v + i] += sum[r * wide + i];
        }
    }
}

INLINE void begin_block(const enum unit unit, const struct attention *a, struct block *b) {
    const long size = unit == FLOAT ? 4 : 2, padded_bytes = padded(a->width) * size;
    for (long row = 0; row < b->num_tokens * b->num_heads; row++) {
        const long token = b->first_token + row / b->num_heads, head = b->first_head + row % b->num_heads;
        char *units = (char *)b->query_units + row * padded_bytes;
        memcpy(units, a->queries + (token * a->query_stride + head * a->width) * size, (size_t)(a->width * size));
        memset(units + a->width * size, 0, (size_t)(padded_bytes - a->width * size));
        const int32_t position = a->positions[token], window = (int32_t)a->window;
        b->positions[row] = position;
        b->oldest[row] = window > 0 && position >= window ? position - window + 1 : 0;
        b->slopes[row] = a->slopes ? a->slopes[head] : 0;
        b->queries[row] = (const unit_t *)units;
        b->largest[row] = -INFINITY;
        b->sums[row] = all_floats(0);
        for (long v = 0; v < vectors_of(a); v++) b->out[row * vectors_of(a) + v] = all_floats(0);
    }
}

INLINE void end_block(const enum unit unit, const struct attention *a, const struct block *b) {
    for (long row = 0; row < b->num_tokens * b->num_heads; row++) {
        const long token = b->first_token + row / b->num_heads, head = b->first_head + row % b->num_heads;
        const float *gathered = (const float *)(b->out + row * vectors_of(a));
        float sum = 0;
        for (int i = 0; i < LANES; i++) sum += b->sums[row][i];
        for (long c = 0, at = (token * a->num_heads + head) * a->width; c < a->width; c++) {
            if (unit == FLOAT) ((float *)a->out)[at + c] = gathered[c] / sum;
            else ((uint16_t *)a->out)[at + c] = bfloat_of(gathered[c] / sum);
        }
    }
}

/* 0, or 1 where a page that the block can see is missing from the table. */
INLINE int attend_block(const enum unit unit, const struct attention *a, struct block *b) {
    const long bytes = PAGE * padded(a->width) * (unit == FLOAT ? 4 : 2);
    const int32_t *pages = a->page_table + a->sequences[b->first_token] * a->max_pages;
    long oldest = a->positions[b->first_token], newest = oldest;
    for (long t = b->first_token; t < b->first_token + b->num_tokens; t++) {
        newest = a->positions[t] > newest ? a->positions[t] : newest;
        oldest = a->positions[t] < oldest ? a->positions[t] : oldest;
    }
    oldest = a->window > 0 && oldest >= a->window ? oldest - a->window + 1 : 0;
    begin_block(unit, a, b);
    if (a->tiled) begin_tiles(b->num_tokens * b->num_heads, &b->tiling);
    int missing = 0;
    for (long p = oldest / PAGE; p <= newest / PAGE; p++) {
        missing = p >= a->max_pages || pages[p] < 0;
        if (missing) break;
        const long at = pages[p] * a->page_bytes + b->key_head * bytes;
        const int32_t following = p < newest / PAGE && pages[p + 1] >= 0 ? pages[p + 1] : pages[p];
        const long next = following * a->page_bytes + b->key_head * bytes;
        visit_page(unit, a, b, p * PAGE, at, next);
    }
    if (!missing) end_block(unit, a, b);
    return missing;
}

/* q [N, H, C] with `query_stride` numbers from token to token; out [N, H, C]. bfloat: all of them bfloat16, or float.
   Pages stand `page_bytes` apart. Returns 0; 1 where a page is missing; 2 without memory. */
int attend(int bfloat, const char *queries, long query_stride, const char *keys, const char *values,
           long page_bytes, const int32_t *page_table, long max_pages, const int32_t *sequences, const int32_t *positions,
           long num_tokens, long num_heads, long num_key_heads, long width, float scale, long window,
           const float *slopes, char *out, int threads) {
    const struct attention a = {queries, keys, values, out, page_table, sequences, positions, slopes, query_stride,
                                page_bytes, max_pages, num_tokens, num_heads, num_key_heads, width, window, scale,
                                bfloat && has_tiles(padded(width) / 2)};
    const long group = num_heads / num_key_heads;
    const long parts = (group + MAX_QUERIES - 1) / MAX_QUERIES, heads = (group + parts - 1) / parts;
    long *starts = malloc((size_t)(num_tokens + 1) * sizeof *starts), num_blocks = 0;
    if (!starts) return 2;
    for (long t = 0; t < num_tokens; t++)
        if (!num_blocks || sequences[t] != sequences[t - 1] || (t - starts[num_blocks - 1] + 1) * heads > MAX_QUERIES)
            starts[num_blocks++] = t;
    starts[num_blocks] = num_tokens;

    int failed = 0;
    const long split = num_key_heads * parts;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct block b;
        b.tiling.rows = 0;
#pragma omp for schedule(dynamic, 1) nowait
        for (long task = num_blocks * split - 1; task >= 0; task--) { /* the last blocks of a prompt see the most */
            /* All blocks by one key head, then by the next: pages that sequences share are still near. */
            const long block = task % num_blocks, head = task / num_blocks, part = head % parts;
            b.first_token = starts[block];
            b.num_tokens = starts[block + 1] - starts[block];
            b.key_head = head / parts;
            b.first_head = b.key_head * group + part * heads;
            b.num_heads = group - part * heads < heads ? group - part * heads : heads;
            failed |= bfloat ? attend_block(BFLOAT_PAIR, &a, &b) : attend_block(FLOAT, &a, &b);
        }
        end_tiling(&b.tiling);
    }
    free(starts);
    return failed;
}
