/* What happens to single rows between the products: norms, rotation by position, the gate of a feed-forward.

   Each row's result depends on that row alone. Arithmetic is in float; bfloat16 is rounded once, at the end. */
#include "numbers.h"

enum { ENOUGH = 1 << 15 }; /* numbers that are worth a second thread */

INLINE void norm_row(const int bfloat, const int centred, const char *x, const char *weight, char *y, long width,
                     float epsilon) {
    floats sums = all_floats(0), squares = all_floats(0);
    float mean = 0;
    if (centred) {
        for (long at = 0; at < width; at += LANES) sums += load(bfloat, x, at, width - at);
        mean = sum_of(sums) / (float)width;
    }
    for (long at = 0; at < width; at += LANES) {
        floats value = load(bfloat, x, at, width - at) - mean;
        if (width - at < LANES)
            for (long i = width - at; i < LANES; i++) value[i] = 0;
        squares += value * value;
    }
    const float scale = 1 / sqrtf(sum_of(squares) / (float)width + epsilon);
    for (long at = 0; at < width; at += LANES) {
        const floats value = (load(bfloat, x, at, width - at) - mean) * scale;
        store(bfloat, y, at, width - at, value * load(bfloat, weight, at, width - at));
    }
}

/* y = x / √(mean x² + ε) · weight; with `centred`, of x less its mean. x and y [rows, width]. */
int norm_rows(int bfloat, int centred, const char *x, const char *weight, char *y, long rows, long width,
              float epsilon, int threads) {
    const long bytes = width * (bfloat ? 2 : 4);
#pragma omp parallel for num_threads(threads) if (rows * width >= ENOUGH)
    for (long r = 0; r < rows; r++) {
        if (bfloat) norm_row(1, centred, x + r * bytes, weight, y + r * bytes, width, epsilon);
        else norm_row(0, centred, x + r * bytes, weight, y + r * bytes, width, epsilon);
    }
    return 0;
}

INLINE void rotate_head(const int bfloat, char *x, const char *cosine, const char *sine, long half) {
    for (long at = 0; at < half; at += LANES) {
        const long left = half - at;
        const floats first = load(bfloat, x, at, left), second = load(bfloat, x, half + at, left);
        const floats c = load(bfloat, cosine, half + at, left), s = load(bfloat, sine, half + at, left);
        store(bfloat, x, at, left, first * c - second * s);
        store(bfloat, x, half + at, left, second * c + first * s);
    }
}

/* Rotates each pair (c, c + width / 2) of each head in place. x: `heads` heads side by side, rows `stride` numbers
   apart; cosine and sine [rows, width], both halves alike but for the first half's sign of the sine. */
int rotate_rows(int bfloat, char *x, long stride, const char *cosine, const char *sine, long rows, long heads,
                long width, int threads) {
    const long size = bfloat ? 2 : 4;
#pragma omp parallel for num_threads(threads) if (rows * heads * width >= ENOUGH)
    for (long r = 0; r < rows; r++) {
        for (long h = 0; h < heads; h++) {
            char *head = x + (r * stride + h * width) * size;
            const char *c = cosine + r * width * size, *s = sine + r * width * size;
            if (bfloat) rotate_head(1, head, c, s, width / 2);
            else rotate_head(0, head, c, s, width / 2);
        }
    }
    return 0;
}

INLINE void gate_row(const int bfloat, const char *gate, const char *up, char *y, long width) {
    for (long at = 0; at < width; at += LANES) {
        const floats value = silu(load(bfloat, gate, at, width - at));
        store(bfloat, y, at, width - at, value * load(bfloat, up, at, width - at));
    }
}

/* y = silu(gate) · up; gate and up have rows `stride` numbers apart, y [rows, width]. */
int gate_rows(int bfloat, const char *gate, const char *up, long stride, char *y, long rows, long width, int threads) {
    const long size = bfloat ? 2 : 4;
#pragma omp parallel for num_threads(threads) if (rows * width >= ENOUGH)
    for (long r = 0; r < rows; r++) {
        const char *a = gate + r * stride * size, *b = up + r * stride * size;
        if (bfloat) gate_row(1, a, b, y + r * width * size, width);
        else gate_row(0, a, b, y + r * width * size, width);
    }
    return 0;
}
