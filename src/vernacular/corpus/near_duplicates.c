// Near-duplicates: texts to shingles, shingles to bands of MinHash, bands to clusters of verified similarity.
// Integer arithmetic throughout, so that every machine gives the same result.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "hashing.h"

// What a code point is to a shingle: the upper bits of the table's entries; the lower 21 are its lower case, or nothing
// where it is outside.
enum { OUTSIDE, BASE, EXTENDS, ALONE, LINKER, JOINER };
enum { CODE_BITS = 21, CODE_MASK = (1 << CODE_BITS) - 1, LANES = 64, LEAST_LANES = 16 };
enum { BLOCK = 256, MOST_PLACES = 64, MOST_PIECES = 64 };

// The code point whose UTF-8 begins with four bytes; of bytes that begin none, nothing in particular.
static inline uint32_t code_point(uint32_t first, uint32_t second, uint32_t third, uint32_t fourth) {
    uint32_t two = (first & 0x1F) << 6 | (second & 0x3F);
    uint32_t three = (first & 0x0F) << 12 | (second & 0x3F) << 6 | (third & 0x3F);
    uint32_t four = (first & 0x07) << 18 | (second & 0x3F) << 12 | (third & 0x3F) << 6 | (fourth & 0x3F);
    return first < 0x80 ? first : first < 0xE0 ? two : first < 0xF0 ? three : four;
}

// Of `length` numbers those whose bytes begin a code point, written one behind another; returns how many.
static inline int64_t kept(const uint32_t *numbers, const uint8_t *bytes, int length, uint32_t *out) {
    int64_t count = 0;
    int i = 0;
#ifdef __AVX512F__
    for (; i + 16 <= length; i += 16) {
        __m512i widened = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(bytes + i)));
        __m512i top = _mm512_and_si512(widened, _mm512_set1_epi32(0xC0));
        __mmask16 first = _mm512_cmpneq_epi32_mask(top, _mm512_set1_epi32(0x80));
        __m512i packed = _mm512_maskz_compress_epi32(first, _mm512_loadu_si512(numbers + i));
        int num_first = __builtin_popcount(first);
        _mm512_mask_storeu_epi32(out + count, (__mmask16)((1u << num_first) - 1), packed);
        count += num_first;
    }
#endif
    for (; i < length; i++) {
        out[count] = numbers[i];
        count += (bytes[i] & 0xC0) != 0x80;
    }
    return count;
}

// The code points of valid UTF-8, written to `codes`; returns how many. Every byte is taken for the first of one, many at
// once, and then those that are none are dropped: no branch depends on the text.
static int64_t code_points(const uint8_t *text, int64_t size, uint32_t *codes) {
    int64_t count = 0;
    uint32_t taken[BLOCK];
    uint8_t last[BLOCK + 3];
    for (int64_t begin = 0; begin < size; begin += BLOCK) {
        const uint8_t *at = text + begin;
        int length = size - begin < BLOCK ? (int)(size - begin) : BLOCK;
        if (size - begin < BLOCK + 3) {  // what is read lies within the text
            memset(last, 0, sizeof last);
            memcpy(last, at, (size_t)(size - begin));
            at = last;
        }
        for (int i = 0; i < BLOCK; i++) taken[i] = code_point(at[i], at[i + 1], at[i + 2], at[i + 3]);
        count += kept(taken, at, length, codes + count);
    }
    return count;
}

// Whether a piece (a word, or a grapheme of one) begins at a code point, after the two kinds before it.
static int begins(int kind, int before, int earlier, int by_grapheme) {
    if (kind == OUTSIDE) return 0;
    if (before == OUTSIDE) return 1;
    if (kind != BASE && kind != ALONE) return 0;
    if (!by_grapheme) return kind == ALONE || before == ALONE;
    return before != LINKER && !(before == JOINER && earlier == LINKER);
}

// What texts are cut by.
typedef struct {
    const uint32_t *table;          // [0x110000]
    int64_t within[512];            // by the kinds of three code points, three bits each: 0 where a piece begins, or -1
    uint64_t factors[MOST_PLACES];  // of a code point's place in its piece; they repeat in longer ones
    long size;                      // pieces a shingle
    uint64_t leaving;               // the factor of the piece that a shingle leaves behind
} Cutter;

