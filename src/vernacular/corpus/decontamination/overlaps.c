// Texts to units, and units to the items of benchmarks whose runs of units they hold.
// Integer arithmetic throughout, so that every machine gives the same result.

#include <stdlib.h>
#include <string.h>

#include "../hashing.h"

// What a code point is to a unit: the upper bits of the table's entries; the lower 21 are what it is folded to.
enum { OUTSIDE, BASE, EXTENDS, ALONE, SILENT };
enum { CODE_BITS = 21, CODE_MASK = (1 << CODE_BITS) - 1 };

// The units of one text. Returns how many; writes each one's hash, first code point, and bytes from and to.
static int64_t cut(const uint32_t *table, const uint8_t *text, int64_t at, int64_t to, uint64_t *hashes,
                   uint32_t *firsts, int64_t *begins, int64_t *ends) {
    int64_t count = 0;
    int before = OUTSIDE;
    uint64_t hash = 0;
    while (at < to) {
        int64_t here = at;
        uint32_t entry = table[decoded(text, &at)];
        int kind = (int)(entry >> CODE_BITS);
        if (kind == SILENT) continue;
        if (kind != OUTSIDE) {
            int new = before == OUTSIDE || kind == ALONE || (before == ALONE && kind == BASE);
            if (new) {
                if (count) hashes[count - 1] = mixed(hash);
                firsts[count] = entry & CODE_MASK;
                begins[count] = here;
                count += 1;
                hash = 0;
            }
            hash = (hash ^ (entry & CODE_MASK)) * BASE_OF_ROLLING;
            hash ^= hash >> 32;
            ends[count - 1] = at;
            // Marks leave a letter that stands alone what it is.
            if (kind == EXTENDS && before == ALONE) kind = ALONE;
        }
        before = kind;
    }
    if (count) hashes[count - 1] = mixed(hash);
    return count;
}

// The units of every text, one text's after another's; each array has room for one a byte.
//   table     uint32 [0x110000]; text uint8, offsets int64 [count + 1] into it
//   text_ends int64 [count + 1]
int cut_texts(const uint32_t *table, const uint8_t *text, const int64_t *offsets, long count, uint64_t *hashes,
              uint32_t *firsts, int64_t *begins, int64_t *ends, int64_t *text_ends) {
    int64_t end = 0;
    text_ends[0] = 0;
    for (long each = 0; each < count; each++) {
        end += cut(table, text, offsets[each], offsets[each + 1], hashes + end, firsts + end, begins + end, ends + end);
        text_ends[each + 1] = end;
    }
    return 0;
}

// The hash of `length` units from `from` on, by the polynomials of all beginnings of the text.
static inline uint64_t run_hash(const uint64_t *sums, const uint64_t *powers, int64_t from, int64_t length) {
    return mixed((sums[from + length] - sums[from] * powers[length]) ^ (uint64_t)length);
}

static void sum_up(const uint64_t *hashes, int64_t count, uint64_t *sums) {
    sums[0] = 0;
    for (int64_t i = 0; i < count; i++) sums[i + 1] = sums[i] * BASE_OF_ROLLING + hashes[i];
}

static void raise(uint64_t *powers, int64_t count) {
    powers[0] = 1;
    for (int64_t i = 1; i < count; i++) powers[i] = powers[i - 1] * BASE_OF_ROLLING;
}

enum { MOST_UNITS = 64 };

// The hashes of given runs of units: from, lengths int64 [count], lengths at most MOST_UNITS; out uint64 [count].
int hash_runs(const uint64_t *hashes, const int64_t *from, const int64_t *lengths, long count, uint64_t *out) {
    uint64_t powers[MOST_UNITS + 1], sums[MOST_UNITS + 1];
    raise(powers, MOST_UNITS + 1);
    for (long run = 0; run < count; run++) {
        sum_up(hashes + from[run], lengths[run], sums);
        out[run] = run_hash(sums, powers, 0, lengths[run]);
    }
    return 0;
}

