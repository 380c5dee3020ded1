/* Weights as rows become weights in panels. */
#include "panel.h"

/* The 4 bytes of lane `lane` of a row: one float, two bfloat16, four bytes or eight nibbles; zeros beyond the row.
   Units are stored in order; those that share a lane have each half of it from its low end upwards. */
INLINE uint32_t lane_of(const enum format format, const char *row, long lane, long width) {
    if (format == FLOAT32) return ((const uint32_t *)row)[lane];
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

INLINE void pack_panel(const enum format format, const char *rows, long stride, long columns, long width, long lanes,
                       uint32_t *panel) {
    enum { BLOCK = 16 }; /* lanes at a time, so that reads and writes both stay in the cache */
    for (long start = 0; start < lanes; start += BLOCK) {
        const long end = start + BLOCK < lanes ? start + BLOCK : lanes;
        for (long c = 0; c < PANEL; c++)
            for (long lane = start; lane < end; lane++)
                panel[lane * PANEL + c] = c < columns ? lane_of(format, rows + c * stride, lane, width) : 0;
    }
}

/* rows [columns, width], numbers of 4 (float32), 2 (bfloat16) or 1 byte (int8 and int4), `stride` bytes apart. */
int pack(long format, long columns, long units, const char *rows, long stride, long width, uint32_t *panels,
         int threads) {
    const long num_panels = (columns + PANEL - 1) / PANEL;
    const long lanes = units / packing_of((enum format)format);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long p = 0; p < num_panels; p++) {
        const char *first = rows + p * PANEL * stride;
        uint32_t *panel = panels + p * PANEL * lanes;
        const long left = columns - p * PANEL;
        switch ((enum format)format) {
            case FLOAT32: pack_panel(FLOAT32, first, stride, left, width, lanes, panel); break;
            case BFLOAT16: pack_panel(BFLOAT16, first, stride, left, width, lanes, panel); break;
            case INT8: pack_panel(INT8, first, stride, left, width, lanes, panel); break;
            case INT4: pack_panel(INT4, first, stride, left, width, lanes, panel); break;
        }
    }
    return 0;
}
