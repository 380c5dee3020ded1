// Pairs of neighbouring tokens in counted words: which occurs most, and what changes when it becomes one token.
//
// Source: Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units (2016), algorithm 1.
// Of pairs that occur equally often the one with the smallest ids comes first: there is one result, whatever the order
// of the words. Each pair keeps the words that it occurs in, so a merge looks at those alone.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t ids; // left << 32 | right
    int64_t count;
    int32_t *words; // that hold the pair, or held it once
    uint32_t num_words, room;
    int32_t grown_in; // the merge in which the count grew last
} Pair;

typedef struct {
    int64_t count;
    uint32_t place; // of the pair
} Candidate;

typedef struct {
    // Words: runs of token ids, which get shorter.
    int32_t *ids, *lengths;
    int64_t *starts, *counts;
    // Pairs, found by the hash of their ids: slots hold a place + 1, or 0.
    Pair *pairs;
    uint32_t *slots;
    uint32_t num_pairs, room, num_slots;
    // The pairs by count, the greatest at the root.
    Candidate *heap;
    uint32_t heap_size, heap_room;
    int64_t least;
    int32_t num_merges;
    uint32_t *grown; // places of pairs whose count grew in this merge
    uint32_t num_grown, grown_room;
    int failed; // there was no memory
} Learner;

static uint32_t hash_ids(uint64_t ids) {
    ids = (ids ^ ids >> 30) * 0xBF58476D1CE4E5B9ull;
    ids = (ids ^ ids >> 27) * 0x94D049BB133111EBull;
    return (uint32_t)(ids ^ ids >> 31);
}

// `memory` with room for one more element; the same, and `failed` set, where there is none.
static void *with_room(void *memory, uint32_t used, uint32_t *room, size_t size, int *failed) {
    if (used < *room) return memory;
    uint32_t more = *room + *room / 2 + 2;
    void *moved = realloc(memory, more * size);
    if (moved == NULL) {
        *failed = 1;
        return memory;
    }
    *room = more;
    return moved;
}

static void spread_slots(Learner *all) {
    uint32_t num_slots = all->num_slots ? all->num_slots * 2 : 1 << 12;
    uint32_t *slots = calloc(num_slots, sizeof *slots);
    if (slots == NULL) {
        all->failed = 1;
        return;
    }
    for (uint32_t place = 0; place < all->num_pairs; place++) {
        uint32_t slot = hash_ids(all->pairs[place].ids) & (num_slots - 1);
        while (slots[slot]) slot = (slot + 1) & (num_slots - 1);
        slots[slot] = place + 1;
    }
    free(all->slots);
    all->slots = slots, all->num_slots = num_slots;
}

// The pair, made where there is none yet; NULL without memory.
static Pair *pair_of(Learner *all, int32_t left, int32_t right) {
    if (all->num_pairs >= all->num_slots / 4 * 3) spread_slots(all);
    all->pairs = with_room(all->pairs, all->num_pairs, &all->room, sizeof(Pair), &all->failed);
    if (all->failed) return NULL;
    uint64_t ids = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t slot = hash_ids(ids) & (all->num_slots - 1);
    for (; all->slots[slot]; slot = (slot + 1) & (all->num_slots - 1)) {
        Pair *pair = &all->pairs[all->slots[slot] - 1];
        if (pair->ids == ids) return pair;
    }
    all->pairs[all->num_pairs] = (Pair){.ids = ids, .grown_in = -1};
    all->slots[slot] = ++all->num_pairs;
    return &all->pairs[all->num_pairs - 1];
}

static void gain(Learner *all, int32_t left, int32_t right, int32_t word) {
    Pair *pair = pair_of(all, left, right);
    if (pair == NULL) return;
    pair->count += all->counts[word];
    if (pair->grown_in != all->num_merges) {
        pair->grown_in = all->num_merges;
        all->grown = with_room(all->grown, all->num_grown, &all->grown_room, sizeof(uint32_t), &all->failed);
        if (!all->failed) all->grown[all->num_grown++] = pair - all->pairs;
    }
    if (pair->num_words && pair->words[pair->num_words - 1] == word) return;
    pair->words = with_room(pair->words, pair->num_words, &pair->room, sizeof(int32_t), &all->failed);
    if (!all->failed) pair->words[pair->num_words++] = word;
}

static void lose(Learner *all, int32_t left, int32_t right, int32_t word) {
    Pair *pair = pair_of(all, left, right);
    if (pair != NULL) pair->count -= all->counts[word];
}

static int comes_before(const Learner *all, Candidate one, Candidate other) {
    if (one.count != other.count) return one.count > other.count;
    return all->pairs[one.place].ids < all->pairs[other.place].ids;
}

static void sink(Learner *all, Candidate sinking) {
    uint32_t hole = 0;
    for (uint32_t child; (child = 2 * hole + 1) < all->heap_size; hole = child) {
        if (child + 1 < all->heap_size && comes_before(all, all->heap[child + 1], all->heap[child])) child++;
        if (!comes_before(all, all->heap[child], sinking)) break;
        all->heap[hole] = all->heap[child];
    }
    all->heap[hole] = sinking;
}

