// Strings of a column in chunks, gathered in another order.

#include <stdint.h>
#include <string.h>

// Where each string ends when they stand one behind another.
//   chunks, rows   int64 [count]: where each is
//   offsets        a pointer for each chunk: int64, where its rows begin and the last ends
//   ends           int64 [count + 1]
int measure_strings(const int64_t *chunks, const int64_t *rows, long count, int64_t **offsets, int64_t *ends) {
    ends[0] = 0;
    for (long i = 0; i < count; i++) {
        const int64_t *of_chunk = offsets[chunks[i]];
        ends[i + 1] = ends[i] + of_chunk[rows[i] + 1] - of_chunk[rows[i]];
    }
    return 0;
}

// Copies them there: data is a pointer for each chunk, out uint8 [ends[count]].
int gather_strings(const int64_t *chunks, const int64_t *rows, long count, int64_t **offsets, uint8_t **data,
                   const int64_t *ends, uint8_t *out) {
    for (long i = 0; i < count; i++) {
        int64_t begin = offsets[chunks[i]][rows[i]];
        memcpy(out + ends[i], data[chunks[i]] + begin, (size_t)(ends[i + 1] - ends[i]));
    }
    return 0;
}
