// JSON Lines to columns: the wanted fields of each line's object, as UTF-8, in one pass over the bytes.
// A line is read only where every reader of JSON would read the same; any other is left to the caller, which says what
// is wrong with it or reads it by more patient means.

#include <stdint.h>
#include <string.h>
#ifdef __AVX512VBMI2__
#include <immintrin.h>
#endif

enum { DEEPEST = 64, LONGEST_NUMBER = 300, LONGEST_INTEGER = 18, BLOCK = 32 };
enum { WIDE = 64, LOOKED_AT = WIDE + 3, ESCAPE = 6 };
enum { TEXT, LANGUAGE, NAME, FIELDS };

// A column of strings. Its bytes have room for the whole block: no string is longer in UTF-8 than it is in JSON.
typedef struct {
    uint8_t *bytes;
    int64_t *ends;   // [rows + 1]
    uint8_t *valid;  // [rows]; 0 where there is none
} Column;

static int hex_digit(uint8_t byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

// What two hexadecimal digits stand for, or -1, by the two bytes as the machine reads them.
static int16_t PAIRS[1 << 16];

// Before the first line is read.
int prepare(void) {
    for (int first = 0; first < 256; first++) {
        for (int second = 0; second < 256; second++) {
            uint8_t bytes[2] = {(uint8_t)first, (uint8_t)second};
            uint16_t place;
            memcpy(&place, bytes, sizeof place);
            int high = hex_digit(bytes[0]), low = hex_digit(bytes[1]);
            PAIRS[place] = (int16_t)(high < 0 || low < 0 ? -1 : high << 4 | low);
        }
    }
    return 0;
}

// Four hexadecimal digits, or something negative.
static inline int32_t four_digits(const uint8_t *at) {
    uint16_t pairs[2];
    memcpy(pairs, at, sizeof pairs);
    return PAIRS[pairs[0]] * 256 | PAIRS[pairs[1]];
}

static inline uint8_t *encoded(uint32_t code, uint8_t *out) {
    if (code < 0x80) {
        *out++ = (uint8_t)code;
    } else if (code < 0x800) {
        *out++ = (uint8_t)(0xC0 | code >> 6);
        *out++ = (uint8_t)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (uint8_t)(0xE0 | code >> 12);
        *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        *out++ = (uint8_t)(0x80 | (code & 0x3F));
    } else {
        *out++ = (uint8_t)(0xF0 | code >> 18);
        *out++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
        *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        *out++ = (uint8_t)(0x80 | (code & 0x3F));
    }
    return out;
}

// What a backslash begins; NULL where it is no escape, or half a surrogate pair.
static inline const uint8_t *escape(const uint8_t *at, const uint8_t *end, uint8_t **out) {
    if (end - at < 2) return NULL;
    uint8_t plain;
    switch (at[1]) {
    case 'u': break;
    case 'n': plain = '\n'; goto one;
    case 't': plain = '\t'; goto one;
    case 'r': plain = '\r'; goto one;
    case 'b': plain = '\b'; goto one;
    case 'f': plain = '\f'; goto one;
    case '"': case '\\': case '/': plain = at[1]; goto one;
    default: return NULL;
    one:
        *(*out)++ = plain;
        return at + 2;
    }
    if (end - at < 6) return NULL;
    int32_t code = four_digits(at + 2);
    if (code < 0) return NULL;
    at += 6;
    if (code >= 0xD800 && code < 0xE000) {
        if (code >= 0xDC00 || end - at < 6 || at[0] != '\\' || at[1] != 'u') return NULL;
        int32_t low = four_digits(at + 2);
        if (low < 0xDC00 || low >= 0xE000) return NULL;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        at += 6;
    }
    *out = encoded((uint32_t)code, *out);
    return at;
}

// A character of two to four bytes, copied; NULL where the bytes are not UTF-8.
static inline const uint8_t *multibyte(const uint8_t *at, const uint8_t *end, uint8_t **out) {
    int length = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
    if (at[0] < 0xC2 || at[0] > 0xF4 || end - at < length) return NULL;
    for (int i = 1; i < length; i++)
        if ((at[i] & 0xC0) != 0x80) return NULL;
    // Overlong forms, surrogates, and what lies beyond U+10FFFF.
    if (at[0] == 0xE0 && at[1] < 0xA0) return NULL;
    if (at[0] == 0xED && at[1] > 0x9F) return NULL;
    if (at[0] == 0xF0 && at[1] < 0x90) return NULL;
    if (at[0] == 0xF4 && at[1] > 0x8F) return NULL;
    for (int i = 0; i < length; i++) *(*out)++ = at[i];
    return at + length;
}

// Whether the next BLOCK bytes are ASCII and stand for themselves.
static inline int all_plain(const uint8_t *at) {
    uint8_t other = 0;
    for (int i = 0; i < BLOCK; i++) other |= (uint8_t)((at[i] < 0x20) | (at[i] > 0x7F) | (at[i] == '"') | (at[i] == '\\'));
    return !other;
}

#ifdef __AVX512VBMI2__
// ASCII and four-digit escapes of the next WIDE bytes, decoded; returns how many bytes were read, up to the first that is
// neither, or stands for half a pair or for ASCII. LOOKED_AT bytes are there, and `out` has room for WIDE.
//
// Of an escape \\uabcd three of its six places become the three bytes of its character. What each place needs are the
// digits two and three places on: E0 | a, then 80 | b << 2 | c >> 2, then 80 | (c & 3) << 4 | d. Where the character
// takes two bytes the first is left out, and the second begins with C0.
static inline int64_t wide(const uint8_t *at, uint8_t **out) {
    __m512i bytes = _mm512_loadu_si512(at), second = _mm512_loadu_si512(at + 2), third = _mm512_loadu_si512(at + 3);
    uint64_t begins = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('\\'));
    uint64_t quotes = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('"'));
    // Signed: what is above 7F is below 20 too.
    uint64_t others = _mm512_cmplt_epi8_mask(bytes, _mm512_set1_epi8(0x20)) | quotes;
    uint64_t named = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(at + 1), _mm512_set1_epi8('u'));
    __m512i lower = _mm512_or_si512(second, _mm512_set1_epi8(0x20));
    uint64_t decimal = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(second, _mm512_set1_epi8('0')), _mm512_set1_epi8(10));
    uint64_t letter = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(lower, _mm512_set1_epi8('a')), _mm512_set1_epi8(6));
    uint64_t digits = decimal | letter;  // of the byte two places on
    digits &= digits >> 1 & digits >> 2 & digits >> 3;

    __m512i low = _mm512_set1_epi8(0x0F), nine = _mm512_set1_epi8(9), above = _mm512_set1_epi8(0x40);
    __m512i a = _mm512_and_si512(second, low), b = _mm512_and_si512(third, low);
    a = _mm512_mask_add_epi8(a, _mm512_test_epi8_mask(second, above), a, nine);
    b = _mm512_mask_add_epi8(b, _mm512_test_epi8_mask(third, above), b, nine);
    // At a backslash a and b are the first two digits: 08 and above take three bytes, D8 to DF are halves of pairs.
    __m512i high = _mm512_or_si512(_mm512_slli_epi16(a, 4), b);
    uint64_t three = _mm512_cmpge_epu8_mask(high, _mm512_set1_epi8(8));
    __m512i eights = _mm512_and_si512(high, _mm512_set1_epi8((char)0xF8));
    uint64_t half = _mm512_cmpeq_epi8_mask(eights, _mm512_set1_epi8((char)0xD8));
    // One place on they are the second and the third: 00 to 07 is ASCII where the first was 0 as well.
    uint64_t ascii = _mm512_cmplt_epu8_mask(high, _mm512_set1_epi8(8)) >> 1 & ~three;
    uint64_t beyond = begins & ~(uint64_t)0 << (WIDE - ESCAPE + 1);
    uint64_t refused = others | beyond | (begins & ~(named & digits & ~half & ~ascii));
    int read = refused ? (int)__builtin_ctzll(refused) : WIDE;
    if (!read) return 0;
    uint64_t taken = ~(uint64_t)0 >> (WIDE - read);
    begins &= taken;

    uint64_t covered = begins | begins << 1 | begins << 2 | begins << 3 | begins << 4 | begins << 5;
    __m512i two = _mm512_set1_epi8(3), later = _mm512_set1_epi8((char)0x80);
    __m512i first = _mm512_or_si512(_mm512_set1_epi8((char)0xE0), a);
    __m512i middle = _mm512_or_si512(_mm512_slli_epi16(a, 2), _mm512_and_si512(_mm512_srli_epi16(b, 2), two));
    __m512i last = _mm512_or_si512(_mm512_slli_epi16(_mm512_and_si512(a, two), 4), b);
    bytes = _mm512_mask_mov_epi8(bytes, begins & three, first);
    bytes = _mm512_mask_mov_epi8(bytes, begins << 1, _mm512_or_si512(middle, later));
    bytes = _mm512_mask_add_epi8(bytes, (begins & ~three) << 1, bytes, above);
    bytes = _mm512_mask_mov_epi8(bytes, begins << 2, _mm512_or_si512(last, later));
    uint64_t kept = (taken & ~covered) | (begins & three) | begins << 1 | begins << 2;
    _mm512_storeu_si512(*out, _mm512_maskz_compress_epi8(kept, bytes));
    *out += __builtin_popcountll(kept);
    return read;
}
#endif

