/* A text taken apart: code points with their properties, tokens, lines. One allocation for all documents of a batch. */
#ifndef VERNACULAR_TEXT_H
#define VERNACULAR_TEXT_H

#include <stdint.h>

/* classes of code points, as in corpus/codepoints.py */
enum { OTHER, LETTER, MARK, DIGIT, SPACE, PUNCTUATION, SYMBOL, CONTROL, PRIVATE, UNASSIGNED, JOINER };

/* further properties, in the bits above the class */
enum {
    CLASS = 0x0F,
    ALONE = 0x10,     /* a letter of a script that separates no words */
    LINKER = 0x20,    /* a virama that ties consonants */
    TERMINAL = 0x40,  /* ends a sentence */
    CLOSING = 0x80,   /* quotation marks and brackets that may stand after the end of a sentence */
    UPPER = 0x100,
    LOWER = 0x200,
    BULLET = 0x400,
    SEPARATOR = 0x800, /* stands between the items of a menu */
    FULL_STOP = 0x1000, /* a terminal after which no space need stand: of scripts that separate no words */
    LATIN = 0x2000,     /* a letter or mark of the Latin script */
    SENTENCE_END = 0x4000 /* after which a long line is cut for notices */
};

/* sets of phrases: bits of the value that the table of phrases holds */
enum {
    STOP_WORD = 1,
    PROFANITY = 2,
    BOILERPLATE = 4,
    SPAM = 8,
    POLICY = 16,
    SCRIPTING = 32,
    LOREM = 64,
    BEGINNING = 128, /* of a longer phrase */
    COMMON_WORD = 256 /* a stop word of some language */
};

typedef struct {
    const uint16_t *properties; /* [0x110000] */
    const uint32_t *lower;       /* [0x110000], simple lower case */
    const uint64_t *phrase_keys;  /* [phrase_slots], open addressing; 0 is empty */
    const uint32_t *phrase_sets;  /* [phrase_slots] */
    int64_t phrase_slots;        /* a power of two */
} Tables;

typedef struct {
    uint64_t raw, folded;     /* hashes as written and in lower case */
    int64_t start, end;       /* code points */
    int32_t is_word, line;
    uint32_t sets;            /* of the phrase that this word alone is */
} Token;

typedef struct {
    int64_t start, end;       /* code points, without white space around */
    int64_t byte_start, byte_end; /* of the whole line, without its end, in its document */
    int64_t first_token, num_tokens, num_words;
    uint64_t hash;
    uint32_t sets;            /* of the phrases in it */
    int32_t separators;
} Line;

typedef struct { uint64_t key; int64_t first; uint32_t count, epoch; } Slot;

typedef struct {
    Tables tables;
    int64_t length, num_tokens, num_words, num_lines, blank_lines, newlines;
    uint32_t *points;
    uint16_t *properties;
    Token *tokens;
    int64_t *words;            /* indices of the tokens that are words */
    Line *lines;
    uint64_t *sums;            /* prefix sums of hashes */
    Slot *slots;
    int64_t num_slots, slots_used; /* powers of two; for short texts a part is used, which stays in the caches */
    uint32_t epoch;
} Text;

Text *new_text(Tables tables, int64_t most_bytes);
void free_text(Text *text);
int64_t longest_text(const int64_t *offsets, int64_t num_documents);
void read_text(Text *text, const uint8_t *bytes, int64_t num_bytes);
void find_phrases(Text *text, uint64_t language);
uint32_t phrase_sets_of(const Tables *tables, uint64_t key, uint64_t language);

/* Forget what the table of pieces held; so many pieces at most follow. */
static inline void begin_counting(Text *text, int64_t most) {
    text->epoch++;
    text->slots_used = 64;
    while (text->slots_used < 2 * most && text->slots_used < text->num_slots) text->slots_used *= 2;
}

/* The slot of a piece, its count raised by one; `first` is where the piece first stood. */
static inline Slot *count_piece(Text *text, uint64_t key, int64_t position) {
    uint64_t mask = (uint64_t)text->slots_used - 1, at = (key ^ (key >> 32)) & mask;
    for (;; at = (at + 1) & mask) {
        Slot *slot = text->slots + at;
        if (slot->epoch != text->epoch) {
            *slot = (Slot){key, position, 1, text->epoch};
            return slot;
        }
        if (slot->key == key) {
            slot->count++;
            return slot;
        }
    }
}

static inline uint64_t mix(uint64_t value) {
    value ^= value >> 30;
    value *= 0xBF58476D1CE4E5B9u;
    value ^= value >> 27;
    value *= 0x94D049BB133111EBu;
    return value ^ (value >> 31);
}

/* One code point of valid UTF-8. */
static inline uint32_t decode(const uint8_t **at) {
    const uint8_t *bytes = *at;
    if (bytes[0] < 0x80) {
        *at += 1;
        return bytes[0];
    }
    if (bytes[0] < 0xE0) {
        *at += 2;
        return (uint32_t)(bytes[0] & 0x1F) << 6 | (bytes[1] & 0x3F);
    }
    if (bytes[0] < 0xF0) {
        *at += 3;
        return (uint32_t)(bytes[0] & 0x0F) << 12 | (uint32_t)(bytes[1] & 0x3F) << 6 | (bytes[2] & 0x3F);
    }
    *at += 4;
    return (uint32_t)(bytes[0] & 0x07) << 18 | (uint32_t)(bytes[1] & 0x3F) << 12 | (uint32_t)(bytes[2] & 0x3F) << 6 |
           (bytes[3] & 0x3F);
}

static inline int class_of(uint16_t property) { return property & CLASS; }

static inline int in_word(uint16_t property) {
    int kind = class_of(property);
    return kind == LETTER || kind == MARK || kind == DIGIT || kind == JOINER;
}

#define BASE 0x9E3779B97F4A7C15u

#endif
