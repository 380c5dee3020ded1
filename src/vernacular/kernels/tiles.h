/* Products of bfloat16 in matrix tiles, where the processor has them. Widths are in units, two numbers each. */
#pragma once

#include "pages.h"
#include "panel.h"

/* Whether sums over so many units go through tiles, whatever the rows. */
int has_tiles(long units);

enum { MOST_IN_TILES = 32 }; /* rows that all tiles together take */

/* As `multiply_panel`. */
void multiply_panel_in_tiles(const struct matrix *matrix, long panel, const struct rows *rows, floats *totals,
                             struct tiling *tiling);

/* Before products with pages: `rows` are theirs. */
void begin_tiles(long rows, struct tiling *tiling);

/* scores [rows, 32] = queries [rows, units] · a page of keys. What is computed are whole tiles: queries and scores have
   room for a multiple of 16 rows. */
void score_page_in_tiles(const char *queries, long rows, long units, const char *keys, float *scores);

/* out [rows, width] += probabilities · a page of values. A row of probabilities is 32 bfloat16 in the place of 32
   floats; whole tiles again. */
void gather_page_in_tiles(const float *probabilities, long rows, const char *values, long width, float *out);
