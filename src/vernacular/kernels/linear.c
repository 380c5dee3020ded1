/* y = x · weightᵀ for weights packed in panels. */
#include "panel.h"

/* x [rows, K] with `x_stride` numbers from row to row, y [rows, N] without gaps; both float for float32 weights and
   bfloat16 for all others. `fixed` holds the rows as integers, then their scales (int8 and int4 only). */
int linear(long format, long columns, long width, long units, long group, const char *panels, const float *scales,
           const char *x, long x_stride, long rows, char *y, unit_t *fixed, int threads) {
    const struct matrix matrix = {format, columns, width, units, group, panels, scales};
    const long size = format == FLOAT32 ? 4 : 2;
    const long num_panels = (columns + PANEL - 1) / PANEL;
    const long num_tiles = (rows + TILE - 1) / TILE;
    const long groups = fixed ? units / group : 0;
    float *fixed_scales = (float *)(fixed + rows * units);

#pragma omp parallel num_threads(threads)
    {
        if (fixed) {
#pragma omp for schedule(static)
            for (long r = 0; r < rows; r++)
                to_fixed_point(&matrix, x + r * x_stride * size, r, (char *)fixed, fixed_scales);
        }
#pragma omp for schedule(static) nowait
        for (long task = 0; task < num_panels * num_tiles; task++) {
            const long panel = task % num_panels, first = task / num_panels * TILE;
            struct rows tile;
            tile.count = rows - first < TILE ? rows - first : TILE;
            for (long r = 0; r < tile.count; r++) {
                tile.units[r] = fixed ? fixed + (first + r) * units
                                      : (const unit_t *)(x + (first + r) * x_stride * size);
                tile.scales[r] = fixed ? fixed_scales + (first + r) * groups : 0;
            }
            floats totals[TILE * PANEL_VECTORS];
            multiply_panel(&matrix, panel, &tile, totals);
            for (long r = 0; r < tile.count; r++)
                store_panel(&matrix, panel, totals + r * PANEL_VECTORS, y + (first + r) * columns * size);
        }
    }
    return 0;
}
