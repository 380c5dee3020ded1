// What every pass over text shares: code points of UTF-8, hashes of their runs, and sorted hashes.

#ifndef VERNACULAR_HASHING_H
#define VERNACULAR_HASHING_H

#include <stdint.h>

static const uint64_t BASE_OF_ROLLING = 0x9E3779B97F4A7C15ull;

// The finaliser of SplitMix64.
static inline uint64_t mixed(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
    return value ^ (value >> 31);
}

// One code point of valid UTF-8; moves `at` behind it.
static inline uint32_t decoded(const uint8_t *text, int64_t *at) {
    const uint8_t *byte = text + *at;
    if (byte[0] < 0x80) { *at += 1; return byte[0]; }
    if (byte[0] < 0xE0) { *at += 2; return (byte[0] & 0x1Fu) << 6 | (byte[1] & 0x3Fu); }
    if (byte[0] < 0xF0) {
        *at += 3;
        return (byte[0] & 0x0Fu) << 12 | (byte[1] & 0x3Fu) << 6 | (byte[2] & 0x3Fu);
    }
    *at += 4;
    return (byte[0] & 0x07u) << 18 | (byte[1] & 0x3Fu) << 12 | (byte[2] & 0x3Fu) << 6 | (byte[3] & 0x3Fu);
}

// Ascending, in place.
static void sort(uint64_t *values, int64_t count) {
    while (count > 24) {
        uint64_t a = values[0], b = values[count / 2], c = values[count - 1];
        uint64_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        int64_t low = 0, high = count - 1;
        while (low <= high) {
            while (values[low] < pivot) low++;
            while (values[high] > pivot) high--;
            if (low <= high) {
                uint64_t swapped = values[low];
                values[low++] = values[high];
                values[high--] = swapped;
            }
        }
        if (high + 1 < count - low) {
            sort(values, high + 1);
            values += low;
            count -= low;
        } else {
            sort(values + low, count - low);
            count = high + 1;
        }
    }
    for (int64_t i = 1; i < count; i++) {
        uint64_t value = values[i];
        int64_t j = i;
        for (; j && values[j - 1] > value; j--) values[j] = values[j - 1];
        values[j] = value;
    }
}

#endif