static void push_grown(Learner *all) {
    for (uint32_t i = 0; i < all->num_grown; i++) {
        Candidate rising = {all->pairs[all->grown[i]].count, all->grown[i]};
        if (rising.count < all->least) continue;
        all->heap = with_room(all->heap, all->heap_size, &all->heap_room, sizeof(Candidate), &all->failed);
        if (all->failed) return;
        uint32_t hole = all->heap_size++;
        for (; hole && comes_before(all, rising, all->heap[(hole - 1) / 2]); hole = (hole - 1) / 2)
            all->heap[hole] = all->heap[(hole - 1) / 2];
        all->heap[hole] = rising;
    }
    all->num_grown = 0;
}

// The pair that occurs most, `least` times at least; NULL where there is none. A pair whose count has shrunk since it
// was put on the heap sinks to where it belongs; one whose count has grown was put there once more when it grew.
static Pair *find_best(Learner *all) {
    while (all->heap_size) {
        Candidate best = all->heap[0];
        Pair *pair = &all->pairs[best.place];
        if (pair->count == best.count) return pair;
        if (pair->count < best.count && pair->count >= all->least) {
            sink(all, (Candidate){pair->count, best.place});
            continue;
        }
        Candidate last = all->heap[--all->heap_size];
        if (all->heap_size) sink(all, last);
    }
    return NULL;
}

// Replace the pair by a token in one word, from left to right, and account for the pairs beside it.
static void merge_word(Learner *all, int32_t word, int32_t left, int32_t right, int32_t merged) {
    int32_t *ids = all->ids + all->starts[word], length = all->lengths[word], kept = 0;
    for (int32_t i = 0; i < length; i++, kept++) {
        if (ids[i] != left || i + 1 == length || ids[i + 1] != right) {
            ids[kept] = ids[i];
            continue;
        }
        if (kept) {
            lose(all, ids[kept - 1], left, word);
            gain(all, ids[kept - 1], merged, word);
        }
        if (i + 2 < length) {
            lose(all, right, ids[i + 2], word);
            gain(all, merged, ids[i + 2], word);
        }
        ids[kept] = merged;
        i++;
    }
    all->lengths[word] = kept;
}

// Every function below returns 1 where there was no memory, and the learner can only be closed then.

int close_learner(Learner *all) {
    if (all == NULL) return 0;
    for (uint32_t place = 0; place < all->num_pairs; place++) free(all->pairs[place].words);
    free(all->ids), free(all->lengths), free(all->starts), free(all->counts);
    free(all->pairs), free(all->slots), free(all->heap), free(all->grown);
    free(all);
    return 0;
}

// Words are runs of `ids`, one after the other (`starts` has one entry more than there are words); `counts` says how
// often each occurs, `least` how often a pair must.
int open_learner(const int32_t *ids, const int64_t *starts, const int64_t *counts, int64_t num_words, int64_t least,
                 Learner **opened) {
    Learner *all = calloc(1, sizeof *all);
    *opened = all;
    if (all == NULL) return 1;
    all->least = least;
    all->ids = malloc((starts[num_words] + 1) * sizeof(int32_t));
    all->lengths = malloc((num_words + 1) * sizeof(int32_t));
    all->starts = malloc((num_words + 1) * sizeof(int64_t));
    all->counts = malloc((num_words + 1) * sizeof(int64_t));
    if (!all->ids || !all->lengths || !all->starts || !all->counts) return 1;
    memcpy(all->ids, ids, starts[num_words] * sizeof(int32_t));
    memcpy(all->starts, starts, num_words * sizeof(int64_t));
    memcpy(all->counts, counts, num_words * sizeof(int64_t));
    for (int64_t word = 0; word < num_words; word++) {
        all->lengths[word] = starts[word + 1] - starts[word];
        const int32_t *first = all->ids + starts[word];
        for (int32_t i = 0; i + 1 < all->lengths[word] && !all->failed; i++) gain(all, first[i], first[i + 1], word);
    }
    push_grown(all);
    return all->failed;
}

// The pair that occurs most, and how often; a count of 0 where no pair occurs often enough.
int best_pair(Learner *all, int32_t *left, int32_t *right, int64_t *count) {
    Pair *best = find_best(all);
    *count = best == NULL ? 0 : best->count;
    if (best != NULL) *left = best->ids >> 32, *right = (int32_t)(uint32_t)best->ids;
    return all->failed;
}

// Make a pair one token wherever it occurs; with `merged` below 0, never offer it again instead.
int take_pair(Learner *all, int32_t left, int32_t right, int32_t merged) {
    Pair *pair = pair_of(all, left, right);
    if (pair == NULL) return 1;
    int32_t *words = pair->words;
    uint32_t num_words = pair->num_words, place = pair - all->pairs;
    pair->words = NULL, pair->num_words = pair->room = 0;
    all->num_merges++;
    for (uint32_t i = 0; i < num_words && merged >= 0 && !all->failed; i++)
        merge_word(all, words[i], left, right, merged);
    free(words);
    all->pairs[place].count = merged >= 0 ? 0 : INT64_MIN / 2;
    if (!all->failed) push_grown(all);
    return all->failed;
}
