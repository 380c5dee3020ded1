/* A block of a decoder for the tokens of a forward pass, in one call: `x += r · attention(norm x); x += r · feed_forward
   (norm x)`, the feed-forward a gated one.

   What stands between two products stays in the cache: some rows go through all that can be done with them before the
   next ones do. Only attention divides the block, since a token may look at the keys of all. */
#include <stdlib.h>

#include "linear.h"

enum { ROWS_AT_ONCE = 256 };

struct norm { const float *weight; float epsilon; int centred; };

struct block {
    struct matrix project, output, gates, down; /* queries, keys and values are one product */
    struct norm attention_norm, feed_forward_norm;
    long width, inner, num_heads, num_key_heads, head_width; /* even ones */
    float residual;                                          /* r */
};

/* What all blocks of a pass have in common, as `rotate_rows`, `write_pages` and `attend` take it. */
struct pass {
    long num_tokens;
    const char *cosine, *sine; /* [tokens, head width], or null without rotation */
    const int64_t *slots, *written;
    long num_written, page_bytes, max_pages;
    const int32_t *page_table, *sequences, *positions;
    float scale;
    long window;
    const float *slopes;
};

int norm_rows(int x_bfloat, int y_bfloat, int centred, const char *x, const float *weight, char *y, float *means,
              float *scales, long rows, long width, float epsilon, int threads);
int rotate_rows(int bfloat, int angles_bfloat, const char *x, long stride, char *y, long y_stride, const char *cosine,
                const char *sine, float sign, long rows, long heads, long width, int threads);
int write_pages(int bfloat, const char *new_keys, long key_stride, const char *new_values, long value_stride,
                char *keys, char *values, long page_bytes, const int64_t *slots, const int64_t *written,
                long num_tokens, long num_key_heads, long width, int threads);
int attend(int bfloat, const char *queries, long query_stride, const char *keys, const char *values,
           long page_bytes, const int32_t *page_table, long max_pages, const int32_t *sequences, const int32_t *positions,
           long num_tokens, long num_heads, long num_key_heads, long width, float scale, long window,
           const float *slopes, char *out, int threads);

INLINE long at_least(long a, long b) { return a > b ? a : b; }

/* 4-byte units that a row takes as integers with their scales. */
INLINE long fixed_units(const struct matrix *matrix) {
    return matrix->group ? matrix->units + matrix->units / matrix->group : 0;
}

/* x [tokens, width] becomes what the block makes of it. Returns 0; 1 where a page is missing; 2 without memory. */
int block(const struct block *b, const struct pass *p, char *keys, char *values, char *x, int threads) {
    const int bfloat = b->project.format != FLOAT32;
    const long size = bfloat ? 2 : 4, queries = b->num_heads * b->head_width, rotated = b->num_heads + b->num_key_heads;
    const long columns = (rotated + b->num_key_heads) * b->head_width, num_tokens = p->num_tokens;
    const long rows = num_tokens < ROWS_AT_ONCE ? num_tokens : ROWS_AT_ONCE;
    const long fixed_row = at_least(at_least(fixed_units(&b->project), fixed_units(&b->output)),
                                    at_least(fixed_units(&b->gates), fixed_units(&b->down)));
    const long sizes[] = {num_tokens * columns * size, rows * at_least(b->width, queries) * size,
                          rows * b->inner * size, rows * fixed_row * 4};
    long starts[5] = {0};
    for (int i = 0; i < 4; i++) starts[i + 1] = starts[i] + (sizes[i] + 63) / 64 * 64;
    char *memory = aligned_alloc(64, (size_t)starts[4]);
    if (!memory) return 2;
    char *projected = memory, *narrow = memory + starts[1], *hidden = memory + starts[2];
    unit_t *fixed = fixed_row ? (unit_t *)(memory + starts[3]) : 0;

#define NORMALISE(norm) \
    norm_rows(bfloat, bfloat, b->norm.centred, x + first * b->width * size, b->norm.weight, narrow, 0, 0, count, b->width, \
              b->norm.epsilon, threads)
#define ADD_TO_X(matrix, from, stride) \
    linear(&b->matrix, ADD, b->residual, from, stride, count, x + first * b->width * size, b->width, b->width, fixed, \
           threads)
    for (long first = 0, count; first < num_tokens; first += count) {
        count = num_tokens - first < rows ? num_tokens - first : rows;
        char *to = projected + first * columns * size;
        NORMALISE(attention_norm);
        linear(&b->project, STORE, 0, narrow, b->width, count, to, columns, columns, fixed, threads);
        const long angles = first * b->head_width * size;
        if (p->cosine)
            rotate_rows(bfloat, bfloat, to, columns, to, columns, p->cosine + angles, p->sine + angles, 1, count,
                        rotated, b->head_width, threads);
    }
    const char *new_keys = projected + queries * size, *new_values = projected + rotated * b->head_width * size;
    write_pages(bfloat, new_keys, columns, new_values, columns, keys, values, p->page_bytes, p->slots, p->written,
                p->num_written, b->num_key_heads, b->head_width, threads);
    int failure = 0;
    for (long first = 0, count; first < num_tokens && !failure; first += count) {
        count = num_tokens - first < rows ? num_tokens - first : rows;
        failure = attend(bfloat, projected + first * columns * size, columns, keys, values, p->page_bytes, p->page_table,
                         p->max_pages, p->sequences + first, p->positions + first, count, b->num_heads,
                         b->num_key_heads, b->head_width, p->scale, p->window, p->slopes, narrow, threads);
        if (failure) break;
        ADD_TO_X(output, narrow, queries);
        NORMALISE(feed_forward_norm);
        linear(&b->gates, GATE, 0, narrow, b->width, count, hidden, b->inner, b->inner, fixed, threads);
        ADD_TO_X(down, hidden, b->inner);
    }
    free(memory);
    return failure;
}
