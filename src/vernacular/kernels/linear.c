#include "linear.h"

#include "numbers.h"

enum { BLOCK_ROWS = 256 }; /* rows that meet every panel in turn: they and a panel stay in the L2 cache */

/* What is done with one panel's totals of some rows; for GATE `others` are those of the panel of b. */
INLINE void finish_panel(const enum finish finish, const struct matrix *y_like, float factor, long panel, long count,
                         floats *totals, const floats *others, char *y, long row_bytes) {
    const int bfloat = y_like->format != FLOAT32;
    if (finish == GATE)
        for (long i = 0; i < count * PANEL_VECTORS; i++) totals[i] = silu(totals[i]) * others[i];
    for (long r = 0; r < count; r++, y += row_bytes, totals += PANEL_VECTORS) {
        if (finish != ADD) {
            store_panel(y_like, panel, totals, y);
            continue;
        }
        char *to = y + panel * PANEL * (bfloat ? 2 : 4);
        for (long v = 0, left = y_like->columns - panel * PANEL; v < PANEL_VECTORS && left > 0; v++, left -= LANES) {
            const long at = v * LANES;
            if (bfloat) store(1, to, at, left, load(1, to, at, left) + totals[v] * factor);
            else store(0, to, at, left, load(0, to, at, left) + totals[v] * factor);
        }
    }
}

void fix_rows(const struct matrix *matrix, const char *x, long x_stride, long rows, unit_t *fixed) {
    if (!fixed) return;
#pragma omp for schedule(static)
    for (long r = 0; r < rows; r++)
        to_fixed_point(matrix, x + r * x_stride * 2, r, (char *)fixed, (float *)(fixed + rows * matrix->units));
}

void take_rows(struct rows *some, const struct matrix *matrix, const char *x, long x_stride, long num_rows,
               const unit_t *fixed, long first, long end) {
    const long units = matrix->units, at_once = rows_at_once(matrix), size = matrix->format == FLOAT32 ? 4 : 2;
    const float *scales = (const float *)(fixed + num_rows * units);
    some->count = end - first < at_once ? end - first : at_once;
    for (long i = 0, row = first; i < some->count; i++, row++) {
        some->units[i] = fixed ? fixed + row * units : (const unit_t *)(x + row * x_stride * size);
        some->scales[i] = fixed ? scales + row * (units / matrix->group) : 0;
    }
}

int linear(const struct matrix *matrix, int finish, float factor, const char *x, long x_stride, long rows, char *y,
           long columns, long y_stride, unit_t *fixed, int threads) {
    const struct matrix y_like = {.format = matrix->format, .columns = columns};
    const long size = matrix->format == FLOAT32 ? 4 : 2;
    const long num_panels = (columns + PANEL - 1) / PANEL, num_blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const long at_once = rows_at_once(matrix);

#pragma omp parallel num_threads(threads)
    {
        struct tiling tiling = {0};
        fix_rows(matrix, x, x_stride, rows, fixed);
#pragma omp for schedule(static) nowait
        for (long task = 0; task < num_panels * num_blocks; task++) {
            const long panel = task % num_panels, block = task / num_panels * BLOCK_ROWS;
            const long end = rows - block < BLOCK_ROWS ? rows : block + BLOCK_ROWS;
            for (long first = block; first < end; first += at_once) {
                struct rows part;
                floats totals[TILE * PANEL_VECTORS], others[TILE * PANEL_VECTORS];
                take_rows(&part, matrix, x, x_stride, rows, fixed, first, end);
                multiply_panel(matrix, finish == GATE ? 2 * panel : panel, &part, totals, &tiling);
                if (finish == GATE) multiply_panel(matrix, 2 * panel + 1, &part, others, &tiling);
                char *to = y + first * y_stride * size;
                switch ((enum finish)finish) {
                    case STORE: finish_panel(STORE, &y_like, 0, panel, part.count, totals, 0, to, y_stride * size); break;
                    case ADD: finish_panel(ADD, &y_like, factor, panel, part.count, totals, 0, to, y_stride * size); break;
                    case GATE: finish_panel(GATE, &y_like, 0, panel, part.count, totals, others, to, y_stride * size); break;
                }
            }
        }
        end_tiling(&tiling);
    }
    return 0;
}
