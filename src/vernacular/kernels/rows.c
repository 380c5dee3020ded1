/* What happens to single rows between the products, and its gradient: norms, rotation by position, the gate of a
   feed-forward, the residual sum.

   Arithmetic is in float; what is bfloat16 is rounded once, at the end. Rows are independent of each other. The sum
   over rows that a norm's weight needs runs over parts of a fixed length, then over the parts: no result depends on
   the number of threads. `wide` and the like are 1 for float and 0 for bfloat16. */
#include "numbers.h"

enum { ENOUGH = 1 << 15 }; /* numbers that are worth a second thread */
enum { PART_ROWS = 64 };

#define EACH_VECTOR(at, width) for (long at = 0; at < (width); at += LANES)

INLINE void norm_row(const int x_bfloat, const int y_bfloat, const int centred, const char *x, const float *weight,
                     char *y, float *mean, float *scale, long width, float epsilon) {
    floats sums = all_floats(0), squares = all_floats(0);
    *mean = 0;
    if (centred) {
        EACH_VECTOR(at, width) sums += load(x_bfloat, x, at, width - at);
        *mean = sum_of(sums) / (float)width;
    }
    EACH_VECTOR(at, width) {
        floats value = load(x_bfloat, x, at, width - at) - *mean;
        for (long i = width - at; i < LANES; i++) value[i] = 0;
        squares += value * value;
    }
    *scale = 1 / sqrtf(sum_of(squares) / (float)width + epsilon);
    EACH_VECTOR(at, width) {
        const floats value = (load(x_bfloat, x, at, width - at) - *mean) * *scale;
        store(y_bfloat, y, at, width - at, value * load(0, weight, at, width - at));
    }
}

/* y = (x - mean) · scale · weight of each row; mean is 0 unless `centred`, scale 1 / √(mean x² + ε). Both are kept where
   `means` and `scales` are not null: a gradient needs them. */
int norm_rows(int x_bfloat, int y_bfloat, int centred, const char *x, const float *weight, char *y, float *means,
                  float *scales, long rows, long width, float epsilon, int threads) {
    const long x_bytes = width * (x_bfloat ? 2 : 4), y_bytes = width * (y_bfloat ? 2 : 4);
#pragma omp parallel for num_threads(threads) if (rows * width >= ENOUGH)
    for (long r = 0; r < rows; r++) {
        const char *from = x + r * x_bytes;
        char *to = y + r * y_bytes;
        float mean, scale;
        if (x_bfloat && y_bfloat) norm_row(1, 1, centred, from, weight, to, &mean, &scale, width, epsilon);
        else if (x_bfloat) norm_row(1, 0, centred, from, weight, to, &mean, &scale, width, epsilon);
        else if (y_bfloat) norm_row(0, 1, centred, from, weight, to, &mean, &scale, width, epsilon);
        else norm_row(0, 0, centred, from, weight, to, &mean, &scale, width, epsilon);
        if (means) means[r] = mean, scales[r] = scale;
    }
    return 0;
}

INLINE void norm_row_gradient(const int x_bfloat, const int y_bfloat, const int centred, const char *x,
                              const float *weight, const char *dy, char *dx, float *dweight, float mean, float scale,
                              long width) {
    floats along = all_floats(0), sums = all_floats(0);
    EACH_VECTOR(at, width) {
        const floats normal = (load(x_bfloat, x, at, width - at) - mean) * scale;
        const floats given = load(y_bfloat, dy, at, width - at);
        const floats weighted = given * load(0, weight, at, width - at);
        along += weighted * normal;
        if (centred) sums += weighted;
        store(0, dweight, at, width - at, load(0, dweight, at, width - at) + given * normal);
    }
    const float slope = sum_of(along) / (float)width, shift = centred ? sum_of(sums) / (float)width : 0;
    EACH_VECTOR(at, width) {
        const floats normal = (load(x_bfloat, x, at, width - at) - mean) * scale;
        const floats weighted = load(y_bfloat, dy, at, width - at) * load(0, weight, at, width - at);
        store(x_bfloat, dx, at, width - at, (weighted - shift - normal * slope) * scale);
    }
}

