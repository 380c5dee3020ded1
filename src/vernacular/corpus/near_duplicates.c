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
enum { CODE_BITS = 21, CODE_MASK = (1 << CODE_BITS) - 1, LANES = 128, LEAST_LANES = 16 };
enum { BLOCK = 256, ROOM = 64, MOST_PLACES = 64 };

#if defined(__AVX512VBMI__) && defined(__AVX512VBMI2__)
static const uint8_t EVERY[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                  22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
                                  44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

// The code points whose UTF-8 begins in 64 bytes, with 64 more behind them; returns how many. `codes` has room for 64.
static inline int64_t begun(const uint8_t *bytes, uint32_t *codes) {
    __m512i here = _mm512_loadu_si512(bytes), behind = _mm512_loadu_si512(bytes + 64);
    // Signed: what continues a character is 80 to BF, less than C0.
    uint64_t firsts = _mm512_cmpge_epi8_mask(here, _mm512_set1_epi8((char)0xC0));
    __m512i places = _mm512_maskz_compress_epi8(firsts, _mm512_loadu_si512(EVERY));
    // Sixteen of them at once, each four times; then each first byte in the top of 32 bits, and the three behind it below.
    __m512i sixteen = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)EVERY));
    sixteen = _mm512_mullo_epi32(sixteen, _mm512_set1_epi32(0x01010101));
    int count = __builtin_popcountll(firsts);
#pragma GCC unroll 4
    for (int i = 0; i < 64; i += 16) {
        if (i >= count) break;
        __m512i at = _mm512_permutexvar_epi8(_mm512_add_epi8(sixteen, _mm512_set1_epi8((char)i)), places);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(0x00010203));
        __m512i four = _mm512_permutex2var_epi8(here, at, behind);
        __m512i six = _mm512_set1_epi32(0x3F);
        __m512i second = _mm512_and_si512(_mm512_srli_epi32(four, 16), six);
        __m512i third = _mm512_and_si512(_mm512_srli_epi32(four, 8), six);
        __m512i last = _mm512_and_si512(four, six), first = _mm512_srli_epi32(four, 24);
        __m512i two = _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(first, _mm512_set1_epi32(0x1F)), 6), second);
        __m512i three = _mm512_or_si512(_mm512_slli_epi32(two, 6), third);
        __m512i longer = _mm512_or_si512(_mm512_slli_epi32(three, 6), last);
        __m512i code = first;
        code = _mm512_mask_mov_epi32(code, _mm512_cmpge_epu32_mask(first, _mm512_set1_epi32(0xC0)), two);
        __mmask16 more = _mm512_cmpge_epu32_mask(first, _mm512_set1_epi32(0xE0));
        code = _mm512_mask_mov_epi32(code, more, three);
        __mmask16 most = _mm512_cmpge_epu32_mask(first, _mm512_set1_epi32(0xF0));
        code = _mm512_mask_and_epi32(code, most, longer, _mm512_set1_epi32(0x1FFFFF));
        _mm512_storeu_si512(codes + i, code);
    }
    return count;
}
#else
// The code point whose UTF-8 begins with four bytes; of bytes that begin none, nothing in particular.
static inline uint32_t code_point(uint32_t first, uint32_t second, uint32_t third, uint32_t fourth) {
    uint32_t two = (first & 0x1F) << 6 | (second & 0x3F);
    uint32_t three = (first & 0x0F) << 12 | (second & 0x3F) << 6 | (third & 0x3F);
    uint32_t four = (first & 0x07) << 18 | (second & 0x3F) << 12 | (third & 0x3F) << 6 | (fourth & 0x3F);
    return first < 0x80 ? first : first < 0xE0 ? two : first < 0xF0 ? three : four;
}

static inline int64_t begun(const uint8_t *bytes, uint32_t *codes) {
    int64_t count = 0;
    uint32_t taken[64];
    for (int i = 0; i < 64; i++) taken[i] = code_point(bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]);
    for (int i = 0; i < 64; i++) {
        codes[count] = taken[i];
        count += (bytes[i] & 0xC0) != 0x80;
    }
    return count;
}
#endif

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
    const uint32_t *table;              // [0x110000]
    uint32_t begins[512 / 32];          // a bit for the kinds of three code points, three bits each: a piece begins
    uint64_t factors[MOST_PLACES];      // of a code point's place in its piece; they repeat in longer ones
    long size;                          // pieces a shingle
} Cutter;

