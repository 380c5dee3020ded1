#include "tiles.h"

enum { BLOCK = 64 }; /* units of a panel that are multiplied at a time: 16 KiB, so that they stay in the L1 cache */

long panel_bytes(const struct matrix *matrix) {
    return matrix->units / packing_of((enum format)matrix->format) * PANEL * 4;
}

void to_fixed_point(const struct matrix *matrix, const char *row_of_x, long row, char *units, float *scales) {
    const long group = 2 * matrix->group, width = matrix->width;
    const uint16_t *x = (const uint16_t *)row_of_x;
    int16_t *integers = (int16_t *)units + row * 2 * matrix->units;
    scales += row * (matrix->units / matrix->group);
    for (long start = 0; start < 2 * matrix->units; start += group, integers += group, x += group) {
        const long given = width - start < group ? width - start : group;
        uint16_t largest = 0;
        for (long i = 0; i < given; i++) {
            const uint16_t magnitude = x[i] & 0x7fff;
            largest = magnitude > largest ? magnitude : largest;
        }
        const int exponent = largest >> 7, infinite = exponent == 255, nothing = exponent < 15;
        /* An infinity or a NaN reaches every output; numbers below 2⁻¹¹² count as 0. */
        *scales++ = infinite ? NAN : nothing ? 0 : as_float((uint32_t)(exponent - 14) << 23);
        const float up = infinite || nothing ? 0 : as_float((uint32_t)(268 - exponent) << 23);
        const float magic = 12582912.0f; /* 1.5 · 2²³: the low bits of the sum are the nearest integer */
        for (long i = 0; i < given; i++)
            integers[i] = (int16_t)as_bits((infinite ? 0 : float_of(x[i])) * up + magic);
        for (long i = given; i < group; i++) integers[i] = 0;
    }
}

/* The sums of one block, scaled and added to the totals. */
INLINE void add_block(const enum format format, const int packing, const int rows, const words *w, long steps,
                      const unit_t *const *x, const float *const *x_scales, const float *w_scales, const words *ahead,
                      floats *totals) {
    const enum unit unit = format == FLOAT32 ? FLOAT : format == BFLOAT16 ? BFLOAT_PAIR : SHORT_PAIR;
    /* With few rows there are registers for more columns. */
    const int wide = rows == 1 && 4 * WIDE <= PANEL_VECTORS   ? 4 * WIDE
                     : rows <= 3 && 2 * WIDE <= PANEL_VECTORS ? 2 * WIDE
                                                              : WIDE;
    for (int first = 0; first < PANEL_VECTORS; first += wide) {
        floats sum[MAX_ROWS * WIDE];
        multiply(unit, packing, rows, wide, w + first, PANEL_VECTORS, x, steps, ahead + first, wide / 2, sum, wide);
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < wide; v++) {
                floats value = sum[r * wide + v];
                if (format == INT4) value *= ((const floats *)w_scales)[first + v];
                if (unit == SHORT_PAIR) value *= all_floats(*x_scales[r]);
                totals[r * PANEL_VECTORS + first + v] += value;
            }
        }
    }
}

INLINE void multiply_panel_of(const enum format format, const struct matrix *matrix, long panel,
                              const struct rows *rows, floats *totals) {
    const int packing = packing_of(format), integers = packing > 1;
    const words *w = (const words *)(matrix->panels + panel * panel_bytes(matrix));
    const long block = integers ? matrix->group : BLOCK;
    const float *w_scales = matrix->scales;
    if (format == INT4) w_scales += panel * (matrix->units / matrix->group) * PANEL;

    for (long i = 0; i < rows->count * PANEL_VECTORS; i++) totals[i] = all_floats(0);
    for (long start = 0, g = 0; start < matrix->units; start += block, g++) {
        const long steps = matrix->units - start < block ? matrix->units - start : block;
        for (long first = 0, count; first < rows->count; first += count) {
            const unit_t *x[MAX_ROWS];
            const float *x_scales[MAX_ROWS];
            count = next_rows(rows->count - first);
            for (long r = 0; r < count; r++) {
                x[r] = rows->units[first + r] + start;
                if (integers) x_scales[r] = rows->scales[first + r] + g;
            }
            /* While a few rows are multiplied with one block, the first two times each fetch half of the next. */
            const words *ahead = w;
            if (count < rows->count && first < 2 * count)
                ahead += steps / packing * PANEL_VECTORS + (first > 0) * PANEL_VECTORS / 2;
            floats *out = totals + first * PANEL_VECTORS;
#define ADD_BLOCK(n) add_block(format, packing, n, w, steps, x, x_scales, w_scales, ahead, out)
            WITH_ROWS(count, ADD_BLOCK)
#undef ADD_BLOCK
        }
        w += steps / packing * PANEL_VECTORS;
        if (format == INT4) w_scales += PANEL;
    }
    if (format == INT8) {
        const floats *scale = (const floats *)(matrix->scales + panel * PANEL);
        for (long i = 0; i < rows->count * PANEL_VECTORS; i++) totals[i] *= scale[i % PANEL_VECTORS];
    }
}

INLINE int goes_through_tiles(const struct matrix *matrix) {
    return matrix->format == BFLOAT16 && has_tiles(matrix->units);
}

long rows_at_once(const struct matrix *matrix) { return goes_through_tiles(matrix) ? MOST_IN_TILES : TILE; }

void multiply_panel(const struct matrix *matrix, long panel, const struct rows *rows, floats *totals,
                    struct tiling *tiling) {
    if (goes_through_tiles(matrix)) {
        multiply_panel_in_tiles(matrix, panel, rows, totals, tiling);
        return;
    }
    switch ((enum format)matrix->format) {
        case FLOAT32: multiply_panel_of(FLOAT32, matrix, panel, rows, totals); break;
        case BFLOAT16: multiply_panel_of(BFLOAT16, matrix, panel, rows, totals); break;
        case INT8: multiply_panel_of(INT8, matrix, panel, rows, totals); break;
        case INT4: multiply_panel_of(INT4, matrix, panel, rows, totals); break;
    }
}

void store_panel(const struct matrix *matrix, long panel, const floats *totals, char *y) {
    const long first = panel * PANEL;
    const long width = matrix->columns - first < PANEL ? matrix->columns - first : PANEL;
    if (matrix->format == FLOAT32) {
        memcpy((float *)y + first, totals, (size_t)width * sizeof(float));
    } else {
        uint16_t bfloats[PANEL], *to = width == PANEL ? (uint16_t *)y + first : bfloats;
        for (int v = 0; v < PANEL_VECTORS; v++) store_as_bfloats(totals[v], to + v * LANES);
        if (to == bfloats) memcpy((uint16_t *)y + first, bfloats, (size_t)width * sizeof(uint16_t));
    }
}
