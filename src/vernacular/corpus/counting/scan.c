/* One pass over each text of a batch: everything in fields.h is counted.
 *
 * Gopher's measures follow arXiv:2112.11446, appendix A; C4's follow JMLR 21(140), section 2.2; FineWeb's follow
 * arXiv:2406.17557, section 3.6.
 */
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum {
#define FIELD(name) name,
#include "fields.h"
#undef FIELD
    NUM_FIELDS
};

enum { LONGEST_WORD = 1000, LEAST_WORDS = 3, MENU_SEPARATORS = 2 }; /* C4's; ours */
static const double MENU_WORDS = 3.5;

static int ends_with_ellipsis(const Text *text, const Line *line) {
    const uint32_t *points = text->points;
    int64_t end = line->end;
    if (points[end - 1] == 0x2026) return 1;
    return end - line->start >= 3 && points[end - 1] == '.' && points[end - 2] == '.' && points[end - 3] == '.';
}

/* Whether a line ends a sentence; quotation marks and brackets may follow the mark. */
static int ends_sentence(const Text *text, const Line *line, int closing) {
    int64_t i = line->end - 1;
    if (closing)
        while (i > line->start && (text->properties[i] & CLOSING) && !(text->properties[i] & TERMINAL)) i--;
    return (text->properties[i] & TERMINAL) != 0;
}

static void count_characters(const Text *text, int64_t *out) {
    const uint16_t *properties = text->properties;
    const uint32_t *points = text->points;
    int64_t kinds[16] = {0};
    int64_t run = 0;
    for (int64_t i = 0; i < text->length; i++) {
        uint16_t property = properties[i];
        uint32_t point = points[i];
        int kind = class_of(property);
        kinds[kind]++;
        out[uppercase] += (property & UPPER) != 0;
        out[lowercase] += (property & LOWER) != 0;
        uint16_t before = i ? properties[i - 1] : SPACE;
        int extends = kind == MARK || kind == JOINER;
        int tied = kind == LETTER && i && ((before & LINKER) || (points[i - 1] == 0x200D && i > 1 &&
                                                                  (properties[i - 2] & LINKER)));
        out[graphemes] += !tied && (!extends || !i);
        if (point < 0x80) {
            out[hashes] += point == '#';
            out[braces] += point == '{';
            if (point == '.') {
                if (++run == 3) out[ellipses]++, run = 0;
            } else {
                run = 0;
            }
            if (point == '?' && i + 1 < text->length) {
                int left = class_of(before), right = class_of(properties[i + 1]);
                out[orphans] += (left == LETTER || left == MARK) && (right == LETTER || right == MARK);
            }
        } else {
            run = 0;
            out[ellipses] += point == 0x2026;
            out[lost] += point == 0xFFFD || point == 0x25CC;
            if (kind == MARK && point >= 0x0900 && point < 0x0E00) {
                int left = class_of(before);
                out[orphans] += left == SPACE || left == PUNCTUATION;
            }
        }
    }
    out[characters] = text->length;
    out[visible] = text->length - kinds[SPACE];
    out[letters] = kinds[LETTER];
    out[marks] = kinds[MARK];
    out[joiners] = kinds[JOINER];
    out[decimals] = kinds[DIGIT];
    out[punctuation] = kinds[PUNCTUATION];
    out[symbols] = kinds[SYMBOL];
    out[lost] += kinds[PRIVATE] + kinds[UNASSIGNED];
}

/* What the characters of one word say. */
static void count_word(const Text *text, const Token *token, int64_t *out) {
    const uint16_t *properties = text->properties;
    int letter = 0, upper = 0, lower = 0;
    for (int64_t i = token->start; i < token->end; i++) {
        uint16_t property = properties[i];
        int kind = class_of(property);
        letter |= kind == LETTER;
        upper += (property & UPPER) != 0;
        lower += (property & LOWER) != 0;
        int tied = kind == LETTER && i > token->start &&
                   ((properties[i - 1] & LINKER) ||
                    (text->points[i - 1] == 0x200D && i - 1 > token->start && (properties[i - 2] & LINKER)));
        out[word_graphemes] += !tied && kind != MARK && kind != JOINER;
    }
    out[word_characters] += token->end - token->start;
    out[words_with_letter] += letter;
    out[uppercase_words] += upper >= 2 && !lower;
    out[capitalised_words] += upper == 1 && (properties[token->start] & UPPER);
}

static void count_words(Text *text, int64_t *out) {
    out[words] = text->num_words;
    out[tokens] = text->num_tokens;
    begin_counting(text, text->num_words);
    for (int64_t w = 0; w < text->num_words; w++) {
        const Token *token = text->tokens + text->words[w];
        count_word(text, token, out);
        Slot *slot = count_piece(text, token->folded, w);
        if (slot->count == 1) out[distinct_words]++, out[once_words]++;
        if (slot->count == 2) out[once_words]--;
        if (token->sets & STOP_WORD) {
            out[stop_words]++;
            out[distinct_stop_words] += slot->count == 1;
        }
    }
    int64_t gathered = 0;
    for (int64_t i = 0; i < text->length; i++) {
        gathered = class_of(text->properties[i]) == SPACE ? 0 : gathered + 1;
        if (gathered > out[longest_word]) out[longest_word] = gathered;
    }
}