static void prepare(Cutter *cutter, long size, int by_grapheme, const uint32_t *table) {
    cutter->table = table;
    memset(cutter->begins, 0, sizeof cutter->begins);
    for (uint32_t kinds = 0; kinds < 512; kinds++)
        cutter->begins[kinds / 32] |= (uint32_t)begins(kinds & 7, kinds >> 3 & 7, kinds >> 6, by_grapheme) << kinds % 32;
    for (int place = 0; place < MOST_PLACES; place++) cutter->factors[place] = mixed((uint64_t)place + 1) | 1;
    cutter->size = size;
}

// Where pieces begin among code points, written to `starts`, and behind them the end; returns how many. Of each code point
// its lower case is left, and 0 of what is outside of pieces.
static int64_t starts_of_pieces(const Cutter *cutter, uint32_t *codes, int64_t num_codes, uint32_t *starts) {
    int64_t count = 0;
#ifdef __AVX512F__
    __m512i table = _mm512_loadu_si512(cutter->begins), before = _mm512_setzero_si512();
    __m512i places = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int64_t i = 0; i < num_codes; i += 16) {
        __mmask16 there = num_codes - i < 16 ? (__mmask16)((1u << (num_codes - i)) - 1) : 0xFFFF;
        __m512i entries = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), there, _mm512_loadu_si512(codes + i),
                                                      cutter->table, 4);
        _mm512_storeu_si512(codes + i, _mm512_and_si512(entries, _mm512_set1_epi32(CODE_MASK)));
        __m512i kind = _mm512_srli_epi32(entries, CODE_BITS);
        __m512i three = _mm512_or_si512(kind, _mm512_slli_epi32(_mm512_alignr_epi32(kind, before, 15), 3));
        three = _mm512_or_si512(three, _mm512_slli_epi32(_mm512_alignr_epi32(kind, before, 14), 6));
        before = kind;
        __m512i bits = _mm512_permutexvar_epi32(_mm512_srli_epi32(three, 5), table);
        bits = _mm512_srlv_epi32(bits, _mm512_and_si512(three, _mm512_set1_epi32(31)));
        __mmask16 begin = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(1));
        __m512i at = _mm512_add_epi32(places, _mm512_set1_epi32((int)i));
        _mm512_storeu_si512(starts + count, _mm512_maskz_compress_epi32(begin, at));
        count += __builtin_popcount(begin);
    }
#else
    uint32_t kinds = 0;
    for (int64_t i = 0; i < num_codes; i++) {
        uint32_t entry = cutter->table[codes[i]];
        codes[i] = entry & CODE_MASK;
        kinds = (kinds << 3 | entry >> CODE_BITS) & 511;
        starts[count] = (uint32_t)i;
        count += cutter->begins[kinds / 32] >> kinds % 32 & 1;
    }
#endif
    starts[count] = (uint32_t)num_codes;
    return count;
}

// The hash of a piece: the sum of its code points, each times the factor of its place (multilinear hashing).
static inline uint64_t hash_of_piece(const Cutter *cutter, const uint32_t *codes, int64_t length) {
#ifdef __AVX512DQ__
    __m512i sum = _mm512_setzero_si512();
    int64_t place = 0;
    do {  // sixteen at once: few are longer, and no branch depends on how long the others are
        __mmask16 there = (__mmask16)(length - place < 16 ? (1u << (length - place)) - 1 : 0xFFFF);
        __m512i some = _mm512_maskz_loadu_epi32(there, codes + place);
        const uint64_t *factors = cutter->factors + place % MOST_PLACES;
        __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(some));
        __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(some, 1));
        sum = _mm512_add_epi64(sum, _mm512_mullo_epi64(low, _mm512_loadu_si512(factors)));
        sum = _mm512_add_epi64(sum, _mm512_mullo_epi64(high, _mm512_loadu_si512(factors + 8)));
        place += 16;
    } while (place < length);
    __m256i four = _mm256_add_epi64(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    return (uint64_t)_mm_cvtsi128_si64(two) + (uint64_t)_mm_extract_epi64(two, 1);
#else
    uint64_t sum = 0;
    for (int64_t place = 0; place < length; place++) sum += codes[place] * cutter->factors[place % MOST_PLACES];
    return sum;
#endif
}

// The code points of valid UTF-8, written to `codes`, which has room for ROOM more; returns how many. No branch depends on
// the text.
static int64_t code_points(const uint8_t *text, int64_t size, uint32_t *codes) {
    int64_t count = 0;
    for (int64_t begin = 0; begin < size; begin += 64) {
        uint8_t last[128];
        const uint8_t *at = text + begin;
        if (size - begin < 128) {  // what is read lies within the text
            memset(last, 0x80, sizeof last);
            memcpy(last, at, (size_t)(size - begin));
            at = last;
        }
        count += begun(at, codes + count);
    }
    return count;
}

