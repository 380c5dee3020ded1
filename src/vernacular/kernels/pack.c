/* Weights as rows become weights in panels. */
#include "panel.h"

/* The 4 bytes of lane `lane` of a row: one float, two bfloat16, four bytes or eight nibbles; zeros beyond the row.
   Units are stored in order; those that share a lane have each half of it from its low end upwards. */
INLINE uint32_t lane_of(const enum format format, const char *row, long lane, long width) {
    if (format == FLOAT32) return lane < width ? ((const uint32_t *)row)[lane] : 0;
    const int packing = packing_of(format), bits = 16 / packing;
    uint32_t value = 0;
    for (int part = 0; part < packing; part++)
        for (int half = 0; half < 2; half++) {
            const long k = 2 * (lane * packing + part) + half;
            const uint32_t number = k >= width ? 0 : format == BFLOAT16 ? ((const uint16_t *)row)[k] : (uint8_t)row[k];
            value |= (number & ((1u << bits) - 1)) << (16 * half + bits * part);
        }
    return value;
}

/* LANES lanes of a row from `lane` on; a row that is null is zeros. */
INLINE words lanes_of(const enum format format, const char *row, long lane, long width) {
    words lanes = all_words(0);
    const long end = (lane + LANES) * (format == FLOAT32 ? 1 : 2);
    if (!row) return lanes;
    if (packing_of(format) == 1 && end <= width) memcpy(&lanes, row + lane * 4, sizeof lanes);
    else
        for (long i = 0; i < LANES; i++) lanes[i] = lane_of(format, row, lane + i, width);
    return lanes;
}

/* One panel: a square of rows and lanes at a time is turned in registers. */
INLINE void pack_panel(const enum format format, const char *const *rows, long columns, long width, long lanes,
                       uint32_t *panel) {
    for (long lane = 0; lane < lanes; lane += LANES) {
        for (long column = 0; column < PANEL; column += LANES) {
            words square[LANES];
            for (long c = 0; c < LANES; c++)
                square[c] = lanes_of(format, column + c < columns ? rows[column + c] : 0, lane, width);
            transpose(square);
            for (long i = 0; i < LANES && lane + i < lanes; i++)
                *(words *)(panel + (lane + i) * PANEL + column) = square[i];
        }
    }
}

/* rows [columns]: where each column's `width` numbers of 4 (float32), 2 (bfloat16) or 1 byte (int8 and int4) begin, or
   null for zeros. */
int pack(long format, long columns, long units, const char *const *rows, long width, uint32_t *panels, int threads) {
    const long num_panels = (columns + PANEL - 1) / PANEL;
    const long lanes = units / packing_of((enum format)format);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long p = 0; p < num_panels; p++) {
        const char *const *first = rows + p * PANEL;
        uint32_t *panel = panels + p * PANEL * lanes;
        const long left = columns - p * PANEL;
        switch ((enum format)format) {
            case FLOAT32: pack_panel(FLOAT32, first, left, width, lanes, panel); break;
            case BFLOAT16: pack_panel(BFLOAT16, first, left, width, lanes, panel); break;
            case INT8: pack_panel(INT8, first, left, width, lanes, panel); break;
            case INT4: pack_panel(INT4, first, left, width, lanes, panel); break;
        }
    }
    return 0;
}
