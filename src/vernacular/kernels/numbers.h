/* Numbers of bfloat16 or float, a vector at a time; the end of a row is filled with zeros. */
#pragma once

#include "vectors.h"

typedef float unaligned_floats __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));

INLINE floats widened(halves given) { return (floats)(__builtin_convertvector(given, words) << 16); }

/* Vector of the numbers from `at` on, of which `left` are the row's. */
INLINE floats load(const int bfloat, const void *row, long at, long left) {
    if (left >= LANES)
        return bfloat ? widened(*(const halves *)((const uint16_t *)row + at))
                      : *(const unaligned_floats *)((const float *)row + at);
    floats value = all_floats(0);
    for (long i = 0; i < left; i++)
        value[i] = bfloat ? float_of(((const uint16_t *)row)[at + i]) : ((const float *)row)[at + i];
    return value;
}

INLINE void store(const int bfloat, void *row, long at, long left, floats value) {
    if (left >= LANES) {
        if (bfloat) store_as_bfloats(value, (uint16_t *)row + at);
        else *(unaligned_floats *)((float *)row + at) = value;
        return;
    }
    for (long i = 0; i < left; i++) {
        if (bfloat) ((uint16_t *)row)[at + i] = bfloat_of(value[i]);
        else ((float *)row)[at + i] = value[i];
    }
}

/* The sum of a vector's lanes: halves are added until one lane is left. */
INLINE float sum_of(floats x) {
    float lanes[LANES];
    memcpy(lanes, &x, sizeof lanes);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

/* The largest of a vector's lanes. */
INLINE float largest_of(floats x) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)x);
#else
    float largest = x[0];
    for (int i = 1; i < LANES; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
#endif
}

/* eˣ for x ≤ 0, a NaN for a NaN. */
INLINE floats weight_of(floats x) {
#if defined(__AVX512F__)
    /* As `exponential`, without its comparisons: below -200 the result underflows to 0 by itself. */
    x = (floats)_mm512_max_ps((__m512)all_floats(-200), (__m512)x);
    const floats n = (floats)_mm512_roundscale_ps((__m512)(x * 1.44269504088896341f), _MM_FROUND_TO_NEAREST_INT);
    const floats y = exponential_of_rest(x, n);
    return (floats)_mm512_scalef_ps((__m512)y, (__m512)n);
#else
    return select_floats(x == x, exponential(x), x);
#endif
}