// A string from behind its opening quote, decoded to `out`; returns what stands behind its closing quote.
static const uint8_t *string(const uint8_t *at, const uint8_t *end, uint8_t **to) {
    uint8_t *out = *to;
    int run = 0;
    while (at < end) {
        uint8_t byte = *at;
        if (byte == '\\') {
            const uint8_t *before = at;
#ifdef __AVX512VBMI2__
            for (int64_t read; end - at >= LOOKED_AT && (read = wide(at, &out)); at += read) {}
#endif
            while (end - at >= 6 && at[0] == '\\' && at[1] == 'u') {  // most of what is escaped, where anything is
                int32_t code = four_digits(at + 2);
                if (code < 0x800 || (code >= 0xD800 && code < 0xE000)) break;
                out[0] = (uint8_t)(0xE0 | code >> 12);
                out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
                out[2] = (uint8_t)(0x80 | (code & 0x3F));
                out += 3;
                at += 6;
            }
            if (at == before && !(at = escape(at, end, &out))) return NULL;
            run = 0;
        } else if (byte == '"') {
            *to = out;
            return at + 1;
        } else if (byte >= 0x80) {
            if (!(at = multibyte(at, end, &out))) return NULL;
            run = 0;
        } else if (byte < 0x20) {
            return NULL;
        } else {
            *out++ = byte;
            at++;
            if (++run < 8) continue;
            for (; end - at >= BLOCK && all_plain(at); at += BLOCK, out += BLOCK) memcpy(out, at, BLOCK);
            run = 0;
        }
    }
    return NULL;
}

