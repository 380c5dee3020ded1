/* A matrix packed in panels of 64 columns, and the product of one panel with some rows. */
#pragma once

#include "vectors.h"

enum format { FLOAT32, BFLOAT16, INT8, INT4 };
enum { PANEL = 64, PANEL_VECTORS = PANEL / LANES, TILE = 192 };

/* How many units share a lane. */
INLINE int packing_of(enum format format) { return format == INT8 ? 2 : format == INT4 ? 4 : 1; }

/* Activations of K numbers times weights [N, K]. As Python's `PackedLinear` lays it out. */
struct matrix {
    long format;
    long columns;       /* N */
    long width;         /* K */
    long units;         /* K in 4-byte units: K for float32, otherwise half of K, padded to whole groups */
    long group;         /* units that share a scale (int8: of activations; int4: of weights too) */
    const char *panels; /* [N / 64][units / packing][64] lanes of 4 bytes */
    const float *scales; /* int8: [N / 64][64]; int4: [N / 64][units / group][64] */
};

/* Rows that are multiplied together: at most TILE. */
struct rows {
    long count;
    const unit_t *units[TILE];
    const float *scales[TILE]; /* int8 and int4: one per group of each row */
};

/* For how many rows a thread's matrix tiles are configured; 0 for none. What is 0 at first is ended at last. */
struct tiling { long rows; };

void end_tiling(struct tiling *tiling);

/* How many rows are best multiplied at a time: at most TILE. */
long rows_at_once(const struct matrix *matrix);

long panel_bytes(const struct matrix *matrix);

/* A row of bfloat16 as integers of 16 bits, to row `row` of `units` and `scales`: each group has a power of two in
   common. The largest number of a group uses 15 bits, so a bfloat16 within 2⁻⁷ of it is exact and what is lost of any
   other is at most 2⁻¹⁵ of the largest. Products and sums of the integers are exact. */
void to_fixed_point(const struct matrix *matrix, const char *x, long row, char *units, float *scales);

/* totals[r] = rows[r] · panel, 64 floats a row. */
void multiply_panel(const struct matrix *matrix, long panel, const struct rows *rows, floats *totals,
                    struct tiling *tiling);

/* One row of the totals, as numbers of the activations' type, to its place in the row `y` of all columns. */
void store_panel(const struct matrix *matrix, long panel, const floats *totals, char *y);
