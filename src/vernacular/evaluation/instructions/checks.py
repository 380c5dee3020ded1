"""The checks: each tells of an answer whether it does what one instruction asks.

Written from the published descriptions. Two things are ours: words and sentences are found by Unicode and by the
language's marks (IFEval's code calls NLTK's English models), and the language of an answer by the model that the corpus
is identified with (IFEval's code calls langdetect).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vernacular.evaluation.instructions.language import Language, relation_of

WORD = re.compile(r"[^\W_](?:[\w\u0300-\u036f\u0900-\u0dff\u200c\u200d'’-]*[\w\u0900-\u0dff])?")


class Asked(NamedTuple):
    """What an instruction asks.

    Attributes:
        arguments: the item's.
        options: the instruction's own, from `instructions.yaml`.
        language: what the check knows of the language.
    """

    arguments: Mapping[str, Any]
    options: Mapping[str, Any]
    language: Language

    def count_is_right(self, count: int, argument: str, relation: str = "relation", unstated: str = "at least") -> bool:
        """Whether a count stands to an argument as the relation says."""
        wanted = int(self.arguments[argument])
        word = relation_of(str(self.arguments.get(relation) or unstated))
        if word == "exactly":
            return count == wanted
        return {"at least": count >= wanted, "at most": count <= wanted, "less than": count < wanted}[word]


# ------------------------------------------------------------------------------------------- words and characters


def has_keywords(answer: str, asked: Asked) -> bool:
    """Every one of `keywords` occurs; they are patterns, in any case."""
    return all(re.search(word, answer, re.IGNORECASE) for word in asked.arguments["keywords"])


def keyword_count(answer: str, asked: Asked) -> bool:
    """`keyword` occurs as often as asked; exactly, where no relation is stated (IndicIFEval)."""
    found = re.findall(asked.arguments["keyword"].strip(), answer, re.IGNORECASE)
    return asked.count_is_right(len(found), "frequency", unstated="exactly")


def has_no_words(answer: str, asked: Asked) -> bool:
    """None of `forbidden_words` occurs as a word."""
    edge = r"\b" if asked.language.spaced else ""
    return not any(
        re.search(edge + re.escape(word) + edge, answer, re.IGNORECASE) for word in asked.arguments["forbidden_words"]
    )


def letter_count(answer: str, asked: Asked) -> bool:
    """`letter` occurs as often as asked, in any case; of kana, in either script."""
    letter = asked.arguments["letter"].strip().lower()
    count = answer.lower().count(letter)
    if "ぁ" <= letter <= "ん":
        count += answer.count(chr(ord(letter) + 0x60))  # The same letter in katakana.
    return asked.count_is_right(count, "let_frequency", "let_relation")


def word_count(answer: str, asked: Asked) -> bool:
    """The answer has as many words as asked."""
    return asked.count_is_right(len(re.findall(r"[\w\u0900-\u0dff]+", answer)), "num_words")


def character_count(answer: str, asked: Asked) -> bool:
    """The answer has as many characters as asked, spaces aside."""
    return asked.count_is_right(len("".join(answer.split())), "num_letters")


def capital_word_count(answer: str, asked: Asked) -> bool:
    """As many words as asked are written in capitals."""
    count = sum(word.isupper() for word in WORD.findall(answer))
    return asked.count_is_right(count, "capital_frequency", "capital_relation")


def words_with(answer: str, asked: Asked) -> bool:
    """As many words as asked have one of the letters; exactly `let_frequency`, or by `num_words` and its relation."""
    count = sum(any(letter in word.lower() for letter in asked.options["letters"]) for word in WORD.findall(answer))
    if "let_frequency" in asked.arguments:
        return count == int(asked.arguments["let_frequency"])
    return asked.count_is_right(count, "num_words")


def is_in_capitals(answer: str, asked: Asked) -> bool:
    """All letters are capitals, and the language is the instruction's."""
    return answer.isupper() and language_is(answer.lower(), asked.options["language"])


def is_in_small_letters(answer: str, asked: Asked) -> bool:
    """No letter is a capital, and the language is the instruction's."""
    return answer.islower() and language_is(answer, asked.options["language"])


def in_language(answer: str, asked: Asked) -> bool:
    """The answer is in `language`."""
    return language_is(answer, asked.arguments["language"])


def language_is(answer: str, wanted: str) -> bool:
    """Whether an answer is in a language; one that is in none that can be told counts as in it, as in IFEval."""
    import pyarrow

    from vernacular.corpus.configuration import Identification
    from vernacular.corpus.document import UNDETERMINED_LANGUAGE
    from vernacular.corpus.identification import identify

    texts = pyarrow.array([answer], pyarrow.large_string())
    (found,) = identify(texts, [None], Identification(), frozenset()).languages
    return found in (wanted.partition("-")[0], UNDETERMINED_LANGUAGE)