static void prepare(Cutter *cutter, long size, int by_grapheme, const uint32_t *table) {
    cutter->table = table;
    for (int kinds = 0; kinds < 512; kinds++)
        cutter->within[kinds] = -!begins(kinds & 7, kinds >> 3 & 7, kinds >> 6, by_grapheme);
    for (int place = 0; place < MOST_PLACES; place++) cutter->factors[place] = mixed((uint64_t)place + 1) | 1;
    cutter->size = size;
    cutter->leaving = 1;
    for (long i = 0; i < size; i++) cutter->leaving *= BASE_OF_ROLLING;
}

// The hashes of the pieces of code points, written to `out` from out[1] on; returns how many. A piece's hash is the sum
// of its code points, each times the factor of its place (multilinear hashing); what is outside of pieces counts nothing,
// and changes nothing in the last one. Again no branch depends on the text.
static int64_t pieces(const Cutter *cutter, const uint32_t *codes, int64_t num_codes, uint64_t *out) {
    int64_t count = 0, within, place = 0;
    uint64_t hash = 0;
    uint32_t kinds = 0;
    for (int64_t i = 0; i < num_codes; i++) {
        uint32_t entry = cutter->table[codes[i]];
        kinds = (kinds << 3 | entry >> CODE_BITS) & 511;
        within = cutter->within[kinds];
        place = (place + 1) & within;
        hash = (hash & (uint64_t)within) + (entry & CODE_MASK) * cutter->factors[place % MOST_PLACES];
        count += 1 + within;
        out[count] = hash;
    }
    return count;
}

// The shingles of a text: hashes of `size` consecutive pieces, or of all where there are fewer. Returns how many.
//   codes, out    room for as many as the text has bytes, and in `out` for one more
static int64_t shingled(const Cutter *cutter, const uint8_t *text, int64_t num_bytes, uint32_t *codes, uint64_t *out) {
    int64_t num_pieces = pieces(cutter, codes, code_points(text, num_bytes, codes), out);
    long size = cutter->size;
    uint64_t recent[MOST_PIECES] = {0}, rolling = 0;  // what leaves is overwritten in `out` by then
    for (int64_t i = 0, slot = 0; i < num_pieces; i++, slot = slot + 1 < size ? slot + 1 : 0) {
        uint64_t piece = mixed(out[i + 1]);
        rolling = rolling * BASE_OF_ROLLING + piece - cutter->leaving * recent[slot];
        recent[slot] = piece;
        if (i >= size - 1) out[i - size + 1] = mixed(rolling);
    }
    if (num_pieces >= size) return num_pieces - size + 1;
    if (num_pieces) out[0] = mixed(rolling ^ (uint64_t)num_pieces);
    return num_pieces > 0;
}

static int64_t longest(const int64_t *offsets, long count) {
    int64_t most = 1;
    for (long document = 0; document < count; document++) {
        int64_t length = offsets[document + 1] - offsets[document];
        most = length > most ? length : most;
    }
    return most;
}

// Shingles of every text. Returns 1 where there is no memory.
//   size      pieces a shingle, MOST_PIECES at most
//   table     uint32 [0x110000], text uint8, offsets int64 [count + 1] into it
//   hashes    uint64, room for a hash a byte and one more; ends int64 [count + 1]
int shingle_texts(long size, int by_grapheme, const uint32_t *table, const uint8_t *text, const int64_t *offsets,
                  long count, uint64_t *hashes, int64_t *ends) {
    Cutter cutter;
    prepare(&cutter, size, by_grapheme, table);
    uint32_t *codes = malloc((size_t)longest(offsets, count) * sizeof *codes);
    if (!codes) return 1;
    ends[0] = 0;
    for (long document = 0; document < count; document++) {
        int64_t begin = offsets[document], num_bytes = offsets[document + 1] - begin;
        ends[document + 1] = ends[document] + shingled(&cutter, text + begin, num_bytes, codes, hashes + ends[document]);
    }
    free(codes);
    return 0;
}

// The least of multiplier · hash + increment over all hashes, for `lanes` permutations at once, a constant where inlined.
static inline __attribute__((always_inline)) void minima(const uint64_t *hashes, int64_t count, const uint32_t *multipliers,
                                                         const uint32_t *increments, int lanes, uint32_t *out) {
    uint32_t least[LANES];
    memset(least, 0xFF, sizeof least);
    for (int64_t i = 0; i < count; i++) {
        uint32_t value = (uint32_t)(hashes[i] >> 32);
        for (int lane = 0; lane < lanes; lane++) {
            uint32_t permuted = multipliers[lane] * value + increments[lane];
            least[lane] = permuted < least[lane] ? permuted : least[lane];
        }
    }
    memcpy(out, least, (size_t)lanes * sizeof *out);
}