/* Sentences of a line: marks that end one and stand before a space, a closing mark or the line's end; at least one. */
static int64_t sentences_of(const Text *text, const Line *line) {
    const uint16_t *properties = text->properties;
    int64_t found = 0, last = line->start;
    for (int64_t i = line->start; i < line->end; i++) {
        if (!(properties[i] & TERMINAL)) continue;
        int64_t after = i + 1;
        while (after < line->end && (properties[after] & (TERMINAL | CLOSING))) after++;
        if (after == line->end || class_of(properties[after]) == SPACE || (properties[i] & FULL_STOP)) {
            found++;
            last = after;
        }
        i = after - 1;
    }
    return found + (last < line->end);
}

static int is_menu(const Text *text, const Line *line) {
    return line->separators >= MENU_SEPARATORS && line->num_words > 0 &&
           line->num_words <= MENU_WORDS * (line->separators + 1) && !(text->properties[line->start] & SEPARATOR) &&
           !(text->properties[line->end - 1] & SEPARATOR);
}

/* C4's rules for one line. */
static void count_prose(const Text *text, const Line *line, int64_t num_sentences, int64_t *out) {
    int64_t gathered = 0, pieces = 0, brace = 0;
    for (int64_t i = line->start; i < line->end; i++) {
        if (class_of(text->properties[i]) == SPACE) {
            gathered = 0;
            continue;
        }
        if (!gathered) pieces++;
        if (++gathered > LONGEST_WORD) return;
        brace |= text->points[i] == '{';
    }
    if (!ends_sentence(text, line, 1) || ends_with_ellipsis(text, line)) {
        uint32_t last = text->points[line->end - 1];
        if (last != '"' && last != '\'') return; /* C4 takes any closing quotation mark for the end of a sentence */
    }
    /* A script without spaces has no words between them; there its letters are counted. */
    if (pieces < LEAST_WORDS && line->num_words < 2 * LEAST_WORDS) return;
    if (line->sets & LOREM) out[filler]++;
    if (line->sets & SCRIPTING) return;
    out[prose_braces] += brace;
    if (line->sets & POLICY) return;
    out[prose_lines]++;
    out[prose_sentences] += num_sentences;
}

static void count_lines(Text *text, int64_t *out) {
    out[newlines] = text->newlines;
    out[lines] = text->num_lines;
    out[blank_lines] = text->blank_lines;
    begin_counting(text, text->num_lines);
    for (int64_t l = 0; l < text->num_lines; l++) {
        const Line *line = text->lines + l;
        int64_t length = line->end - line->start, num_sentences = sentences_of(text, line);
        out[line_characters] += length;
        out[short_lines_10] += length <= 10;
        out[short_lines_20] += length <= 20;
        out[short_lines_30] += length <= 30;
        out[long_lines_200] += length >= 200;
        out[terminal_lines] += ends_sentence(text, line, 0);
        out[bullet_lines] += (text->properties[line->start] & BULLET) != 0;
        out[ellipsis_lines] += ends_with_ellipsis(text, line);
        out[one_word_lines] += line->num_words == 1;
        out[menu_lines] += is_menu(text, line);
        out[boilerplate_lines] += (line->sets & BOILERPLATE) != 0;
        out[profanities] += (line->sets & PROFANITY) != 0;
        out[sentences] += num_sentences;
        if (count_piece(text, line->hash, l)->count > 1) {
            out[repeated_lines]++;
            out[repeated_line_characters] += length;
        }
        count_prose(text, line, num_sentences, out);
    }
}

/* Paragraphs are lines between blank ones. */
static void count_paragraphs(Text *text, int64_t *out) {
    begin_counting(text, text->num_lines);
    for (int64_t l = 0; l < text->num_lines;) {
        uint64_t hash = 0;
        int64_t first = l, length = 0;
        do {
            hash = (hash ^ text->lines[l].hash) * BASE;
            length += text->lines[l].end - text->lines[l].start;
            l++;
        } while (l < text->num_lines && text->lines[l].byte_start == text->lines[l - 1].byte_end + 1);
        out[paragraphs]++;
        if (count_piece(text, mix(hash), first)->count > 1) {
            out[repeated_paragraphs]++;
            out[repeated_paragraph_characters] += length + (l - first - 1);
        }
    }
}

static uint64_t ngram(const Text *text, int64_t start, int64_t size, uint64_t power) {
    return mix(text->sums[start + size] - text->sums[start] * power);
}