# ------------------------------------------------------------------------------------------------- form and order


def sentence_count(answer: str, asked: Asked) -> bool:
    """The answer has as many sentences as asked; exactly, where no relation is stated (IndicIFEval)."""
    return asked.count_is_right(len(sentences(answer, asked.language)), "num_sentences", unstated="exactly")


def sentences(text: str, language: Language) -> list[str]:
    """Pieces up to an end mark that a space, a quote or the text's end follows; up to any, where words are unspaced."""
    ends = re.escape(language.sentences)
    after = r"(?=[\s\"'”’»)\]]|$)" if language.spaced else ""
    pieces = re.split(rf"(?<!\d\.)(?<![{ends}])[{ends}]+{after}|\n{{2,}}", text)
    return [piece for piece in pieces if re.search(r"\w", piece)]


def paragraph_count(answer: str, asked: Asked) -> bool:
    """There are `num_paragraphs` between marks of three asterisks, none of the inner ones empty."""
    parts = re.split(r"\s?\*\*\*\s?", answer)
    inner = [part.strip() for part in parts[1:-1]]
    count = len(inner) + sum(bool(part.strip()) for part in {0: parts[0], len(parts) - 1: parts[-1]}.values())
    return all(inner) and count == int(asked.arguments["num_paragraphs"])


def paragraph_begins(answer: str, asked: Asked) -> bool:
    """There are `num_paragraphs` between empty lines (one, if not stated), and that one begins with `first_word`."""
    paragraphs = answer.split("\n\n")
    place = int(asked.arguments.get("nth_paragraph", 1))
    filled = sum(bool(part.strip()) for part in paragraphs)
    if filled != int(asked.arguments.get("num_paragraphs", filled)):
        return False
    if place > len(paragraphs) or not paragraphs[place - 1].strip():
        return False
    begun = paragraphs[place - 1].strip().lstrip("'\"「『“‘«").lower()
    first = asked.arguments["first_word"].lower()
    if not asked.language.spaced:
        return begun.startswith(first)
    return re.split(r"[\s.,?!'\"।;:]", begun)[0] == first


def placeholder_count(answer: str, asked: Asked) -> bool:
    """At least `num_placeholders` stand in square brackets."""
    return asked.count_is_right(len(re.findall(r"\[.*?\]", answer)), "num_placeholders")


def has_postscript(answer: str, asked: Asked) -> bool:
    """A line, or a part of one behind a space, begins with the letters of `postscript_marker`."""
    letters = re.findall(r"\w", asked.arguments["postscript_marker"].lower())
    spaced = r"[.\s-]*".join(map(re.escape, letters))
    return re.search(rf"(?:^|\s){spaced}\W.*$|(?:^|\s){spaced}$", answer.lower(), re.MULTILINE) is not None


def bullet_count(answer: str, asked: Asked) -> bool:
    """There are exactly `num_bullets` bullet points."""
    return len(re.findall(asked.language.bullet, answer, re.MULTILINE)) == int(asked.arguments["num_bullets"])


def numbered_count(answer: str, asked: Asked) -> bool:
    """There are exactly `num_items` numbered points."""
    return len(re.findall(r"^\s*\d+\.\s+\S.*$", answer, re.MULTILINE)) == int(asked.arguments["num_items"])


def is_one_of(answer: str, asked: Asked) -> bool:
    """One of the language's permitted answers is given."""
    return any(permitted in answer.strip() for permitted in asked.language.answers)


def highlight_count(answer: str, asked: Asked) -> bool:
    """At least `num_highlights` are marked as the language's instruction shows."""
    return asked.count_is_right(len(re.findall(asked.language.highlight, answer)), "num_highlights")


def section_count(answer: str, asked: Asked) -> bool:
    """At least `num_sections` begin with `section_spliter` and a number."""
    pattern = asked.language.section.format(name=re.escape(asked.arguments["section_spliter"].strip()))
    return asked.count_is_right(len(re.split(pattern, answer)) - 1, "num_sections")


def is_json(answer: str, asked: Asked) -> bool:
    """The whole answer is JSON, in a fence or not."""
    bare = re.sub(r"^```(?:json|Json|JSON)?|```$", "", answer.strip()).strip()
    try:
        json.loads(bare)
    except ValueError:
        return False
    return True


def has_title(answer: str, asked: Asked) -> bool:
    """There is a title, marked as the language's instruction shows."""
    return re.search(asked.language.title, answer) is not None


def are_two(answer: str, asked: Asked) -> bool:
    """There are two different answers, six asterisks between them."""
    parts = [part.strip() for part in answer.split("******")]
    outer = {place for place in (0, len(parts) - 1) if not parts[place]}
    kept = [part for place, part in enumerate(parts) if place not in outer]
    return len(kept) == 2 and all(kept) and kept[0] != kept[1]


