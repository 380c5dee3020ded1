// Near-duplicates: texts to shingles, shingles to bands of MinHash, bands to clusters of verified similarity.
// Integer arithmetic throughout, so that every machine gives the same result.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hashing.h"

// What a code point is to a shingle: the upper bits of the table's entries; the lower 21 are its lower case.
enum { OUTSIDE, BASE, EXTENDS, ALONE, LINKER, JOINER };
enum { CODE_BITS = 21, CODE_MASK = (1 << CODE_BITS) - 1, LANES = 64 };

// Whether a piece (a word, or a grapheme of one) begins at a code point of a word, after the two kinds before it.
static inline int begins(int kind, int before, int earlier, int by_grapheme) {
    if (before == OUTSIDE) return 1;
    if (kind != BASE && kind != ALONE) return 0;
    if (!by_grapheme) return kind == ALONE || before == ALONE;
    return before != LINKER && !(before == JOINER && earlier == LINKER);
}

// The hashes of a text's pieces, written to `out`; returns how many.
static int64_t pieces(const uint8_t *text, int64_t from, int64_t to, const uint32_t *table, int by_grapheme,
                      uint64_t *out) {
    int64_t count = 0;
    int before = OUTSIDE, earlier = OUTSIDE;
    uint64_t hash = 0;
    while (from < to) {
        uint32_t entry = table[decoded(text, &from)];
        int kind = (int)(entry >> CODE_BITS);
        if (kind != OUTSIDE) {
            if (begins(kind, before, earlier, by_grapheme)) {
                if (count) out[count - 1] = mixed(hash);
                count += 1;
                hash = 0;
            }
            hash = (hash ^ (entry & CODE_MASK)) * BASE_OF_ROLLING;
            hash ^= hash >> 32;
        }
        earlier = before;
        before = kind;
    }
    if (count) out[count - 1] = mixed(hash);
    return count;
}

// Shingles of every text: the hashes of `size` consecutive pieces, or of all pieces where there are fewer.
//   table     uint32 [0x110000], text uint8, offsets int64 [count + 1] into it
//   hashes    uint64, room for a hash a byte; ends int64 [count + 1]
int shingle_texts(long size, int by_grapheme, const uint32_t *table, const uint8_t *text, const int64_t *offsets,
                  long count, uint64_t *hashes, int64_t *ends) {
    uint64_t leaving = 1;
    for (long i = 0; i < size; i++) leaving *= BASE_OF_ROLLING;
    int64_t end = 0;
    ends[0] = 0;
    uint64_t recent[64];
    for (long document = 0; document < count; document++) {
        uint64_t *out = hashes + end;
        int64_t num_pieces = pieces(text, offsets[document], offsets[document + 1], table, by_grapheme, out);
        uint64_t rolling = 0;
        for (int64_t i = 0; i < num_pieces; i++) {
            uint64_t piece = out[i];
            rolling = rolling * BASE_OF_ROLLING + piece;
            if (i >= size) rolling -= leaving * recent[i % size];
            recent[i % size] = piece;
            if (i >= size - 1) out[i - size + 1] = mixed(rolling);
        }
        if (num_pieces && num_pieces < size) out[0] = mixed(rolling ^ (uint64_t)num_pieces);
        end += num_pieces >= size ? num_pieces - size + 1 : num_pieces > 0;
        ends[document + 1] = end;
    }
    return 0;
}

// The least of multiplier · hash + increment, for LANES permutations at once.
static void minima(const uint64_t *hashes, int64_t count, const uint32_t *multipliers, const uint32_t *increments,
                   uint32_t *out) {
    uint32_t least[LANES];
    memset(least, 0xFF, sizeof least);
    for (int64_t i = 0; i < count; i++) {
        uint32_t value = (uint32_t)(hashes[i] >> 32);
        for (int lane = 0; lane < LANES; lane++) {
            uint32_t permuted = multipliers[lane] * value + increments[lane];
            least[lane] = permuted < least[lane] ? permuted : least[lane];
        }
    }
    memcpy(out, least, sizeof least);
}

// Bands of MinHash. A text without shingles has bands 0, which mean none.
//   multipliers, increments   uint32 [lanes], lanes a multiple of LANES and at least num_bands · rows
//   bands                     uint64 [count, num_bands]
int minhash_bands(const uint64_t *hashes, const int64_t *ends, long count, const uint32_t *multipliers,
                  const uint32_t *increments, long lanes, long num_bands, long rows, uint64_t *bands) {
    uint32_t *signature = malloc((size_t)lanes * sizeof *signature);
    if (!signature) return 1;
    for (long document = 0; document < count; document++) {
        uint64_t *out = bands + document * num_bands;
        int64_t begin = ends[document], num_shingles = ends[document + 1] - begin;
        if (!num_shingles) {
            memset(out, 0, (size_t)num_bands * sizeof *out);
            continue;
        }
        for (long lane = 0; lane < lanes; lane += LANES)
            minima(hashes + begin, num_shingles, multipliers + lane, increments + lane, signature + lane);
        for (long band = 0; band < num_bands; band++) {
            uint64_t hash = (uint64_t)band + 1;
            for (long row = 0; row < rows; row++) hash = mixed(hash * BASE_OF_ROLLING + signature[band * rows + row]);
            out[band] = hash | 1;
        }
    }
    free(signature);
    return 0;
}