static inline const uint8_t *past_space(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r')) at++;
    return at;
}

static const uint8_t *digits(const uint8_t *at, const uint8_t *end) {
    const uint8_t *begin = at;
    while (at < end && *at >= '0' && *at <= '9') at++;
    return at > begin ? at : NULL;
}

// A number; `whole` says whether it is an integer.
static const uint8_t *number(const uint8_t *at, const uint8_t *end, int *whole) {
    const uint8_t *begin = at;
    if (*at == '-') at++;
    if (at < end && *at == '0') at++;
    else if (!(at = digits(at, end))) return NULL;
    *whole = 1;
    if (at < end && *at == '.') {
        *whole = 0;
        if (!(at = digits(at + 1, end))) return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        *whole = 0;
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        if (!(at = digits(at, end))) return NULL;
    }
    return at - begin > LONGEST_NUMBER ? NULL : at;
}

static const uint8_t *word(const uint8_t *at, const uint8_t *end) {
    static const char *const WORDS[] = {"null", "true", "false"};
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(WORDS[i]);
        if ((size_t)(end - at) >= length && !memcmp(at, WORDS[i], length)) return at + length;
    }
    return NULL;
}

// Any value, passed over; strings in it are decoded to `scratch` and so checked.
static const uint8_t *skipped(const uint8_t *at, const uint8_t *end, uint8_t *scratch, int depth) {
    uint8_t *out = scratch;
    int whole;
    if (at == end || depth > DEEPEST) return NULL;
    if (*at == '"') return string(at + 1, end, &out);
    if (*at == '-' || (*at >= '0' && *at <= '9')) return number(at, end, &whole);
    if (*at != '{' && *at != '[') return word(at, end);
    int object = *at == '{';
    uint8_t closing = object ? '}' : ']';
    at = past_space(at + 1, end);
    if (at < end && *at == closing) return at + 1;
    for (;;) {
        if (object) {
            if (at == end || *at != '"' || !(at = string(at + 1, end, &out))) return NULL;
            out = scratch;
            at = past_space(at, end);
            if (at == end || *at != ':') return NULL;
            at = past_space(at + 1, end);
        }
        if (!(at = skipped(at, end, scratch, depth + 1))) return NULL;
        at = past_space(at, end);
        if (at == end) return NULL;
        if (*at == closing) return at + 1;
        if (*at != ',') return NULL;
        at = past_space(at + 1, end);
    }
}