/* dx of each row, and dweight [rows / PART_ROWS, width] of each part. */
int norm_rows_gradient(int x_bfloat, int y_bfloat, int centred, const char *x, const float *weight, const char *dy,
                           const float *means, const float *scales, char *dx, float *dweights, long rows, long width,
                           int threads) {
    const long x_bytes = width * (x_bfloat ? 2 : 4), y_bytes = width * (y_bfloat ? 2 : 4);
#pragma omp parallel for num_threads(threads) if (rows * width >= ENOUGH)
    for (long part = 0; part < (rows + PART_ROWS - 1) / PART_ROWS; part++) {
        float *sums = dweights + part * width;
        memset(sums, 0, (size_t)width * sizeof *sums);
        for (long r = part * PART_ROWS; r < rows && r < (part + 1) * PART_ROWS; r++) {
            const char *from = x + r * x_bytes, *change = dy + r * y_bytes;
            char *to = dx + r * x_bytes;
            if (x_bfloat && y_bfloat)
                norm_row_gradient(1, 1, centred, from, weight, change, to, sums, means[r], scales[r], width);
            else if (x_bfloat)
                norm_row_gradient(1, 0, centred, from, weight, change, to, sums, means[r], scales[r], width);
            else if (y_bfloat)
                norm_row_gradient(0, 1, centred, from, weight, change, to, sums, means[r], scales[r], width);
            else norm_row_gradient(0, 0, centred, from, weight, change, to, sums, means[r], scales[r], width);
        }
    }
    return 0;
}

INLINE void rotate_head(const int bfloat, const int angles_bfloat, const char *x, char *y, const char *cosine,
                        const char *sine, float sign, long half) {
    EACH_VECTOR(at, half) {
        const long left = half - at;
        const floats first = load(bfloat, x, at, left), second = load(bfloat, x, half + at, left);
        const floats c = load(angles_bfloat, cosine, half + at, left);
        const floats s = load(angles_bfloat, sine, half + at, left) * sign;
        store(bfloat, y, at, left, first * c - second * s);
        store(bfloat, y, half + at, left, second * c + first * s);
    }
}

/* Each pair (c, c + width / 2) of each head, rotated by its row's angle, or back with a `sign` of -1. x has `heads`
   heads side by side, rows `stride` numbers apart, y likewise, and y may be x; cosine and sine [rows, width]. */
int rotate_rows(int bfloat, int angles_bfloat, const char *x, long stride, char *y, long y_stride, const char *cosine,
                const char *sine, float sign, long rows, long heads, long width, int threads) {
    const long size = bfloat ? 2 : 4, angle_bytes = width * (angles_bfloat ? 2 : 4);
#pragma omp parallel for num_threads(threads) if (rows * heads * width >= ENOUGH)
    for (long r = 0; r < rows; r++) {
        for (long h = 0; h < heads; h++) {
            const char *from = x + (r * stride + h * width) * size;
            char *to = y + (r * y_stride + h * width) * size;
            const char *c = cosine + r * angle_bytes, *s = sine + r * angle_bytes;
            if (bfloat && angles_bfloat) rotate_head(1, 1, from, to, c, s, sign, width / 2);
            else if (bfloat) rotate_head(1, 0, from, to, c, s, sign, width / 2);
            else rotate_head(0, 0, from, to, c, s, sign, width / 2);
        }
    }
    return 0;
}

INLINE void gate_row(const int bfloat, const char *gate, const char *up, float by, char *y, long width) {
    EACH_VECTOR(at, width) {
        const floats opened = silu(load(bfloat, gate, at, width - at)) * by;
        store(bfloat, y, at, width - at, opened * load(bfloat, up, at, width - at));
    }
}