// Each text's shingles in ascending order and once each, moved together; `ends` is updated.
int sort_shingles(uint64_t *hashes, int64_t *ends, long count) {
    int64_t begin = 0, end = 0;
    for (long document = 0; document < count; document++) {
        int64_t num = ends[document + 1] - begin;
        uint64_t *values = hashes + begin;
        sort(values, num);
        int64_t from = end;
        for (int64_t i = 0; i < num; i++)
            if (end == from || hashes[end - 1] != values[i]) hashes[end++] = values[i];
        begin += num;
        ends[document + 1] = end;
    }
    return 0;
}

static inline int64_t root(int64_t *parents, int64_t member) {
    while (parents[member] != member) member = parents[member] = parents[parents[member]];
    return member;
}

// The smaller root stays the root: a cluster is called by its least member.
static inline void join(int64_t *parents, int64_t first, int64_t second) {
    first = root(parents, first);
    second = root(parents, second);
    if (first < second) parents[second] = first;
    else parents[first] = second;
}

// Joins the members of each bucket: parents int64, buckets int64 [num_buckets + 1] into members int64.
int join_buckets(int64_t *parents, const int64_t *buckets, long num_buckets, const int64_t *members) {
    for (long bucket = 0; bucket < num_buckets; bucket++)
        for (int64_t i = buckets[bucket] + 1; i < buckets[bucket + 1]; i++)
            join(parents, members[buckets[bucket]], members[i]);
    return 0;
}

// Replaces every parent by its root.
int find_roots(int64_t *parents, long count) {
    for (long member = 0; member < count; member++) parents[member] = root(parents, member);
    return 0;
}

// Shared values of two ascending arrays, or -1 as soon as they cannot reach `least`.
static int64_t shared(const uint64_t *first, int64_t num_first, const uint64_t *second, int64_t num_second,
                      int64_t least) {
    int64_t i = 0, j = 0, found = 0;
    while (i < num_first && j < num_second) {
        int64_t left = num_first - i < num_second - j ? num_first - i : num_second - j;
        if (found + left < least) return -1;
        uint64_t a = first[i], b = second[j];
        found += a == b;
        i += a <= b;
        j += b <= a;
    }
    return found;
}

static double jaccard(const uint64_t *hashes, const int64_t *ends, int64_t first, int64_t second, double threshold) {
    int64_t num_first = ends[first + 1] - ends[first], num_second = ends[second + 1] - ends[second];
    int64_t least = (int64_t)(threshold / (1 + threshold) * (double)(num_first + num_second));
    int64_t both = shared(hashes + ends[first], num_first, hashes + ends[second], num_second, least);
    return both <= 0 ? 0.0 : (double)both / (double)(num_first + num_second - both);
}

// Joins the members of each bucket whose Jaccard similarity reaches the threshold. Members that hang together already
// are not compared again, so a thousand copies of a notice cost a thousand comparisons and not half a million.
//   parents   int64 [texts], each its own at first; compared int64 [1], counts comparisons
int join_similar(const int64_t *buckets, long num_buckets, const int64_t *members, const uint64_t *hashes,
                 const int64_t *ends, double threshold, int64_t *parents, int64_t *compared) {
    for (long bucket = 0; bucket < num_buckets; bucket++) {
        for (int64_t i = buckets[bucket]; i < buckets[bucket + 1]; i++) {
            for (int64_t j = i + 1; j < buckets[bucket + 1]; j++) {
                int64_t first = members[i], second = members[j];
                if (root(parents, first) == root(parents, second)) continue;
                *compared += 1;
                if (jaccard(hashes, ends, first, second, threshold) >= threshold) join(parents, first, second);
            }
        }
    }
    return 0;
}

// Jaccard similarity of pairs: first, second int64 [count]; out double [count].
int similarities(const uint64_t *hashes, const int64_t *ends, const int64_t *first, const int64_t *second, long count,
                 double *out) {
    for (long pair = 0; pair < count; pair++) out[pair] = jaccard(hashes, ends, first[pair], second[pair], 0.0);
    return 0;
}
