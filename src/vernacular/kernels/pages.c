/* New keys and values go to their pages. */
#include "pages.h"

/* One head's key and value, bfloat16, to their place in a page; `next` is the value of the key after it where that goes
   beside it, or null. Widths in numbers, `wide` with the padding. */
INLINE void write_bfloats(const uint16_t *key, const uint16_t *value, const uint16_t *next, char *key_page,
                          char *value_page, long place, long width, long wide) {
    unit_t *keys = (unit_t *)key_page + place;
    for (long u = 0; u < width / 2; u++) keys[u * PAGE] = key[2 * u] | (uint32_t)key[2 * u + 1] << 16;
    for (long u = width / 2; u < wide / 2; u++) keys[u * PAGE] = width % 2 && u == width / 2 ? key[width - 1] : 0;
    unit_t *values = (unit_t *)value_page + place / 2 * wide;
    if (next) {
        for (long c = 0; c < width; c++) values[c] = value[c] | (uint32_t)next[c] << 16;
    } else {
        uint16_t *halves = (uint16_t *)values + place % 2;
        for (long c = 0; c < width; c++) halves[2 * c] = value[c];
    }
}

INLINE void write_floats(const float *key, const float *value, char *key_page, char *value_page, long place, long width,
                         long wide) {
    float *keys = (float *)key_page + place, *values = (float *)value_page + place * wide;
    for (long c = 0; c < wide; c++) keys[c * PAGE] = c < width ? key[c] : 0;
    memcpy(values, value, (size_t)width * sizeof(float));
}

/* Keys and values [N, K, C] of new tokens go to their slots, page · 32 + place in the page. The first key of a page
   clears its values, so that what an earlier sequence left there cannot reach a later one even as 0 · infinity. */
int write_pages(int bfloat, const char *new_keys, long key_stride, const char *new_values, long value_stride,
                char *keys, char *values, long page_bytes, const int64_t *slots, long num_tokens, long num_key_heads,
                long width, int threads) {
    const long wide = padded(width), size = bfloat ? 2 : 4, bytes = PAGE * wide * size;
#pragma omp parallel for num_threads(threads) schedule(static) if (num_tokens * num_key_heads * width > 16384)
    for (long head = 0; head < num_key_heads; head++) {
        for (long t = 0; t < num_tokens; t++) {
            const long place = slots[t] % PAGE, at = slots[t] / PAGE * page_bytes + head * bytes;
            const char *key = new_keys + (t * key_stride + head * width) * size;
            const char *value = new_values + (t * value_stride + head * width) * size;
            if (place == 0) memset(values + at, 0, (size_t)bytes);
            if (bfloat) {
                const int paired = place % 2 == 0 && t + 1 < num_tokens && slots[t + 1] == slots[t] + 1;
                const uint16_t *next = paired ? (const uint16_t *)(value + value_stride * size) : 0;
                const uint16_t *k = (const uint16_t *)key, *v = (const uint16_t *)value;
                write_bfloats(k, v, next, keys + at, values + at, place, width, wide);
            } else {
                write_floats((const float *)key, (const float *)value, keys + at, values + at, place, width, wide);
            }
        }
    }
    return 0;
}
