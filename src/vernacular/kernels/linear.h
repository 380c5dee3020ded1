/* A product with weights packed in panels, and what becomes of it while it is at hand. */
#pragma once

#include "panel.h"

enum finish {
    STORE, /* y = x · weightᵀ */
    ADD,   /* y += factor · x · weightᵀ */
    GATE,  /* y = silu(a) · b: panels of 64 columns of a and 64 of b by turns */
};

/* x [rows, K] with `x_stride` numbers from row to row; y [rows, columns] without gaps, `y_stride` numbers from row to
   row; both float for float32 weights and bfloat16 for all others. `fixed` has room for the rows as integers, then their
   scales (int8 and int4 only). Returns 0. */
int linear(const struct matrix *matrix, int finish, float factor, const char *x, long x_stride, long rows, char *y,
           long columns, long y_stride, unit_t *fixed, int threads);
