#include "text.h"

#include <stdlib.h>
#include <string.h>

static int64_t power_of_two_above(int64_t number) {
    int64_t power = 64;
    while (power < number) power *= 2;
    return power;
}

/* Room for texts of at most `most_bytes` bytes; NULL where there is no memory. */
Text *new_text(Tables tables, int64_t most_bytes) {
    Text *text = calloc(1, sizeof(Text));
    if (!text) return NULL;
    int64_t most = most_bytes + 1;
    text->tables = tables;
    text->points = malloc(most * sizeof(uint32_t));
    text->properties = malloc(most * sizeof(uint16_t));
    text->tokens = malloc(most * sizeof(Token));
    text->words = malloc(most * sizeof(int64_t));
    text->lines = malloc(most * sizeof(Line));
    text->sums = malloc((most + 1) * sizeof(uint64_t));
    text->num_slots = power_of_two_above(2 * most);
    text->slots = calloc(text->num_slots, sizeof(Slot));
    if (text->points && text->properties && text->tokens && text->words && text->lines && text->sums && text->slots)
        return text;
    free_text(text);
    return NULL;
}

void free_text(Text *text) {
    if (!text) return;
    free(text->points);
    free(text->properties);
    free(text->tokens);
    free(text->words);
    free(text->lines);
    free(text->sums);
    free(text->slots);
    free(text);
}

/* Bytes of the longest of D texts. */
int64_t longest_text(const int64_t *offsets, int64_t num_documents) {
    int64_t longest = 0;
    for (int64_t d = 0; d < num_documents; d++)
        if (offsets[d + 1] - offsets[d] > longest) longest = offsets[d + 1] - offsets[d];
    return longest;
}

static void close_line(Text *text, Line *line, int64_t end, int64_t byte_end) {
    int64_t start = line->start;
    while (start < end && class_of(text->properties[start]) == SPACE) start++;
    if (start == end) {
        text->blank_lines++;
        return;
    }
    while (class_of(text->properties[end - 1]) == SPACE) end--;
    line->start = start;
    line->end = end;
    line->byte_end = byte_end;
    uint64_t hash = 0;
    for (int64_t i = start; i < end; i++) hash = (hash ^ text->points[i]) * BASE;
    line->hash = mix(hash);
    line->sets = 0;
    text->lines[text->num_lines++] = *line;
}

static void read_points(Text *text, const uint8_t *bytes, int64_t num_bytes) {
    const uint8_t *at = bytes, *end = bytes + num_bytes;
    const uint16_t *properties = text->tables.properties;
    int64_t length = 0;
    Line line = {.start = 0, .byte_start = 0};
    text->num_lines = text->blank_lines = text->newlines = 0;
    while (at < end) {
        int64_t here = at - bytes;
        uint32_t point = decode(&at);
        text->points[length] = point;
        text->properties[length] = properties[point];
        if (point == '\n') {
            close_line(text, &line, length, here);
            line.start = length + 1;
            line.byte_start = here + 1;
            text->newlines++;
        }
        length++;
    }
    if (line.start < length) close_line(text, &line, length, num_bytes);
    text->length = length;
}

/* Where the word that begins at `i` ends. */
static int64_t end_of_word(const Text *text, int64_t i, int64_t end) {
    const uint16_t *properties = text->properties;
    int64_t j = i + 1;
    while (j < end && in_word(properties[j])) {
        int letter = class_of(properties[j]) == LETTER;
        if (letter && ((properties[j] | properties[j - 1]) & ALONE)) break;
        j++;
    }
    return j;
}

static void read_tokens(Text *text) {
    const uint16_t *properties = text->properties;
    const uint32_t *points = text->points, *lower = text->tables.lower;
    text->num_tokens = text->num_words = 0;
    for (int64_t l = 0; l < text->num_lines; l++) {
        Line *line = text->lines + l;
        line->first_token = text->num_tokens;
        line->num_words = line->separators = 0;
        for (int64_t i = line->start; i < line->end;) {
            if (class_of(properties[i]) == SPACE) {
                i++;
                continue;
            }
            Token token = {.start = i, .is_word = in_word(properties[i]), .line = (int32_t)l};
            uint64_t raw = BASE, folded = BASE;
            if (token.is_word) {
                token.end = end_of_word(text, i, line->end);
                for (; i < token.end; i++) {
                    raw = (raw ^ points[i]) * BASE;
                    folded = (folded ^ lower[points[i]]) * BASE;
                    folded ^= folded >> 29;
                    raw ^= raw >> 29;
                }
                text->words[text->num_words++] = text->num_tokens;
                line->num_words++;
            } else {
                int64_t j = i + 1;
                while (j < line->end && points[j] == points[i]) j++;
                /* In a menu they have spaces around them; quotation marks and tags have not. */
                line->separators += (properties[i] & SEPARATOR) && i > line->start && j < line->end &&
                                    class_of(properties[i - 1]) == SPACE && class_of(properties[j]) == SPACE;
                raw = folded = (raw ^ points[i] ^ ((uint64_t)(j - i) << 24)) * BASE;
                token.end = i = j;
            }
            token.raw = mix(raw);
            token.folded = mix(folded);
            text->tokens[text->num_tokens++] = token;
        }
        line->num_tokens = text->num_tokens - line->first_token;
    }
}

/* Take a text apart. */
void read_text(Text *text, const uint8_t *bytes, int64_t num_bytes) {
    read_points(text, bytes, num_bytes);
    read_tokens(text);
}

/* The sets that a phrase is in: of every language, or of one. */
uint32_t phrase_sets_of(const Tables *tables, uint64_t key, uint64_t language) {
    key = mix(key + language * BASE);
    uint64_t mask = (uint64_t)tables->phrase_slots - 1;
    for (uint64_t at = key & mask; tables->phrase_keys[at]; at = (at + 1) & mask)
        if (tables->phrase_keys[at] == key) return tables->phrase_sets[at];
    return 0;
}

/* Note in each line the sets of the phrases that stand in it (words of one line in a row), and in each word its own. */
void find_phrases(Text *text, uint64_t language) {
    for (int64_t w = 0; w < text->num_words; w++) {
        Token *first = text->tokens + text->words[w];
        Line *line = text->lines + first->line;
        uint64_t key = 0;
        uint32_t found = BEGINNING;
        for (int64_t next = w; next < text->num_words && (found & BEGINNING); next++) {
            const Token *last = text->tokens + text->words[next];
            if (last->line != first->line) break;
            key = key * BASE + last->folded;
            found = phrase_sets_of(&text->tables, key, 0);
            if (language) found |= phrase_sets_of(&text->tables, key, language);
            if (next == w) first->sets = found;
            line->sets |= found;
        }
    }
}