def repeats_prompt(answer: str, asked: Asked) -> bool:
    """The answer begins with `prompt_to_repeat`."""
    return answer.strip().lower().startswith(asked.arguments["prompt_to_repeat"].strip().lower())


def ends_with(answer: str, asked: Asked) -> bool:
    """The answer ends with `end_phrase`, quotes aside."""
    return answer.strip().strip('"').lower().endswith(asked.arguments["end_phrase"].strip().lower())


def is_quoted(answer: str, asked: Asked) -> bool:
    """The whole answer is in quotation marks of the language's instruction."""
    text = answer.strip()
    return len(text) > 1 and any(text[0] == pair[0] and text[-1] == pair[-1] for pair in asked.language.quotes)


# ------------------------------------------------------------------------------------ of a language or of a script


def has_no_comma(answer: str, asked: Asked) -> bool:
    """There is none of the language's commas."""
    return not any(mark in answer for mark in asked.language.commas)


def has_no_period(answer: str, asked: Asked) -> bool:
    """There is none of the language's full stops."""
    return not any(mark in answer for mark in asked.language.periods)


def has_no_character(answer: str, asked: Asked) -> bool:
    """`forbidden_char` does not occur, in either case."""
    return asked.arguments["forbidden_char"].lower() not in answer.lower()


def matches(answer: str, asked: Asked) -> bool:
    """The pattern is found."""
    return re.search(asked.options["pattern"], answer) is not None


def matches_nowhere(answer: str, asked: Asked) -> bool:
    """The pattern is not found."""
    return re.search(asked.options["pattern"], answer) is None


def every_match_is(answer: str, asked: Asked) -> bool:
    """As often as the pattern is found, so is the whole that it is to be part of."""
    whole = re.findall(asked.options["whole"], answer)
    return len(re.findall(asked.options["pattern"], answer)) == len(whole)


def pattern_count(answer: str, asked: Asked) -> bool:
    """The pattern is found as often as asked."""
    return asked.count_is_right(len(re.findall(asked.options["pattern"], answer)), asked.options["count"])


def letters_are(answer: str, asked: Asked) -> bool:
    """Every letter matches the pattern; digits, marks and spaces are free."""
    own = re.compile(asked.options["pattern"])
    return all(own.match(letter) for letter in answer if unicodedata.category(letter).startswith("L"))


def is_accented(answer: str, asked: Asked) -> bool:
    """Each word of `word_to_accentuate` occurs as it is right, and not without its accents."""
    wanted = asked.arguments["word_to_accentuate"]
    words = [word.lower() for word in WORD.findall(answer)]
    return all(accented.lower() in words and bare.lower() not in words for bare, accented in wanted.items() if accented)


def addresses_informally(answer: str, asked: Asked) -> bool:
    """A word of the informal address occurs, and none of the formal one."""
    words = {word.lower() for word in re.findall(r"[^\W\d_]+", answer)}
    informal = words & set(asked.language.informal) or re.search(r"\bt['’]\w", answer, re.IGNORECASE)
    return bool(informal) and not words & set(asked.language.formal)


def sentences_end_alike(answer: str, asked: Asked) -> bool:
    """Every sentence, what is quoted aside, ends with `ending`."""
    bare = re.sub(r"「.*?」|『.*?』", "", answer)
    return all(one.strip().endswith(asked.arguments["ending"]) for one in sentences(bare, asked.language))


def nominal_ending_count(answer: str, asked: Asked) -> bool:
    """Sentences that end in a kanji or katakana: a noun, as a rule; M-IFEval asks a morphological analyser."""
    bare = re.sub(r"「.*?」|『.*?』", "", answer)
    return asked.count_is_right(len(re.findall(r"[一-龯ァ-ンー][。！？]", bare)), "count")


CHECKS: Mapping[str, Callable[[str, Asked], bool]] = {
    check.__name__: check
    for check in (
        *(has_keywords, keyword_count, has_no_words, letter_count, word_count, character_count, capital_word_count),
        *(words_with, is_in_capitals, is_in_small_letters, in_language, sentence_count, paragraph_count),
        *(paragraph_begins, placeholder_count, has_postscript, bullet_count, numbered_count, is_one_of),
        *(highlight_count, section_count, is_json, has_title, are_two, repeats_prompt, ends_with, is_quoted),
        *(has_no_comma, has_no_period, has_no_character, matches, matches_nowhere, every_match_is, pattern_count),
        *(letters_are, is_accented, addresses_informally, sentences_end_alike, nominal_ending_count),
    )
}
"""By the name that `instructions.yaml` gives; each takes the answer, and what is asked."""
