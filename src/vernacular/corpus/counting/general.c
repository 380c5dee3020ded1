/* What the family `general` measures: everything in general_fields.h, of each text in lower case. */
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum {
#define FIELD(name) name,
#include "general_fields.h"
#undef FIELD
    NUM_FIELDS
};

enum {
    NGRAM = 5,
    LONGEST_NOTICE = 200, /* notices come in lines; a longer line is a paragraph and is looked at sentence by sentence */
    LEAST_PHRASES = 2,    /* one phrase may stand in any prose; it takes two to be a notice or a piece of advertising */
    MENU_SEPARATORS = 2,
    LETTER_AND_SPACE = 2, /* code points */
    LONGEST_PHRASE = 32   /* words: bits of `Phrases.sizes` */
};
static const double MENU_WORDS = 3.5;

/* Phrases of one set. */
typedef struct {
    uint32_t *sizes;  /* [num_words]: bit n - 1 where a phrase of n words begins */
    uint8_t *hits;    /* [num_words]: how many begin here, those within longer ones left out */
    uint8_t *covered; /* [num_words]: whether the word is part of a phrase */
    uint32_t all;     /* sizes of all */
} Phrases;

static int is_letter(uint16_t property) {
    int kind = class_of(property);
    return kind == LETTER || kind == MARK;
}

static void count_characters(const Text *text, int64_t *out) {
    const uint16_t *properties = text->properties;
    const uint32_t *points = text->points;
    int64_t kinds[16] = {0};
    for (int64_t i = 0; i < text->length; i++) {
        uint16_t property = properties[i], before = i ? properties[i - 1] : 0;
        uint32_t point = points[i];
        int kind = class_of(property), left = class_of(before);
        kinds[kind]++;
        int extends = kind == MARK || kind == JOINER;
        int tied = kind == LETTER &&
                   ((before & LINKER) || (i > 1 && points[i - 1] == 0x200D && (properties[i - 2] & LINKER)));
        int begins = !tied && (!extends || !i);
        out[graphemes] += begins;
        out[word_graphemes] += begins && in_word(property);
        if (kind == MARK && point >= 0x0900 && point < 0x0E00 && (!i || left == SPACE || left == PUNCTUATION))
            /* An ending after a number is written so: Malayalam 63-ാം, "the 63rd". */
            out[broken] += !(i > 1 && points[i - 1] == '-' && class_of(properties[i - 2]) == DIGIT);
        if (point == '?' && i + 1 < text->length) out[broken] += is_letter(before) && is_letter(properties[i + 1]);
        out[broken] += point == 0xFFFD || point == 0x25CC;
    }
    out[visible] = text->length - kinds[SPACE];
    out[written] = kinds[LETTER] + kinds[MARK] + kinds[JOINER];
    out[decimals] = kinds[DIGIT];
    out[symbols] = kinds[SYMBOL];
    out[broken] += kinds[PRIVATE] + kinds[UNASSIGNED];
}

/* Lines as they are written, empty ones left out. */
static void count_lines(Text *text, int64_t *out) {
    begin_counting(text, text->newlines + 1);
    for (int64_t start = 0; start < text->length;) {
        uint64_t hash = 0;
        int64_t end = start;
        for (; end < text->length && text->points[end] != '\n'; end++)
            hash = (hash ^ text->tables.lower[text->points[end]]) * BASE, hash ^= hash >> 29;
        out[line_characters] += end - start;
        if (end > start && count_piece(text, mix(hash), start)->count > 1) out[repeated_line_characters] += end - start;
        start = end + 1;
    }
}

static void count_words(Text *text, int64_t *out) {
    out[words] = text->num_words;
    begin_counting(text, text->num_words);
    for (int64_t w = 0; w < text->num_words; w++) {
        const Token *token = text->tokens + text->words[w];
        out[distinct_words] += count_piece(text, token->folded, w)->count == 1;
        out[spelt_words] += class_of(text->properties[token->start]) != DIGIT;
        out[stop_words] += (token->sets & STOP_WORD) != 0;
    }
    begin_counting(text, text->num_words);
    for (int64_t w = 0; w < text->num_words; w++) {
        const Token *token = text->tokens + text->words[w];
        int64_t next = w + 1 < text->num_words ? text->tokens[text->words[w + 1]].start : text->length;
        if ((token->sets & COMMON_WORD) || next - token->start <= LETTER_AND_SPACE) continue;
        int64_t count = count_piece(text, token->folded, w)->count;
        if (count > out[commonest_word]) out[commonest_word] = count;
    }
}

static void count_ngrams(Text *text, int64_t *out) {
    uint64_t power = 1;
    text->sums[0] = 0;
    for (int64_t w = 0; w < text->num_words; w++)
        text->sums[w + 1] = text->sums[w] * BASE + text->tokens[text->words[w]].folded;
    for (int n = 0; n < NGRAM; n++) power *= BASE;
    begin_counting(text, text->num_words);
    for (int64_t w = 0; w + NGRAM <= text->num_words; w++, out[ngrams]++)
        out[repeated_ngrams] += count_piece(text, mix(text->sums[w + NGRAM] - text->sums[w] * power), w)->count > 1;
}

