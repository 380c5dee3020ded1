/* A layer of experts for all its tokens: y = Σ gate · out · (silu(a) · b), where [a; b] = in · x.

   Tokens are sorted by expert, so that a panel of an expert's weights is read once for all tokens that chose it. Each
   token's sum runs over its own experts in their order: no token is dropped, none depends on another. */
#include <omp.h>
#include <stdlib.h>

#include "panel.h"

/* Who chose which expert: assignments, sorted by expert, and the work memory of a call. */
struct work {
    long num_tokens, num_assignments, num_active;
    long *starts;          /* [experts + 1]: where each expert's assignments begin */
    long *active;          /* experts that were chosen */
    long *tokens;          /* [assignments] */
    const float **gates;   /* [assignments] */
    char *x, *hidden;      /* rows of 4-byte units: [tokens], [assignments] */
    float *x_scales, *hidden_scales;
    char *rounded;         /* int8 and int4: hidden as bfloat16 */
    floats *totals;        /* [threads, tokens, 64] */
};

static void sort_by_expert(struct work *work, const int64_t *experts, const float *gates, long num_experts) {
    const long per_token = work->num_assignments / work->num_tokens;
    memset(work->starts, 0, (size_t)(num_experts + 1) * sizeof *work->starts);
    for (long i = 0; i < work->num_assignments; i++) work->starts[experts[i] + 1]++;
    work->num_active = 0;
    for (long e = 0; e < num_experts; e++) {
        if (work->starts[e + 1]) work->active[work->num_active++] = e;
        work->starts[e + 1] += work->starts[e];
    }
    for (long i = 0; i < work->num_assignments; i++) {
        const long at = work->starts[experts[i]]++;
        work->tokens[at] = i / per_token;
        work->gates[at] = gates + i;
    }
    for (long e = num_experts; e > 0; e--) work->starts[e] = work->starts[e - 1];
    work->starts[0] = 0;
}

/* The matrix of one expert among all, packed one after the other. */
INLINE struct matrix expert_of(const struct matrix *all, long expert) {
    struct matrix one = *all;
    const long before = expert * ((all->columns + PANEL - 1) / PANEL);
    one.panels += before * panel_bytes(all);
    if (all->format == INT8) one.scales += before * PANEL;
    if (all->format == INT4) one.scales += before * PANEL * (all->units / all->group);
    return one;
}

/* Up to TILE rows from `first` on: as they stand, or those that `indices` name. */
INLINE void take(struct rows *rows, const struct matrix *matrix, const char *units, const float *scales,
                 const long *indices, long first, long end) {
    rows->count = end - first < TILE ? end - first : TILE;
    for (long r = 0; r < rows->count; r++) {
        const long row = indices ? indices[first + r] : first + r;
        rows->units[r] = (const unit_t *)units + row * matrix->units;
        rows->scales[r] = matrix->group ? scales + row * (matrix->units / matrix->group) : NULL;
    }
}

/* hidden = silu(a) · b: 64 columns, from two neighbouring panels, of one expert's assignments. */
static void gate_panels(const struct matrix *in, const struct matrix *out, const struct work *work, long expert,
                        long pair, struct tiling *tiling) {
    const struct matrix matrix = expert_of(in, expert);
    const struct matrix hidden = {.format = out->format, .columns = out->width};
    char *to = out->group ? work->rounded : work->hidden;
    for (long first = work->starts[expert], end = work->starts[expert + 1]; first < end; first += TILE) {
        struct rows rows;
        floats a[TILE * PANEL_VECTORS], b[TILE * PANEL_VECTORS];
        take(&rows, in, work->x, work->x_scales, work->tokens, first, end);
        multiply_panel(&matrix, 2 * pair, &rows, a, tiling);
        multiply_panel(&matrix, 2 * pair + 1, &rows, b, tiling);
        for (long i = 0; i < rows.count * PANEL_VECTORS; i++) a[i] = silu(a[i]) * b[i];
        for (long r = 0; r < rows.count; r++)
            store_panel(&hidden, pair, a + r * PANEL_VECTORS, to + (first + r) * out->units * 4);
    }
}