static void sign(const uint64_t *hashes, int64_t count, const uint32_t *multipliers, const uint32_t *increments,
                 long lanes, uint32_t *out) {
    long lane = 0;
    for (; lane + LANES <= lanes; lane += LANES)
        minima(hashes, count, multipliers + lane, increments + lane, LANES, out + lane);
    multipliers += lane, increments += lane, out += lane;
    switch ((lanes - lane) / LEAST_LANES) {
    case 3: minima(hashes, count, multipliers, increments, 3 * LEAST_LANES, out); break;
    case 2: minima(hashes, count, multipliers, increments, 2 * LEAST_LANES, out); break;
    case 1: minima(hashes, count, multipliers, increments, LEAST_LANES, out); break;
    }
}

// Bands of the MinHash of every text, which is shingled on the way. A text without shingles has bands 0, which mean none.
// Returns 1 where there is no memory.
//   size … count              as of shingle_texts
//   multipliers, increments   uint32 [lanes], lanes a multiple of LEAST_LANES and at least num_bands · rows
//   bands                     uint64 [count, num_bands]
int minhash_bands(long size, int by_grapheme, const uint32_t *table, const uint8_t *text, const int64_t *offsets,
                  long count, const uint32_t *multipliers, const uint32_t *increments, long lanes, long num_bands,
                  long rows, uint64_t *bands) {
    Cutter cutter;
    prepare(&cutter, size, by_grapheme, table);
    int64_t most = longest(offsets, count);
    uint32_t *signature = malloc((size_t)lanes * sizeof *signature), *codes = malloc((size_t)most * sizeof *codes);
    uint64_t *hashes = malloc((size_t)(most + 1) * sizeof *hashes);
    int failed = !signature || !codes || !hashes;
    for (long document = 0; document < count && !failed; document++) {
        uint64_t *out = bands + document * num_bands;
        int64_t begin = offsets[document], num_bytes = offsets[document + 1] - begin;
        int64_t num_shingles = shingled(&cutter, text + begin, num_bytes, codes, hashes);
        if (!num_shingles) {
            memset(out, 0, (size_t)num_bands * sizeof *out);
            continue;
        }
        sign(hashes, num_shingles, multipliers, increments, lanes, signature);
        for (long band = 0; band < num_bands; band++) {
            uint64_t hash = (uint64_t)band + 1;
            for (long row = 0; row < rows; row++) hash = mixed(hash * BASE_OF_ROLLING + signature[band * rows + row]);
            out[band] = hash | 1;
        }
    }
    free(signature);
    free(codes);
    free(hashes);
    return failed;
}

// Sorts hashes, which are spread evenly over all numbers: each goes to about its place, and then a little further.
//   counts uint32 [most + 1] and spread uint64 [most] are to work in
static void sort_hashes(uint64_t *values, int64_t count, uint32_t *counts, uint64_t *spread) {
    memset(counts, 0, (size_t)(count + 1) * sizeof *counts);
    for (int64_t i = 0; i < count; i++) counts[(values[i] >> 32) * (uint64_t)count >> 32]++;
    uint32_t before = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t here = counts[i];
        counts[i] = before;
        before += here;
    }
    for (int64_t i = 0; i < count; i++) spread[counts[(values[i] >> 32) * (uint64_t)count >> 32]++] = values[i];
    for (int64_t i = 0; i < count; i++) {
        uint64_t value = spread[i];
        int64_t j = i;
        for (; j && values[j - 1] > value; j--) values[j] = values[j - 1];
        values[j] = value;
    }
}

// Each text's shingles in ascending order and once each, moved together; `ends` is updated. Returns 1 where there is no
// memory.
int sort_shingles(uint64_t *hashes, int64_t *ends, long count) {
    int64_t most = longest(ends, count);
    uint32_t *counts = malloc((size_t)(most + 1) * sizeof *counts);
    uint64_t *spread = malloc((size_t)most * sizeof *spread);
    int failed = !counts || !spread;
    int64_t begin = 0, end = 0;
    for (long document = 0; document < count && !failed; document++) {
        int64_t num = ends[document + 1] - begin;
        uint64_t *values = hashes + begin;
        sort_hashes(values, num, counts, spread);
        int64_t from = end;
        for (int64_t i = 0; i < num; i++)
            if (end == from || hashes[end - 1] != values[i]) hashes[end++] = values[i];
        begin += num;
        ends[document + 1] = end;
    }
    free(counts);
    free(spread);
    return failed;
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