// An index of runs: see index.py, which makes it.
typedef struct {
    int64_t num_lengths, least, seed_bits, start_bits;
    const int64_t *lengths;       // [num_lengths], ascending; least is the first
    const uint64_t *seeds;        // [1 << seed_bits]: bit l where a run of lengths[l] units begins with the seed
    const uint32_t *starts;       // [(1 << start_bits) + 1]: the runs whose hashes begin with these bits
    const uint64_t *runs;         // hashes, ascending
    const int64_t *posting_ends;  // [runs + 1]
    const uint32_t *posting_items, *posting_places;
    const uint32_t *needed;       // units of each item that a document must hold
} Index;

typedef struct { int64_t run, at, length; } Hit;

typedef struct { void *memory; size_t size; } Room;

static void *room_for(Room *room, size_t size) {
    if (room->size < size) {
        void *larger = realloc(room->memory, size + size / 2);
        if (!larger) return NULL;
        room->memory = larger;
        room->size = size + size / 2;
    }
    return room->memory;
}

static int64_t find_run(const Index *index, uint64_t hash) {
    uint64_t bucket = index->start_bits ? hash >> (64 - index->start_bits) : 0;
    for (uint32_t run = index->starts[bucket]; run < index->starts[bucket + 1]; run++)
        if (index->runs[run] == hash) return run;
    return -1;
}

// Every run of the index that the units hold; returns how many, or -1 without memory.
static int64_t find_hits(const Index *index, const uint64_t *sums, const uint64_t *powers, int64_t count, Room *room) {
    int64_t found = 0;
    uint64_t mask = ((uint64_t)1 << index->seed_bits) - 1;
    for (int64_t at = 0; at + index->least <= count; at++) {
        uint64_t open = index->seeds[run_hash(sums, powers, at, index->least) & mask];
        for (; open; open &= open - 1) {
            int64_t length = index->lengths[__builtin_ctzll(open)];
            if (at + length > count) break;
            int64_t run = find_run(index, run_hash(sums, powers, at, length));
            if (run < 0) continue;
            Hit *hits = room_for(room, (size_t)(found + 1) * sizeof *hits);
            if (!hits) return -1;
            hits[found++] = (Hit){run, at, length};
        }
    }
    return found;
}

// A run at a place of an item, such that sorting brings one item's together in order. Places stay below 2^24.
static inline uint64_t placed(uint32_t item, uint32_t place, int64_t length) {
    return (uint64_t)item << 32 | (uint64_t)place << 8 | (uint64_t)length;
}

// Where results go: items that documents hold, and the bytes in which they stand.
typedef struct {
    int64_t most, num_held, num_spans;
    int64_t *documents, *covered;  // [most]
    uint32_t *items;               // [most]
    int64_t *span_documents, *span_begins, *span_ends;  // [most]
} Found;

// The items of which the hits cover enough; returns 1 where there is no memory, 2 where the results do not fit.
static int weigh(const Index *index, const Hit *hits, int64_t num_hits, int64_t document, Room *sorted, Room *places,
                 Found *out) {
    uint64_t *runs = room_for(sorted, (size_t)num_hits * sizeof *runs);
    if (!runs) return 1;
    for (int64_t i = 0; i < num_hits; i++) runs[i] = (uint64_t)hits[i].run << 8 | (uint64_t)hits[i].length;
    sort(runs, num_hits);
    int64_t count = 0;
    for (int64_t i = 0; i < num_hits; i++) {
        if (i && runs[i] == runs[i - 1]) continue;
        int64_t run = (int64_t)(runs[i] >> 8), length = (int64_t)(runs[i] & 0xFF);
        int64_t begin = index->posting_ends[run], more = index->posting_ends[run + 1] - begin;
        uint64_t *at = room_for(places, (size_t)(count + more) * sizeof *at);
        if (!at) return 1;
        for (int64_t j = begin; j < begin + more; j++)
            at[count++] = placed(index->posting_items[j], index->posting_places[j], length);
    }
    uint64_t *at = places->memory;
    sort(at, count);
    for (int64_t i = 0; i < count;) {
        uint32_t item = (uint32_t)(at[i] >> 32);
        int64_t covered = 0, until = 0;
        for (; i < count && at[i] >> 32 == item; i++) {
            int64_t begin = (int64_t)(at[i] >> 8 & 0xFFFFFF), end = begin + (int64_t)(at[i] & 0xFF);
            if (begin < until) begin = until;
            if (end > begin) { covered += end - begin; until = end; }
        }
        if (covered < index->needed[item]) continue;
        if (out->num_held == out->most) return 2;
        out->documents[out->num_held] = document;
        out->items[out->num_held] = item;
        out->covered[out->num_held++] = covered;
    }
    return 0;
}

