/* A product with weights packed in panels, and what becomes of it while it is at hand. */
#pragma once

#include "panel.h"

enum finish {
    STORE, /* y = x · weightᵀ */
    ADD,   /* y += factor · x · weightᵀ */
    GATE,  /* y = silu(a) · b: panels of 64 columns of a and 64 of b by turns */
};

/* Within a parallel region, shared out: rows of x as integers to `fixed`, where that is not null. */
void fix_rows(const struct matrix *matrix, const char *x, long x_stride, long rows, unit_t *fixed);

/* The rows from `first` on to be multiplied, up to `rows_at_once` and before `end`; from `fixed`, where that is not null,
   which holds `num_rows`. */
void take_rows(struct rows *some, const struct matrix *matrix, const char *x, long x_stride, long num_rows,
               const unit_t *fixed, long first, long end);

/* x [rows, K] with `x_stride` numbers from row to row; y [rows, columns] without gaps, `y_stride` numbers from row to
   row; both float for float32 weights and bfloat16 for all others. `fixed` has room for the rows as integers, then their
   scales (int8 and int4 only). Returns 0. */
int linear(const struct matrix *matrix, int finish, float factor, const char *x, long x_stride, long rows, char *y,
           long columns, long y_stride, unit_t *fixed, int threads);
