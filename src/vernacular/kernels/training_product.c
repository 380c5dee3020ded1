/* The products that attention in training is made of. */
#include "training_attention.h"

INLINE void product_of(const enum unit unit, const int add, const struct tile *rows, const words *columns,
                       const long vectors, floats *out) {
    for (long first = 0, count; first < rows->rows; first += count) {
        const unit_t *x[MAX_ROWS];
        count = next_rows(rows->rows - first);
        for (long r = 0; r < count; r++) x[r] = (const unit_t *)(rows->at + (first + r) * rows->stride);
        for (long v = 0, wide; v < vectors; v += wide) {
            floats sum[MAX_ROWS * WIDE];
            const long left = vectors - v;
            wide = left >= WIDE ? WIDE : left >= 2 ? 2 : 1;
#define MULTIPLY(n, w) multiply(unit, 1, n, w, columns + v, vectors, x, rows->units, columns, 0, sum, w)
#define OF_ROWS(n) \
    if (wide == WIDE) MULTIPLY(n, WIDE); \
    else if (wide == 2) MULTIPLY(n, 2); \
    else MULTIPLY(n, 1)
            WITH_ROWS(count, OF_ROWS)
#undef OF_ROWS
#undef MULTIPLY
            for (long r = 0; r < count; r++) {
                floats *to = out + (first + r) * vectors + v;
                if (add) for (long i = 0; i < wide; i++) to[i] += sum[r * wide + i];
                else for (long i = 0; i < wide; i++) to[i] = sum[r * wide + i];
            }
        }
    }
}

void product_of_floats(int add, const struct tile *rows, const words *columns, long vectors, floats *out) {
    product_of(FLOAT, add, rows, columns, vectors, out);
}
void product_of_pairs(int add, const struct tile *rows, const words *columns, long vectors, floats *out) {
    product_of(BFLOAT_PAIR, add, rows, columns, vectors, out);
}
