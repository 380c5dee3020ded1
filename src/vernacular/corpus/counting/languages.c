/* How likely languages are by byte n-grams, after py3langid's model, and the letters of scripts (identification.py). */
#include "text.h"

#include <stdlib.h>
#include <string.h>

/* Texts walked at once: each step waits for memory, and the next one of another text need not wait for it. */
enum { TOGETHER = 8, LINE_OF_FLOATS = 16, ROWS_AHEAD = 4 };

typedef struct {
    const int32_t *next;       /* [rows, 256]: the state behind each byte */
    const int32_t *rows;       /* [states]: its row in `next` */
    const int32_t *features;   /* [states]: the n-gram that ends there, or -1 */
    const float *weights;      /* [num_features, num_classes] */
    const float *logarithms;   /* [most + 1]: of one more than each count */
    int64_t num_features, num_classes;
} ByteModel;

/* The n-grams that end at the bytes of some texts, in their order, and how many there are. */
static void walk(const ByteModel *model, const uint8_t **texts, const int64_t *lengths, int64_t count, int64_t most,
                 int32_t *found, int64_t *num_found) {
    int32_t states[TOGETHER] = {0};
    memset(num_found, 0, TOGETHER * sizeof(int64_t));
    for (int64_t byte = 0; byte < most; byte++) {
        for (int64_t t = 0; t < count; t++) {
            if (byte >= lengths[t]) continue;
            states[t] = model->next[(int64_t)model->rows[states[t]] * 256 + texts[t][byte]];
            int32_t feature = model->features[states[t]];
            found[t * most + num_found[t]] = feature;
            num_found[t] += feature >= 0;
        }
    }
}

/* Each n-gram once, ascending: `found` becomes their numbers, `times` how often each stands; returns how many there are. */
static int64_t distinct(int32_t *found, int64_t num_found, uint64_t *seen, uint32_t *counts, int64_t num_features,
                        uint32_t *times) {
    for (int64_t i = 0; i < num_found; i++) {
        seen[found[i] >> 6] |= 1ull << (found[i] & 63);
        counts[found[i]]++;
    }
    int64_t number = 0;
    for (int64_t word = 0; word <= num_features >> 6; word++) {
        for (; seen[word]; seen[word] &= seen[word] - 1, number++) {
            int32_t feature = (int32_t)(word * 64 + __builtin_ctzll(seen[word]));
            found[number] = feature;
            times[number] = counts[feature];
            counts[feature] = 0;
        }
    }
    return number;
}

/* Sums of weights times logarithms of counts, [D, num_classes], in the order of the n-grams; and how many n-grams each
 * of the D texts has. Of each the first `most` bytes are looked at. 1 if out of memory. */
int score_languages(const uint8_t *bytes, const int64_t *offsets, const int64_t *languages, int64_t num_documents,
                    const Tables *tables, const ByteModel *model, int64_t most, float *sums, int64_t *numbers) {
    (void)languages, (void)tables;
    int64_t classes = model->num_classes;
    int32_t *found = malloc(TOGETHER * (most + 1) * sizeof(int32_t));
    uint32_t *times = malloc((most + 1) * sizeof(uint32_t)), *counts = calloc(model->num_features, sizeof(uint32_t));
    uint64_t *seen = calloc(model->num_features / 64 + 1, sizeof(uint64_t));
    int failed = !found || !times || !counts || !seen;
    if (!failed) memset(sums, 0, num_documents * classes * sizeof(float));
    for (int64_t first = 0; first < num_documents && !failed; first += TOGETHER) {
        int64_t count = num_documents - first < TOGETHER ? num_documents - first : TOGETHER;
        const uint8_t *texts[TOGETHER];
        int64_t lengths[TOGETHER], num_found[TOGETHER], longest = 0;
        for (int64_t t = 0; t < count; t++) {
            texts[t] = bytes + offsets[first + t];
            lengths[t] = offsets[first + t + 1] - offsets[first + t];
            if (lengths[t] > most) lengths[t] = most;
            if (lengths[t] > longest) longest = lengths[t];
        }
        walk(model, texts, lengths, count, longest, found, num_found);
        for (int64_t t = 0; t < count; t++) {
            int32_t *mine = found + t * longest;
            float *sum = sums + (first + t) * classes;
            int64_t number = distinct(mine, num_found[t], seen, counts, model->num_features, times);
            numbers[first + t] = number;
            for (int64_t i = 0; i < number; i++) {
                const float *ahead = model->weights + (int64_t)mine[i + ROWS_AHEAD < number ? i + ROWS_AHEAD : i] * classes;
                for (int64_t k = 0; k < classes; k += LINE_OF_FLOATS) __builtin_prefetch(ahead + k);
                const float *row = model->weights + (int64_t)mine[i] * classes;
                float factor = model->logarithms[times[i]];
                for (int64_t k = 0; k < classes; k++) sum[k] += factor * row[k];
            }
        }
    }
    free(found);
    free(times);
    free(counts);
    free(seen);
    return failed;
}

/* How many letters of each script (`scripts`, uint8 [0x110000], below num_scripts) stand in D texts: [D, num_scripts].
 * Always 0. */
int count_scripts(const uint8_t *bytes, const int64_t *offsets, const int64_t *languages, int64_t num_documents,
                  const Tables *tables, const uint8_t *scripts, int64_t num_scripts, int64_t *counts) {
    (void)languages;
    memset(counts, 0, num_documents * num_scripts * sizeof(int64_t));
    for (int64_t d = 0; d < num_documents; d++, counts += num_scripts) {
        const uint8_t *at = bytes + offsets[d], *end = bytes + offsets[d + 1];
        while (at < end) {
            uint32_t point = decode(&at);
            counts[scripts[point]] += class_of(tables->properties[point]) == LETTER;
        }
    }
    return 0;
}