/* y = by · silu(gate) · up; gate and up have rows `stride` numbers apart, y [rows, width]; `by` [rows], or null: 1. */
int gate_rows(int bfloat, const char *gate, const char *up, long stride, const float *by, char *y, long rows,
              long width, int threads) {
    const long size = bfloat ? 2 : 4;
#pragma omp parallel for num_threads(threads) if (rows * width >= ENOUGH)
    for (long r = 0; r < rows; r++) {
        const char *a = gate + r * stride * size, *b = up + r * stride * size;
        char *to = y + r * width * size;
        if (bfloat) gate_row(1, a, b, by ? by[r] : 1, to, width);
        else gate_row(0, a, b, by ? by[r] : 1, to, width);
    }
    return 0;
}

INLINE float gate_row_gradient(const int bfloat, const char *gate, const char *up, float by, const char *dy,
                               char *dgate, char *dup, long width) {
    floats along = all_floats(0);
    EACH_VECTOR(at, width) {
        const long left = width - at;
        const floats a = load(bfloat, gate, at, left), b = load(bfloat, up, at, left), d = load(bfloat, dy, at, left);
        const ints positive = a > 0;
        const floats small = exponential(select_floats(positive, -a, a));
        const floats share = select_floats(positive, all_floats(1), small) / (small + 1.0f);
        const floats opened = a * share;
        along += d * opened * b;
        const floats change = d * by;
        store(bfloat, dgate, at, left, change * b * (share + opened * (1.0f - share)));
        store(bfloat, dup, at, left, change * opened);
    }
    return sum_of(along);
}

/* dgate and dup, rows `stride` apart as gate and up; `dby` [rows], where `by` is given. */
int gate_rows_gradient(int bfloat, const char *gate, const char *up, long stride, const float *by, const char *dy,
                           char *dgate, char *dup, float *dby, long rows, long width, int threads) {
    const long size = bfloat ? 2 : 4;
#pragma omp parallel for num_threads(threads) if (rows * width >= ENOUGH)
    for (long r = 0; r < rows; r++) {
        const long at = r * stride * size;
        const char *change = dy + r * width * size;
        const float factor = by ? by[r] : 1;
        const float along =
            bfloat ? gate_row_gradient(1, gate + at, up + at, factor, change, dgate + at, dup + at, width)
                   : gate_row_gradient(0, gate + at, up + at, factor, change, dgate + at, dup + at, width);
        if (dby) dby[r] = along;
    }
    return 0;
}

/* y = x + factor · update; x and y are float, or all three bfloat16. */
int add_rows(int x_bfloat, int update_bfloat, const char *x, const char *update, float factor, char *y, long count,
                 int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (count >= ENOUGH)
    EACH_VECTOR(at, count) {
        const long left = count - at;
        if (x_bfloat) store(1, y, at, left, load(1, x, at, left) + load(1, update, at, left) * factor);
        else if (update_bfloat) store(0, y, at, left, load(0, x, at, left) + load(1, update, at, left) * factor);
        else store(0, y, at, left, load(0, x, at, left) + load(0, update, at, left) * factor);
    }
    return 0;
}

INLINE void sum_rows_of(const int bfloat, const char *rows, const int64_t *places, long each, char *y, long width) {
    EACH_VECTOR(at, width) {
        floats sum = all_floats(0);
        for (long k = 0; k < each; k++) sum += load(bfloat, rows + places[k] * width * (bfloat ? 2 : 4), at, width - at);
        store(bfloat, y, at, width - at, sum);
    }
}

/* y[n] = Σ_k rows[places[n][k]], k in order. */
int sum_rows(int bfloat, const char *rows, const int64_t *places, long each, char *y, long count, long width,
                      int threads) {
    const long size = bfloat ? 2 : 4;
#pragma omp parallel for num_threads(threads) if (count * each * width >= ENOUGH)
    for (long n = 0; n < count; n++) {
        if (bfloat) sum_rows_of(1, rows, places + n * each, each, y + n * width * size, width);
        else sum_rows_of(0, rows, places + n * each, each, y + n * width * size, width);
    }
    return 0;
}