// The value of a wanted field, as it is to stand in row `row` of its column.
static const uint8_t *wanted_value(const uint8_t *at, const uint8_t *end, int field, Column *column, int64_t row) {
    uint8_t *begin = column->bytes + column->ends[row], *out = begin;
    if (at == end) return NULL;
    if (*at == '"') {
        if (!(at = string(at + 1, end, &out))) return NULL;
        column->valid[row] = out > begin || field != NAME;
    } else if (field == TEXT) {
        return NULL;
    } else if (*at == 'n') {
        return word(at, end);
    } else if (field == NAME) {
        int whole = 0;
        const uint8_t *from = at;
        if (*at != '-' && (*at < '0' || *at > '9')) return NULL;
        if (!(at = number(at, end, &whole)) || !whole || *from == '-' || at - from > LONGEST_INTEGER) return NULL;
        memcpy(out, from, (size_t)(at - from));
        out += at - from;
        column->valid[row] = 1;
    } else {
        return NULL;
    }
    column->ends[row + 1] = out - column->bytes;
    return at;
}

// An object with its wanted fields as row `row`; 0 where the line is to be left.
static int object(const uint8_t *at, const uint8_t *end, const uint8_t *keys, const int64_t *key_ends, Column *columns,
                  int64_t row) {
    int seen[FIELDS] = {0};
    for (int field = 0; field < FIELDS; field++) {
        columns[field].ends[row + 1] = columns[field].ends[row];
        columns[field].valid[row] = 0;
    }
    at = past_space(at, end);
    if (at == end || *at != '{') return 0;
    at = past_space(at + 1, end);
    if (at == end || *at != '"') return 0;  // an empty object has no text
    for (;;) {
        // What is not wanted is decoded behind the text, where the rest of the block has room.
        uint8_t *scratch = columns[TEXT].bytes + columns[TEXT].ends[row + 1], *out = scratch;
        if (at == end || *at != '"' || !(at = string(at + 1, end, &out))) return 0;
        at = past_space(at, end);
        if (at == end || *at != ':') return 0;
        at = past_space(at + 1, end);
        int field = 0;
        for (; field < FIELDS; field++) {
            int64_t length = key_ends[field + 1] - key_ends[field];
            if (length && length == out - scratch && !memcmp(scratch, keys + key_ends[field], (size_t)length)) break;
        }
        if (field == FIELDS) at = skipped(at, end, scratch, 0);
        else if (seen[field]++) return 0;
        else at = wanted_value(at, end, field, &columns[field], row);
        if (!at) return 0;
        at = past_space(at, end);
        if (at == end) return 0;
        if (*at == '}') break;
        if (*at != ',') return 0;
        at = past_space(at + 1, end);
    }
    return past_space(at + 1, end) == end && columns[TEXT].valid[row];
}

static int blank(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == ' ' || (*at >= '\t' && *at <= '\r'))) at++;
    return at == end;
}

// Whole lines to rows, until `most` lines that are not blank are done. Lines of white space alone are passed over.
//   block     uint8 [size]
//   keys      uint8, and key_ends int64 [FIELDS + 1]: names of the wanted fields; an empty one is not wanted
//   bytes     [FIELDS] pointers; ends int64 [FIELDS, most + 1] and valid uint8 [FIELDS, most]: the columns
//   places    int64 [2, most]: of each row its number among the lines that are not blank, from 0, and among all, from 1
//   left      int64 [4, most]: of each line left the same, and where it begins and ends in the block
//   counts    int64 [5]: rows, lines left, lines not blank, all lines, bytes
int read_json_lines(const uint8_t *block, long size, const uint8_t *keys, const int64_t *key_ends, uint8_t **bytes,
                    int64_t *ends, uint8_t *valid, long most, int64_t *places, int64_t *left, int64_t *counts) {
    Column columns[FIELDS];
    for (int field = 0; field < FIELDS; field++) {
        columns[field] = (Column){bytes[field], ends + field * (most + 1), valid + field * most};
        columns[field].ends[0] = 0;
    }
    int64_t rows = 0, num_left = 0, records = 0, line = 0;
    const uint8_t *at = block, *behind = block + size;
    while (at < behind && records < most) {
        const uint8_t *newline = memchr(at, '\n', (size_t)(behind - at));
        const uint8_t *next = newline ? newline + 1 : behind, *end = newline ? newline : behind;
        if (end > at && end[-1] == '\r') end--;
        line++;
        if (!blank(at, end)) {
            if (object(at, end, keys, key_ends, columns, rows)) {
                places[rows] = records;
                places[most + rows++] = line;
            } else {
                left[num_left] = records;
                left[most + num_left] = line;
                left[2 * most + num_left] = at - block;
                left[3 * most + num_left++] = end - block;
            }
            records++;
        }
        at = next;
    }
    counts[0] = rows, counts[1] = num_left, counts[2] = records, counts[3] = line, counts[4] = at - block;
    return 0;
}