// The shingles of a text: hashes of `size` consecutive pieces, or of all where there are fewer. Returns how many.
//   codes, starts   room for as many as the text has bytes and ROOM more; out for as many as it has bytes
static int64_t shingled(const Cutter *cutter, const uint8_t *text, int64_t num_bytes, uint32_t *codes, uint32_t *starts,
                        uint64_t *out) {
    int64_t num_codes = code_points(text, num_bytes, codes);
    int64_t num_pieces = starts_of_pieces(cutter, codes, num_codes, starts);
    for (int64_t i = 0; i < num_pieces; i++)
        out[i] = hash_of_piece(cutter, codes + starts[i], starts[i + 1] - starts[i]);
    for (int64_t i = 0; i < num_pieces; i++) out[i] = mixed(out[i]);
    long size = cutter->size;
    int64_t num_shingles = num_pieces - size + 1;
    if (num_shingles > 0) {
        // A polynomial of `size` consecutive pieces, many shingles at once; what they are made of is overwritten behind.
        for (int64_t begin = 0; begin < num_shingles; begin += BLOCK) {
            uint64_t hashes[BLOCK] = {0};
            int length = num_shingles - begin < BLOCK ? (int)(num_shingles - begin) : BLOCK;
            for (long place = 0; place < size; place++)
                for (int i = 0; i < length; i++) hashes[i] = hashes[i] * BASE_OF_ROLLING + out[begin + place + i];
            for (int i = 0; i < length; i++) out[begin + i] = mixed(hashes[i]);
        }
        return num_shingles;
    }
    uint64_t all = 0;
    for (int64_t i = 0; i < num_pieces; i++) all = all * BASE_OF_ROLLING + out[i];
    if (num_pieces) out[0] = mixed(all ^ (uint64_t)num_pieces);
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
//   size      pieces a shingle
//   table     uint32 [0x110000], text uint8, offsets int64 [count + 1] into it
//   hashes    uint64, room for a hash a byte; ends int64 [count + 1]
int shingle_texts(long size, int by_grapheme, const uint32_t *table, const uint8_t *text, const int64_t *offsets,
                  long count, uint64_t *hashes, int64_t *ends) {
    Cutter cutter;
    prepare(&cutter, size, by_grapheme, table);
    int64_t most = longest(offsets, count) + ROOM;
    uint32_t *codes = malloc((size_t)most * sizeof *codes), *starts = malloc((size_t)most * sizeof *starts);
    int failed = !codes || !starts;
    ends[0] = 0;
    for (long document = 0; document < count && !failed; document++) {
        int64_t begin = offsets[document], num_bytes = offsets[document + 1] - begin;
        uint64_t *out = hashes + ends[document];
        ends[document + 1] = ends[document] + shingled(&cutter, text + begin, num_bytes, codes, starts, out);
    }
    free(codes);
    free(starts);
    return failed;
}

// The least of multiplier · hash + increment over all hashes, for `lanes` permutations at once, a constant where inlined.
static inline __attribute__((always_inline)) void minima(const uint64_t *hashes, int64_t count, const uint32_t *multipliers,
                                                         const uint32_t *increments, int lanes, uint32_t *out) {
#ifdef __AVX512F__
    // Named one by one, so that they stay in registers.
    __m512i least[LANES / LEAST_LANES], factors[LANES / LEAST_LANES], terms[LANES / LEAST_LANES];
#pragma GCC unroll 8
    for (int i = 0; i < lanes / LEAST_LANES; i++) {
        least[i] = _mm512_set1_epi32(-1);
        factors[i] = _mm512_loadu_si512(multipliers + i * LEAST_LANES);
        terms[i] = _mm512_loadu_si512(increments + i * LEAST_LANES);
    }
    for (int64_t at = 0; at < count; at++) {
        __m512i value = _mm512_set1_epi32((int)(hashes[at] >> 32));
#pragma GCC unroll 8
        for (int i = 0; i < lanes / LEAST_LANES; i++) {
            __m512i permuted = _mm512_add_epi32(_mm512_mullo_epi32(factors[i], value), terms[i]);
            least[i] = _mm512_min_epu32(least[i], permuted);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < lanes / LEAST_LANES; i++) _mm512_storeu_si512(out + i * LEAST_LANES, least[i]);
#else
    uint32_t least[LANES];
    memset(least, 0xFF, sizeof least);
    for (int64_t at = 0; at < count; at++) {
        uint32_t value = (uint32_t)(hashes[at] >> 32);
        for (int lane = 0; lane < lanes; lane++) {
            uint32_t permuted = multipliers[lane] * value + increments[lane];
            least[lane] = permuted < least[lane] ? permuted : least[lane];
        }
    }
    memcpy(out, least, (size_t)lanes * sizeof *out);
#endif
}

static void sign(const uint64_t *hashes, int64_t count, const uint32_t *multipliers, const uint32_t *increments,
                 long lanes, uint32_t *out) {
    for (; lanes >= LANES; lanes -= LANES, multipliers += LANES, increments += LANES, out += LANES)
        minima(hashes, count, multipliers, increments, LANES, out);
    switch (lanes / LEAST_LANES) {
    case 7: minima(hashes, count, multipliers, increments, 7 * LEAST_LANES, out); break;
    case 6: minima(hashes, count, multipliers, increments, 6 * LEAST_LANES, out); break;
    case 5: minima(hashes, count, multipliers, increments, 5 * LEAST_LANES, out); break;
    case 4: minima(hashes, count, multipliers, increments, 4 * LEAST_LANES, out); break;
    case 3: minima(hashes, count, multipliers, increments, 3 * LEAST_LANES, out); break;
    case 2: minima(hashes, count, multipliers, increments, 2 * LEAST_LANES, out); break;
    case 1: minima(hashes, count, multipliers, increments, LEAST_LANES, out); break;
    }
}

// A hash of each band of a signature. The values stand in num_bands lines of `rows`. Of the first grouping a band is a
// line; of grouping g it goes g lines further with every value, so that two bands of any two groupings have few values
// in common, and a pair of documents that all bands of one miss may meet in another.
static void cut_into_bands(const uint32_t *signature, long num_bands, long rows, long groupings, uint64_t *bands) {
    for (long grouping = 0; grouping < groupings; grouping++, bands += num_bands) {
        for (long band = 0; band < num_bands; band++) bands[band] = (uint64_t)(grouping * num_bands + band) + 1;
        for (long row = 0; row < rows; row++) {  // band by band within, since they do not wait for each other
            long line = grouping * row % num_bands;
            for (long band = 0; band < num_bands; band++) {
                bands[band] = mixed(bands[band] * BASE_OF_ROLLING + signature[line * rows + row]);
                line = line + 1 < num_bands ? line + 1 : 0;
            }
        }
        for (long band = 0; band < num_bands; band++) bands[band] |= 1;
    }
}

// Bands of the MinHash of every text, which is shingled on the way. A text without shingles has bands 0, which mean none.
// Returns 1 where there is no memory.
//   size … count              as of shingle_texts
//   multipliers, increments   uint32 [lanes], lanes a multiple of LEAST_LANES and at least num_bands · rows
//   groupings                 num_bands at most
//   bands                     uint64 [count, groupings · num_bands]
int minhash_bands(long size, int by_grapheme, const uint32_t *table, const uint8_t *text, const int64_t *offsets,
                  long count, const uint32_t *multipliers, const uint32_t *increments, long lanes, long num_bands,
                  long rows, long groupings, uint64_t *bands) {
    Cutter cutter;
    prepare(&cutter, size, by_grapheme, table);
    int64_t most = longest(offsets, count) + ROOM;
    uint32_t *signature = malloc((size_t)lanes * sizeof *signature);
    uint32_t *codes = malloc((size_t)most * sizeof *codes), *starts = malloc((size_t)most * sizeof *starts);
    uint64_t *hashes = malloc((size_t)most * sizeof *hashes);
    int failed = !signature || !codes || !starts || !hashes;
    for (long document = 0; document < count && !failed; document++) {
        uint64_t *out = bands + document * groupings * num_bands;
        int64_t begin = offsets[document], num_bytes = offsets[document + 1] - begin;
        int64_t num_shingles = shingled(&cutter, text + begin, num_bytes, codes, starts, hashes);
        if (!num_shingles) {
            memset(out, 0, (size_t)(groupings * num_bands) * sizeof *out);
            continue;
        }
        sign(hashes, num_shingles, multipliers, increments, lanes, signature);
        cut_into_bands(signature, num_bands, rows, groupings, out);
    }
    free(signature);
    free(codes);
    free(starts);
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
