/* What the family `general` measures of a text (corpus/measures.py), in this order: int64 each. Python reads the names. */

FIELD(graphemes)
FIELD(visible)                  /* code points that are no space */
FIELD(written)                  /* letters, marks and joiners */
FIELD(decimals)                 /* digits and other numerals */
FIELD(symbols)
FIELD(broken)                   /* what no intact text has: replacements, private use, marks without a base, a?b */
FIELD(words)
FIELD(word_graphemes)
FIELD(spelt_words)              /* that do not begin with a digit */
FIELD(distinct_words)
FIELD(commonest_word)           /* how often it stands; stop words of any language and single letters aside */
FIELD(stop_words)               /* of the document's language */
FIELD(ngrams)                   /* of five words */
FIELD(repeated_ngrams)          /* that stood before */
FIELD(line_characters)
FIELD(repeated_line_characters) /* of lines that stood before */
FIELD(notice_characters)        /* visible ones of lines (sentences of long lines) with notices or menus */
FIELD(advert_characters)        /* of those with phrases of spam */