/* Characters of the commonest n-gram, as often as it stands; 0 where none stands twice. */
static int64_t commonest_ngram(Text *text, int64_t size, uint64_t power) {
    Slot best = {.count = 1};
    begin_counting(text, text->num_tokens);
    for (int64_t i = 0; i + size <= text->num_tokens; i++) {
        Slot *slot = count_piece(text, ngram(text, i, size, power), i);
        if (slot->count > best.count || (slot->count == best.count && best.count > 1 && slot->first < best.first))
            best = *slot;
    }
    if (best.count < 2) return 0;
    int64_t length = size - 1;
    for (int64_t i = best.first; i < best.first + size; i++) length += text->tokens[i].end - text->tokens[i].start;
    return length * best.count;
}

/* Characters of the n-grams that stood before, none counted twice. */
static int64_t repeated_ngrams(Text *text, int64_t size, uint64_t power) {
    int64_t total = 0;
    begin_counting(text, text->num_tokens);
    for (int64_t i = 0; i + size <= text->num_tokens;) {
        if (count_piece(text, ngram(text, i, size, power), i)->count > 1) {
            for (int64_t end = i + size; i < end; i++) total += text->tokens[i].end - text->tokens[i].start;
        } else {
            i++;
        }
    }
    return total;
}

static void count_ngrams(Text *text, int64_t *out) {
    text->sums[0] = 0;
    for (int64_t i = 0; i < text->num_tokens; i++) text->sums[i + 1] = text->sums[i] * BASE + text->tokens[i].raw;
    uint64_t power = BASE;
    for (int64_t size = 2; size <= 10; size++) {
        power *= BASE;
        if (size < 5)
            out[top_2_grams + size - 2] = commonest_ngram(text, size, power);
        else
            out[repeated_5_grams + size - 5] = repeated_ngrams(text, size, power);
    }
}

/* Count [D, NUM_FIELDS] of D texts of valid UTF-8. languages: int64 [D], 0 for one without lists. 1 if out of memory. */
int scan(const uint8_t *bytes, const int64_t *offsets, const int64_t *languages, int64_t num_documents,
         const Tables *tables, int64_t *out) {
    Text *text = new_text(*tables, longest_text(offsets, num_documents));
    if (!text) return 1;
    memset(out, 0, num_documents * NUM_FIELDS * sizeof(int64_t));
    for (int64_t d = 0; d < num_documents; d++, out += NUM_FIELDS) {
        read_text(text, bytes + offsets[d], offsets[d + 1] - offsets[d]);
        find_phrases(text, languages[d]);
        count_characters(text, out);
        count_words(text, out);
        count_lines(text, out);
        count_paragraphs(text, out);
        count_ngrams(text, out);
    }
    free_text(text);
    return 0;
}

/* The lines of D texts: columns [capacity, 10] of document, first byte, byte after the last, words, characters, sets of
 * phrases, hash, whether it is a menu, whether it ends a sentence, whether it is prose by C4's rules. `found`: how many
 * lines there are. 1 if out of memory. */
int scan_lines(const uint8_t *bytes, const int64_t *offsets, const int64_t *languages, int64_t num_documents,
               const Tables *tables, int64_t capacity, int64_t *out, int64_t *found) {
    Text *text = new_text(*tables, longest_text(offsets, num_documents));
    if (!text) return 1;
    int64_t count = 0;
    for (int64_t d = 0; d < num_documents; d++) {
        read_text(text, bytes + offsets[d], offsets[d + 1] - offsets[d]);
        find_phrases(text, languages[d]);
        for (int64_t l = 0; l < text->num_lines && count < capacity; l++, count++) {
            const Line *line = text->lines + l;
            int64_t *row = out + 10 * count, counted[NUM_FIELDS] = {0};
            count_prose(text, line, 1, counted);
            row[0] = d;
            row[1] = line->byte_start;
            row[2] = line->byte_end;
            row[3] = line->num_words;
            row[4] = line->end - line->start;
            row[5] = line->sets;
            row[6] = (int64_t)line->hash;
            row[7] = is_menu(text, line);
            row[8] = ends_sentence(text, line, 1);
            row[9] = counted[prose_lines];
        }
    }
    free_text(text);
    *found = count;
    return 0;
}

/* The keys of D phrases, each text one phrase: uint64 [D, most_words], of its first word, its first two and so on; 0
 * beyond its end. languages: int64 [D], 0 for phrases of all. 1 if out of memory. */
int phrase_keys(const uint8_t *bytes, const int64_t *offsets, const int64_t *languages, int64_t num_documents,
                const Tables *tables, int64_t most_words, uint64_t *keys) {
    Text *text = new_text(*tables, longest_text(offsets, num_documents));
    if (!text) return 1;
    memset(keys, 0, num_documents * most_words * sizeof(uint64_t));
    for (int64_t d = 0; d < num_documents; d++, keys += most_words) {
        read_text(text, bytes + offsets[d], offsets[d + 1] - offsets[d]);
        uint64_t key = 0;
        for (int64_t w = 0; w < text->num_words && w < most_words; w++) {
            key = key * BASE + text->tokens[text->words[w]].folded;
            keys[w] = mix(key + (uint64_t)languages[d] * BASE);
        }
    }
    free_text(text);
    return 0;
}
