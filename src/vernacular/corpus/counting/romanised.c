/* Words in Latin letters, their character n-grams, and the likeliest sequence of languages (corpus/romanised.py). */
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_NGRAM = 4, BUCKET_BITS = 14, EDGE = '_', MOST_CLASSES = 32, LONGEST_LATIN_WORD = 64 };

/* The next word in Latin letters from `i` on, in lower case with an edge at both ends: its length with the edges, 0 where
 * there is none. A word is cut at LONGEST_LATIN_WORD. */
static int64_t next_word(const Text *text, int64_t *i, uint32_t *letters) {
    const uint16_t *properties = text->properties;
    while (*i < text->length && !(properties[*i] & LATIN)) ++*i;
    if (*i == text->length) return 0;
    int64_t length = 0;
    letters[length++] = EDGE;
    for (; *i < text->length && (properties[*i] & LATIN); ++*i)
        if (length < LONGEST_LATIN_WORD - 1) letters[length++] = text->tables.lower[text->points[*i]];
    letters[length++] = EDGE;
    return length;
}

/* The buckets of a word's n-grams, and how many there are. An edge alone says nothing. */
static int64_t buckets_of(const uint32_t *letters, int64_t length, int32_t *buckets) {
    int64_t count = 0;
    for (int64_t start = 0; start < length; start++) {
        uint64_t key = 0;
        for (int64_t size = 1; size <= LONGEST_NGRAM && start + size <= length; size++) {
            key = key * 0x100000001B3u + letters[start + size - 1];
            if (size > 1 || letters[start] != EDGE) buckets[count++] = (int32_t)(mix(key + size) >> (64 - BUCKET_BITS));
        }
    }
    return count;
}

/* The n-grams of the words of D texts: word [capacity] and bucket [capacity] of each; `found`: how many there are. For
 * training. languages is not used. 1 if out of memory. */
int latin_ngrams(const uint8_t *bytes, const int64_t *offsets, const int64_t *languages, int64_t num_documents,
                 const Tables *tables, int64_t capacity, int64_t *words, int64_t *buckets, int64_t *found) {
    (void)languages;
    Text *text = new_text(*tables, longest_text(offsets, num_documents));
    if (!text) return 1;
    uint32_t letters[LONGEST_LATIN_WORD];
    int32_t mine[LONGEST_LATIN_WORD * LONGEST_NGRAM];
    int64_t count = 0, word = 0;
    for (int64_t d = 0; d < num_documents; d++) {
        read_text(text, bytes + offsets[d], offsets[d + 1] - offsets[d]);
        for (int64_t i = 0, length; (length = next_word(text, &i, letters)); word++) {
            int64_t size = buckets_of(letters, length, mine);
            for (int64_t k = 0; k < size && count < capacity; k++, count++) words[count] = word, buckets[count] = mine[k];
        }
    }
    free_text(text);
    *found = count;
    return 0;
}

/* Log-probabilities of a word's classes. */
static void score_word(const int32_t *buckets, int64_t count, const float *weights, const float *biases,
                       int64_t num_classes, float *scores) {
    memset(scores, 0, num_classes * sizeof(float));
    for (int64_t b = 0; b < count; b++) {
        const float *row = weights + buckets[b] * num_classes;
        for (int64_t k = 0; k < num_classes; k++) scores[k] += row[k];
    }
    float most = -INFINITY, sum = 0;
    for (int64_t k = 0; k < num_classes; k++) {
        scores[k] = scores[k] / sqrtf((float)count) + biases[k];
        if (scores[k] > most) most = scores[k];
    }
    for (int64_t k = 0; k < num_classes; k++) sum += expf(scores[k] - most);
    for (int64_t k = 0; k < num_classes; k++) scores[k] -= most + logf(sum);
}

/* One step of Viterbi's search: `best` takes the word in, `came` notes from which class each class came. */
static void step(float *best, const float *scores, int64_t num_classes, float change, int8_t *came) {
    int64_t likeliest = 0;
    for (int64_t k = 1; k < num_classes; k++)
        if (best[k] > best[likeliest]) likeliest = k;
    float changed = best[likeliest] + change;
    for (int64_t k = 0; k < num_classes; k++) {
        came[k] = (int8_t)(best[k] >= changed ? k : likeliest);
        best[k] = (best[k] >= changed ? best[k] : changed) + scores[k];
    }
}

/* How many words of each text are in each class, in the likeliest sequence: counts [D, K].
 * change: the logarithm of how much less likely another class is than the same again. 1 if out of memory. */
int romanised_words(const uint8_t *bytes, const int64_t *offsets, const int64_t *languages, int64_t num_documents,
                    const Tables *tables, const float *weights, const float *biases, int64_t num_classes, float change,
                    int64_t *counts) {
    (void)languages;
    int64_t longest = longest_text(offsets, num_documents);
    Text *text = new_text(*tables, longest);
    int8_t *came = malloc((longest + 1) * num_classes);
    if (!text || !came || num_classes > MOST_CLASSES) {
        free_text(text);
        free(came);
        return 1;
    }
    memset(counts, 0, num_documents * num_classes * sizeof(int64_t));
    uint32_t letters[LONGEST_LATIN_WORD];
    int32_t buckets[LONGEST_LATIN_WORD * LONGEST_NGRAM];
    for (int64_t d = 0; d < num_documents; d++, counts += num_classes) {
        read_text(text, bytes + offsets[d], offsets[d + 1] - offsets[d]);
        float best[MOST_CLASSES] = {0}, scores[MOST_CLASSES];
        int64_t num_words = 0, state = 0;
        for (int64_t i = 0, length; (length = next_word(text, &i, letters)); num_words++) {
            score_word(buckets, buckets_of(letters, length, buckets), weights, biases, num_classes, scores);
            step(best, scores, num_classes, num_words ? change : 0, came + num_words * num_classes);
        }
        for (int64_t k = 1; k < num_classes; k++)
            if (best[k] > best[state]) state = k;
        for (int64_t w = num_words - 1; w >= 0; w--) {
            counts[state]++;
            state = came[w * num_classes + state];
        }
    }
    free_text(text);
    free(came);
    return 0;
}
