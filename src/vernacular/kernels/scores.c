/* What rows of scores over the vocabulary say of the next token: their normalisers, their best tokens, and the scores of
   some tokens; of scores that are there, or of a product whose scores are never written.

   The vocabulary is gone through in parts of a fixed length, each with a running maximum and sum (arXiv 1805.02867), and
   the parts are then put together in order. So a row's result is the same bits with whatever rows and threads, and
   whether its scores were written or not. */
#include <stdlib.h>

#include "linear.h"
#include "numbers.h"

enum { PART_PANELS = 64, PART = PART_PANELS * PANEL, BLOCK_ROWS = 256 };

/* Of the scores so far: the largest, its place, and the sum of e to what the others lack to it. */
struct running { floats sums; float largest; int64_t best; };
struct part { float largest, sum; int64_t best; };

INLINE void begin(struct running *r) { *r = (struct running){all_floats(0), -INFINITY, -1}; }

/* The first place of a score among those of a panel. */
INLINE long place_of(float score, const floats *scores) {
    const float *each = (const float *)scores;
    long place = 0;
    while (each[place] != score) place++;
    return place;
}

/* A panel's scores, the first of them that of token `first`; -infinity beyond the vocabulary. */
INLINE void add_scores(struct running *r, const floats *scores, long first) {
    floats most = scores[0];
    UNROLL for (int v = 1; v < PANEL_VECTORS; v++) most = max_floats(most, scores[v]);
    const float largest = largest_of(most);
    if (largest > r->largest) {
        if (r->largest > -INFINITY) r->sums *= weight_of(all_floats(r->largest - largest));
        r->largest = largest;
        r->best = first + place_of(largest, scores);
    }
    const float shift = r->largest > -INFINITY ? r->largest : 0;
    UNROLL for (int v = 0; v < PANEL_VECTORS; v++) r->sums += weight_of(scores[v] - shift);
}

INLINE struct part end(const struct running *r) { return (struct part){r->largest, sum_of(r->sums), r->best}; }

/* The logarithm of the sum of e to all scores of a row, and the first of its best tokens. Where a score is no number or
   positively infinite, or none is finite, that is no number, and the best token -1. */
static void put_together(const struct part *parts, long num_parts, float *normaliser, int64_t *best) {
    struct part whole = {-INFINITY, 0, -1};
    for (long i = 0; i < num_parts; i++)
        if (parts[i].largest > whole.largest) whole = parts[i];
    *best = whole.best;
    float sum = 0;
    for (long i = 0; i < num_parts; i++) sum += parts[i].sum * expf(parts[i].largest - whole.largest);
    *normaliser = whole.largest + logf(sum);
    if (*normaliser != *normaliser) *best = -1;
}

/* Of each row of scores [rows, width]: normaliser and best token. Returns 0; 2 without memory. */
int score_rows(int bfloat, const char *scores, float *normalisers, int64_t *best, long rows, long width, int threads) {
    const long bytes = width * (bfloat ? 2 : 4), num_parts = (width + PART - 1) / PART;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        struct part *parts = malloc((size_t)num_parts * sizeof *parts);
        failed = !parts;
#pragma omp for schedule(static)
        for (long r = 0; r < rows; r++) {
            for (long p = 0; p < num_parts && parts; p++) {
                struct running running;
                begin(&running);
                for (long at = p * PART; at < width && at < (p + 1) * PART; at += PANEL) {
                    floats panel[PANEL_VECTORS];
                    for (long v = 0; v < PANEL_VECTORS; v++) {
                        const long left = width - at - v * LANES;
                        panel[v] = left > 0 ? load(bfloat, scores + r * bytes, at + v * LANES, left) : all_floats(0);
                        for (long i = left > 0 ? left : 0; i < LANES; i++) panel[v][i] = -INFINITY;
                    }
                    add_scores(&running, panel, at);
                }
                parts[p] = end(&running);
            }
            if (parts) put_together(parts, num_parts, normalisers + r, best + r);
        }
        free(parts);
    }
    return failed ? 2 : 0;
}

/* Panel's totals of one row as scores: rounded to the activations' type, divided by `scaling`. */
INLINE void to_scores(const struct matrix *matrix, float scaling, long panel, floats *totals) {
    const long left = matrix->columns - panel * PANEL;
    UNROLL for (int v = 0; v < PANEL_VECTORS; v++) {
        if (matrix->format != FLOAT32) totals[v] = widened(bfloats_of(totals[v]));
        if (scaling != 1) totals[v] /= scaling;
    }
    if (left < PANEL)
        for (long i = left; i < PANEL; i++) ((float *)totals)[i] = -INFINITY;
}

/* Of the rows of x · weightᵀ / scaling: normalisers, best tokens, and the scores of tokens starts[r] … starts[r + 1] of
   row r (where `starts` is not null). x and `fixed` as in `linear`. Returns 0; 2 without memory. */
int score_product(const struct matrix *matrix, float scaling, const char *x, long x_stride, long rows,
                  const int64_t *starts, const int64_t *tokens, float *scores, float *normalisers, int64_t *best,
                  unit_t *fixed, int threads) {
    const long num_panels = (matrix->columns + PANEL - 1) / PANEL, at_once = rows_at_once(matrix);
    const long num_parts = (num_panels + PART_PANELS - 1) / PART_PANELS;
    const long num_blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    struct part *parts = malloc((size_t)(rows * num_parts) * sizeof *parts);
    if (!parts) return 2;
#pragma omp parallel num_threads(threads)
    {
        struct tiling tiling = {0};
        struct running running[BLOCK_ROWS];
        fix_rows(matrix, x, x_stride, rows, fixed);
#pragma omp for schedule(static)
        for (long task = 0; task < num_blocks * num_parts; task++) {
            const long part = task % num_parts, block = task / num_parts * BLOCK_ROWS;
            const long end_row = rows - block < BLOCK_ROWS ? rows : block + BLOCK_ROWS;
            const long last = num_panels - part * PART_PANELS < PART_PANELS ? num_panels : (part + 1) * PART_PANELS;
            for (long r = block; r < end_row; r++) begin(running + r - block);
            for (long panel = part * PART_PANELS; panel < last; panel++) {
                for (long first = block; first < end_row; first += at_once) {
                    struct rows some;
                    floats totals[TILE * PANEL_VECTORS];
                    take_rows(&some, matrix, x, x_stride, rows, fixed, first, end_row);
                    multiply_panel(matrix, panel, &some, totals, &tiling);
                    for (long r = first; r < first + some.count; r++) {
                        floats *of_row = totals + (r - first) * PANEL_VECTORS;
                        to_scores(matrix, scaling, panel, of_row);
                        add_scores(running + r - block, of_row, panel * PANEL);
                        for (int64_t i = starts ? starts[r] : 0; starts && i < starts[r + 1]; i++)
                            if (tokens[i] / PANEL == panel) scores[i] = ((float *)of_row)[tokens[i] % PANEL];
                    }
                }
            }
            for (long r = block; r < end_row; r++) parts[r * num_parts + part] = end(running + r - block);
        }
#pragma omp for schedule(static)
        for (long r = 0; r < rows; r++)
            put_together(parts + r * num_parts, num_parts, normalisers + r, best + r);
        end_tiling(&tiling);
    }
    free(parts);
    return 0;
}