static int is_held(const uint32_t *items, int64_t count, uint32_t item) {
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (items[middle] < item) low = middle + 1;
        else high = middle;
    }
    return low < count && items[low] == item;
}

// The bytes of the hits that belong to the items held, those that touch or overlap as one.
static int mark(const Index *index, const Hit *hits, int64_t num_hits, const int64_t *begins, const int64_t *ends,
                int64_t document, int64_t first_held, Found *out) {
    int64_t open = -1, until = -1;  // units
    for (int64_t i = 0; i <= num_hits; i++) {
        int mine = 0;
        if (i < num_hits)
            for (int64_t j = index->posting_ends[hits[i].run]; j < index->posting_ends[hits[i].run + 1] && !mine; j++)
                mine = is_held(out->items + first_held, out->num_held - first_held, index->posting_items[j]);
        if (i < num_hits && !mine) continue;
        if (open >= 0 && (i == num_hits || hits[i].at > until)) {
            if (out->num_spans == out->most) return 2;
            out->span_documents[out->num_spans] = document;
            out->span_begins[out->num_spans] = begins[open];
            out->span_ends[out->num_spans++] = ends[until - 1];
            open = -1;
        }
        if (i == num_hits) break;
        if (open < 0) { open = hits[i].at; until = open; }
        if (hits[i].at + hits[i].length > until) until = hits[i].at + hits[i].length;
    }
    return 0;
}

// The items that each text holds, and where. Returns 0; 1 without memory; 2 where `most` is too few.
//   num          int64 [2]: how many items were held, and how many spans there are
int find_items(const uint32_t *table, const uint8_t *text, const int64_t *offsets, long count, const int64_t *shape,
               const int64_t *lengths, const uint64_t *seeds, const uint32_t *starts, const uint64_t *runs,
               const int64_t *posting_ends, const uint32_t *posting_items, const uint32_t *posting_places,
               const uint32_t *needed, long most, int64_t *documents, uint32_t *items, int64_t *covered,
               int64_t *span_documents, int64_t *span_begins, int64_t *span_ends, int64_t *num) {
    Index index = {shape[0], lengths[0], shape[1], shape[2], lengths, seeds, starts, runs,
                   posting_ends, posting_items, posting_places, needed};
    Found out = {most, 0, 0, documents, covered, items, span_documents, span_begins, span_ends};
    uint64_t powers[MOST_UNITS + 1];
    raise(powers, MOST_UNITS + 1);
    Room units = {0}, hits = {0}, sorted = {0}, places = {0};
    int failed = 0;
    for (long each = 0; each < count && !failed; each++) {
        int64_t size = offsets[each + 1] - offsets[each];
        uint64_t *hashes = room_for(&units, (size_t)(size + 1) * (4 * sizeof(uint64_t) + sizeof(uint32_t)));
        if (!hashes) { failed = 1; break; }
        uint64_t *sums = hashes + size + 1;
        int64_t *begins = (int64_t *)(sums + size + 1), *ends = begins + size + 1;
        uint32_t *firsts = (uint32_t *)(ends + size + 1);
        int64_t num_units = cut(table, text, offsets[each], offsets[each + 1], hashes, firsts, begins, ends);
        sum_up(hashes, num_units, sums);
        int64_t num_hits = find_hits(&index, sums, powers, num_units, &hits);
        if (num_hits < 0) { failed = 1; break; }
        if (!num_hits) continue;
        int64_t first_held = out.num_held;
        failed = weigh(&index, hits.memory, num_hits, each, &sorted, &places, &out);
        if (!failed && out.num_held > first_held)
            failed = mark(&index, hits.memory, num_hits, begins, ends, each, first_held, &out);
    }
    free(units.memory);
    free(hits.memory);
    free(sorted.memory);
    free(places.memory);
    num[0] = out.num_held;
    num[1] = out.num_spans;
    return failed;
}