/* 64 columns of the outputs of all tokens, expert by expert. */
static void add_panels(const struct matrix *out, const struct work *work, long panel, floats *totals, char *y,
                       struct tiling *tiling) {
    memset(totals, 0, (size_t)(work->num_tokens * PANEL_VECTORS) * sizeof *totals);
    for (long i = 0; i < work->num_active; i++) {
        const long expert = work->active[i];
        const struct matrix matrix = expert_of(out, expert);
        for (long first = work->starts[expert], end = work->starts[expert + 1]; first < end; first += TILE) {
            struct rows rows;
            floats sums[TILE * PANEL_VECTORS];
            take(&rows, out, work->hidden, work->hidden_scales, NULL, first, end);
            multiply_panel(&matrix, panel, &rows, sums, tiling);
            for (long r = 0; r < rows.count; r++)
                for (long v = 0; v < PANEL_VECTORS; v++)
                    totals[work->tokens[first + r] * PANEL_VECTORS + v] +=
                        sums[r * PANEL_VECTORS + v] * all_floats(*work->gates[first + r]);
        }
    }
    const long size = out->format == FLOAT32 ? 4 : 2;
    for (long t = 0; t < work->num_tokens; t++)
        store_panel(out, panel, totals + t * PANEL_VECTORS, y + t * out->columns * size);
}

/* All work memory in one piece; null where there is none. */
static void *allocate(struct work *work, const struct matrix *in, const struct matrix *out, long num_experts,
                      int threads) {
    const long n = work->num_tokens, a = work->num_assignments, fixed = in->group > 0;
    const struct { void *pointer; long bytes; } parts[] = {
        {&work->starts, (num_experts + 1) * (long)sizeof *work->starts},
        {&work->active, num_experts * (long)sizeof *work->active},
        {&work->tokens, a * (long)sizeof *work->tokens},
        {&work->gates, a * (long)sizeof *work->gates},
        {&work->x, fixed * n * in->units * 4},
        {&work->x_scales, fixed ? n * (in->units / in->group) * 4 : 0},
        {&work->hidden, a * out->units * 4},
        {&work->hidden_scales, fixed ? a * (out->units / out->group) * 4 : 0},
        {&work->rounded, fixed * a * out->units * 4},
        {&work->totals, threads * n * PANEL * 4},
    };
    const int num_parts = sizeof parts / sizeof *parts;
    long total = 0;
    for (int i = 0; i < num_parts; i++) total += (parts[i].bytes + 63) / 64 * 64;
    char *memory = aligned_alloc(64, (size_t)total), *next = memory;
    for (int i = 0; memory && i < num_parts; next += (parts[i].bytes + 63) / 64 * 64, i++)
        memcpy(parts[i].pointer, &next, sizeof next);
    return memory;
}

/* x, y [N, D] and experts, gates [N, k]. in: panels of 64 gates and 64 ups by turns, `inner` of each.
   Returns 0, or 2 without memory. */
int experts(long format, long width, long inner, const char *in_panels, const float *in_scales, long in_units,
            long in_group, const char *out_panels, const float *out_scales, long out_units, long out_group,
            long num_experts, const char *x, const int64_t *chosen, const float *gates, long num_tokens,
            long per_token, char *y, int threads) {
    const long pairs = (inner + PANEL - 1) / PANEL, out_columns = (width + PANEL - 1) / PANEL;
    const struct matrix in = {format, 2 * pairs * PANEL, width, in_units, in_group, in_panels, in_scales};
    const struct matrix out = {format, width, inner, out_units, out_group, out_panels, out_scales};
    struct work work = {.num_tokens = num_tokens, .num_assignments = num_tokens * per_token};
    void *memory = allocate(&work, &in, &out, num_experts, threads);
    if (!memory) return 2;
    sort_by_expert(&work, chosen, gates, num_experts);
    if (!in.group) work.x = (char *)x;

#pragma omp parallel num_threads(threads)
    {
        struct tiling tiling = {0};
        if (in.group) {
#pragma omp for schedule(static)
            for (long t = 0; t < num_tokens; t++) to_fixed_point(&in, x + t * width * 2, t, work.x, work.x_scales);
        }
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < work.num_active * pairs; task++)
            gate_panels(&in, &out, &work, work.active[task / pairs], task % pairs, &tiling);
        if (out.group) {
#pragma omp for schedule(static)
            for (long a = 0; a < work.num_assignments; a++)
                to_fixed_point(&out, work.rounded + a * out.units * 4, a, work.hidden, work.hidden_scales);
        }
        floats *totals = work.totals + omp_get_thread_num() * num_tokens * PANEL_VECTORS;
#pragma omp for schedule(dynamic, 1) nowait
        for (long panel = 0; panel < out_columns; panel++) add_panels(&out, &work, panel, totals, y, &tiling);
        end_tiling(&tiling);
    }
    free(memory);
    return 0;
}
