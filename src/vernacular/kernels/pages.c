/* New keys and values go to their pages. */
#include "pages.h"

/* LANES keys of one head that follow one another in a page: squares of units are turned in registers. */
INLINE void write_keys(const char *const *rows, unit_t *keys, long units) {
    for (long u = 0; u < units; u += LANES) {
        words square[LANES];
        for (int i = 0; i < LANES; i++) memcpy(square + i, rows[i] + 4 * u, sizeof *square);
        transpose(square);
        for (int i = 0; i < LANES; i++) *(words *)(keys + (u + i) * PAGE) = square[i];
    }
}

/* One key, bfloat16 or float, to its place in a page. Widths in numbers, `wide` with the padding. */
INLINE void write_key(const int bfloat, const char *key, char *key_page, long place, long width, long wide) {
    unit_t *keys = (unit_t *)key_page + place;
    if (!bfloat) {
        for (long c = 0; c < wide; c++) keys[c * PAGE] = c < width ? ((const unit_t *)key)[c] : 0;
        return;
    }
    const uint16_t *k = (const uint16_t *)key;
    for (long u = 0; u < width / 2; u++) keys[u * PAGE] = k[2 * u] | (uint32_t)k[2 * u + 1] << 16;
    for (long u = width / 2; u < wide / 2; u++) keys[u * PAGE] = width % 2 && u == width / 2 ? k[width - 1] : 0;
}

/* One value; `next` is that of the key after it where it goes beside this one, or null (bfloat16 only). */
INLINE void write_value(const int bfloat, const char *value, const char *next, char *value_page, long place, long width,
                        long wide) {
    if (!bfloat) {
        memcpy((float *)value_page + place * wide, value, (size_t)width * sizeof(float));
        return;
    }
    const uint16_t *v = (const uint16_t *)value, *w = (const uint16_t *)next;
    unit_t *values = (unit_t *)value_page + place / 2 * wide;
    if (next) {
        for (long c = 0; c < width; c++) values[c] = v[c] | (uint32_t)w[c] << 16;
    } else {
        uint16_t *halves = (uint16_t *)values + place % 2;
        for (long c = 0; c < width; c++) halves[2 * c] = v[c];
    }
}

/* How many of the slots from `slots` on, which are `left`, follow one another. */
INLINE long run_of(const int64_t *slots, long left, long most) {
    long run = 1;
    while (run < most && run < left && slots[run] == slots[0] + run) run++;
    return run;
}

/* Keys and values [N, K, C] of new tokens go to their slots, page · 32 + place in the page; those of the tokens that
   `written` names, where it is not null. The first key of a page clears its values, so that what an earlier sequence left
   there cannot reach a later one even as 0 · infinity. */
int write_pages(int bfloat, const char *new_keys, long key_stride, const char *new_values, long value_stride,
                char *keys, char *values, long page_bytes, const int64_t *slots, const int64_t *written,
                long num_tokens, long num_key_heads, long width, int threads) {
    const long wide = padded(width), size = bfloat ? 2 : 4, bytes = PAGE * wide * size;
#pragma omp parallel for num_threads(threads) schedule(static) if (num_tokens * num_key_heads * width > 16384)
    for (long head = 0; head < num_key_heads; head++) {
        for (long t = 0, count; t < num_tokens; t += count) {
            const long place = slots[t] % PAGE, at = slots[t] / PAGE * page_bytes + head * bytes;
            const int square = place % LANES == 0 && width == wide && width * size % (4 * LANES) == 0 &&
                               run_of(slots + t, num_tokens - t, LANES) == LANES;
            const char *new_key_of[LANES];
            count = square ? LANES : place % 2 == 0 ? run_of(slots + t, num_tokens - t, 2) : 1;
            if (place == 0) memset(values + at, 0, (size_t)bytes);
            for (long i = 0; i < count; i++) {
                const long token = written ? written[t + i] : t + i;
                const long after = written && i + 1 < count ? written[t + i + 1] : token + 1;
                const char *value = new_values + (token * value_stride + head * width) * size;
                const char *next = new_values + (after * value_stride + head * width) * size;
                new_key_of[i] = new_keys + (token * key_stride + head * width) * size;
                if (!square) write_key(bfloat, new_key_of[i], keys + at, place + i, width, wide);
                const int paired = bfloat && i + 1 < count;
                if (!bfloat || i % 2 == 0)
                    write_value(bfloat, value, paired ? next : 0, values + at, place + i, width, wide);
            }
            if (square) write_keys(new_key_of, (unit_t *)(keys + at) + place, width * size / 4);
        }
    }
    return 0;
}