/* Note at each word the sets it is in by itself, and the sizes of the notices and of the adverts that begin with it. */
static void find_general_phrases(Text *text, uint64_t language, Phrases *notices, Phrases *adverts) {
    notices->all = adverts->all = 0;
    for (int64_t w = 0; w < text->num_words; w++) {
        uint64_t key = 0;
        uint32_t found = BEGINNING;
        notices->sizes[w] = adverts->sizes[w] = 0;
        for (int n = 0; n < LONGEST_PHRASE && w + n < text->num_words && (found & BEGINNING); n++) {
            Token *token = text->tokens + text->words[w + n];
            key = key * BASE + token->folded;
            found = phrase_sets_of(&text->tables, key, 0);
            if (!n) token->sets = found | (language ? phrase_sets_of(&text->tables, key, language) : 0);
            notices->sizes[w] |= (uint32_t)((found & BOILERPLATE) != 0) << n;
            adverts->sizes[w] |= (uint32_t)((found & SPAM) != 0) << n;
        }
        notices->all |= notices->sizes[w];
        adverts->all |= adverts->sizes[w];
    }
}

/* Count the phrases that begin at each word, the longest first: one that others cover is none of its own. */
static void count_phrases(Phrases *phrases, int64_t num_words) {
    memset(phrases->hits, 0, num_words);
    if (!phrases->all) return;
    memset(phrases->covered, 0, num_words);
    for (int n = LONGEST_PHRASE; n > 0; n--) {
        uint32_t bit = 1u << (n - 1);
        if (!(phrases->all & bit)) continue;
        for (int64_t w = 0; w < num_words; w++)
            if (phrases->sizes[w] & bit) phrases->hits[w] += memchr(phrases->covered + w, 0, n) != NULL;
        for (int64_t w = 0; w < num_words; w++)
            if (phrases->sizes[w] & bit) memset(phrases->covered + w, 1, n);
    }
}

/* Where the line that begins at `start` ends, its end included. */
static int64_t end_of_line(const Text *text, int64_t start) {
    while (start < text->length && text->points[start] != '\n') start++;
    return start < text->length ? start + 1 : start;
}

/* Visible characters of the lines, and of the sentences of long lines, that hold notices, menus or adverts. */
static void count_frames(const Text *text, const Phrases *notices, const Phrases *adverts, int64_t *out) {
    const uint16_t *properties = text->properties;
    int64_t word = 0, num_notices = 0, num_adverts = 0;
    for (int64_t line = 0, line_end; line < text->length; line = line_end) {
        line_end = end_of_line(text, line);
        int is_long = line_end - line > LONGEST_NOTICE;
        for (int64_t start = line, end; start < line_end; start = end) {
            int64_t separators = 0, seen = 0, num_words = 0, here = 0, adverts_here = 0;
            for (end = start; end < line_end;) {
                separators += (properties[end] & SEPARATOR) != 0;
                seen += class_of(properties[end]) != SPACE;
                if ((properties[end++] & SENTENCE_END) && is_long) break;
            }
            for (; word < text->num_words && text->tokens[text->words[word]].start < end; word++, num_words++)
                here += notices->hits[word], adverts_here += adverts->hits[word];
            /* Items of a few words between marks; a Markdown table's row begins with one. */
            here += separators >= MENU_SEPARATORS && num_words > 0 && num_words <= MENU_WORDS * (separators + 1) &&
                    !(properties[start] & SEPARATOR);
            num_notices += here;
            num_adverts += adverts_here;
            if (here) out[notice_characters] += seen;
            if (adverts_here) out[advert_characters] += seen;
        }
    }
    if (num_notices < LEAST_PHRASES) out[notice_characters] = 0;
    if (num_adverts < LEAST_PHRASES) out[advert_characters] = 0;
}

static int new_phrases(Phrases *phrases, int64_t most) {
    *phrases = (Phrases){malloc(most * sizeof(uint32_t)), malloc(most), malloc(most), 0};
    return phrases->sizes && phrases->hits && phrases->covered;
}

static void free_phrases(Phrases *phrases) {
    free(phrases->sizes);
    free(phrases->hits);
    free(phrases->covered);
}

/* Measure [D, NUM_FIELDS] of D texts of valid UTF-8. languages: int64 [D], 0 for one without lists. 1 if out of memory. */
int measure_general(const uint8_t *bytes, const int64_t *offsets, const int64_t *languages, int64_t num_documents,
                    const Tables *tables, int64_t *out) {
    int64_t longest = longest_text(offsets, num_documents);
    Text *text = new_text(*tables, longest);
    Phrases notices, adverts;
    int failed = !new_phrases(&notices, longest + 1) | !new_phrases(&adverts, longest + 1) | !text;
    if (!failed) memset(out, 0, num_documents * NUM_FIELDS * sizeof(int64_t));
    for (int64_t d = 0; d < num_documents && !failed; d++, out += NUM_FIELDS) {
        read_text(text, bytes + offsets[d], offsets[d + 1] - offsets[d]);
        find_general_phrases(text, languages[d], &notices, &adverts);
        count_phrases(&notices, text->num_words);
        count_phrases(&adverts, text->num_words);
        count_characters(text, out);
        count_lines(text, out);
        count_words(text, out);
        count_ngrams(text, out);
        count_frames(text, &notices, &adverts, out);
    }
    free_phrases(&notices);
    free_phrases(&adverts);
    free_text(text);
    return failed;
}
