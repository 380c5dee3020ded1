/* What is counted of a text, in this order: int64 each. Python reads the names from here (native/scanning.py). */

/* characters */
FIELD(characters)          /* code points */
FIELD(graphemes)
FIELD(visible)             /* code points that are no space */
FIELD(letters)
FIELD(marks)
FIELD(joiners)
FIELD(decimals)            /* digits and other numerals */
FIELD(punctuation)
FIELD(symbols)
FIELD(uppercase)
FIELD(lowercase)
FIELD(lost)                /* replacement characters, private use, unassigned, dotted circles */
FIELD(orphans)             /* Indic vowel signs without a base, question marks between letters */
FIELD(hashes)              /* # */
FIELD(ellipses)            /* … and ... */
FIELD(braces)              /* { */

/* words and tokens: a token is a word, or a run of one mark that is in no word */
FIELD(words)
FIELD(tokens)
FIELD(words_with_letter)
FIELD(word_characters)
FIELD(word_graphemes)
FIELD(longest_word)        /* code points between white space */
FIELD(capitalised_words)   /* first letter upper case, the rest not */
FIELD(uppercase_words)     /* two upper-case letters or more, no lower-case one */
FIELD(distinct_words)      /* letter case aside */
FIELD(once_words)          /* words that stand once */
FIELD(stop_words)          /* of the document's language */
FIELD(distinct_stop_words)
FIELD(profanities)         /* phrases of the language's list */

/* sentences, lines, paragraphs; lines of white space alone are blank and no lines */
FIELD(sentences)
FIELD(newlines)
FIELD(lines)
FIELD(blank_lines)
FIELD(line_characters)
FIELD(short_lines_10)      /* code points, at most */
FIELD(short_lines_20)
FIELD(short_lines_30)
FIELD(long_lines_200)      /* code points, at least: mC4's paragraphs */
FIELD(terminal_lines)      /* end with a mark that ends sentences */
FIELD(bullet_lines)
FIELD(ellipsis_lines)
FIELD(one_word_lines)
FIELD(menu_lines)
FIELD(boilerplate_lines)
FIELD(repeated_lines)
FIELD(repeated_line_characters)
FIELD(paragraphs)
FIELD(repeated_paragraphs)
FIELD(repeated_paragraph_characters)

/* n-grams of tokens, in characters: of the commonest (spaces included), and of all that stood before */
FIELD(top_2_grams)
FIELD(top_3_grams)
FIELD(top_4_grams)
FIELD(repeated_5_grams)
FIELD(repeated_6_grams)
FIELD(repeated_7_grams)
FIELD(repeated_8_grams)
FIELD(repeated_9_grams)
FIELD(repeated_10_grams)

/* what C4's rules for lines leave */
FIELD(prose_lines)
FIELD(prose_sentences)
FIELD(prose_braces)        /* lines of prose with a curly bracket */
FIELD(filler)              /* lines of prose with "lorem ipsum" */
