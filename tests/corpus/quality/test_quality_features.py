"""The 93 features: against slow formulas written down a second time, one by one, and their promises."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.corpus.languages import language_data
from vernacular.corpus.quality.feature_page import feature_page
from vernacular.corpus.quality.features import NUM_FEATURES, catalogue, feature_table, measure

POLISH = """# Targ w Łomży

W sobotę rano babcia Zofia poszła na targ. Kupiła tam jabłka, gruszki i śliwki; zapłaciła 12 złotych.
„Dobre owoce!” – pomyślała. Czy wrócić pieszo, czy autobusem?

- chleb
- masło

W domu upiekła placek ze śliwkami..."""
HINDI = """शनिवार की सुबह दादी बाज़ार गईं। वहाँ उन्होंने सेब, नाशपाती और आलूबुखारे खरीदे; बारह रुपये दिए।
क्या वे पैदल लौटें, या बस से? घर पर उन्होंने मिठाई बनाई। बच्चे बहुत खुश हुए।"""
TAMIL = """சனிக்கிழமை காலை பாட்டி சந்தைக்குப் போனார். அங்கே அவர் மாம்பழம், வாழைப்பழம் வாங்கினார்.
வீட்டுக்கு நடந்து போவதா அல்லது பேருந்தில் போவதா? குழந்தைகள் மகிழ்ந்தார்கள்!"""
ENGLISH = """Grandmother went to the market. She bought apples, pears and plums (twelve of them).
Did she walk home? Yes.
See https://example.org for more.   NASA and iPhone are words, a1 too."""
CHINESE = "星期六早上，奶奶去了市场。她买了苹果和梨子。孩子们很高兴！"
ARABIC = "ذهبت الجدة إلى السوق صباح السبت. اشترت التفاح، والكمثرى؛ ثم عادت إلى البيت. هل عادت مشيا؟"
LANGUAGES = {"pl": POLISH, "hi": HINDI, "ta": TAMIL, "en": ENGLISH, "zh": CHINESE, "ar": ARABIC}


def row(text: str, language: str = "und") -> dict[str, float | None]:
    return feature_table(pa.array([text], pa.large_string()), [language], {}).to_pylist()[0]


def close(found: float | None, wanted: float | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-5, abs_tol=1e-6)


def slowly(text: str, language: str) -> dict[str, float | None]:
    """Some of the features once more, a document and a character at a time."""
    visible = regex.findall(r"[^\p{Z}\s]", text)
    letters = regex.findall(r"\p{L}", text)
    cased = regex.findall(r"[\p{Lu}\p{Ll}\p{Lt}]", text)
    words = regex.findall(r"[\p{L}\p{M}\p{N}\u200c\u200d]+", text)
    if language == "zh":
        words = regex.findall(r"\p{Han}", text)
    lower = [word.lower() for word in words]
    lengths = [len(regex.findall(r"\X", word)) for word in words]
    lines = [line for line in text.split("\n") if line.strip()]
    sentences = [
        part
        for line in lines
        for part in regex.split(r"(?<=[.!?…।؟][”\")’']?) |(?<=[。！])", line)
        if regex.search(r"\w", part)
    ]
    in_sentences = [
        len(regex.findall(r"\p{Han}" if language == "zh" else r"[\p{L}\p{M}\p{N}\u200c\u200d]+", part))
        for part in sentences
    ]
    counts, characters = Counter(lower), Counter(visible)
    line_lengths = [len(regex.findall(r"[^\p{Z}\s]", line)) for line in lines]
    stops = set(language_data()[language].stop_words) if language in language_data() else None
    pairs = list(itertools.pairwise(lower))
    return {
        "num_characters": len(visible),
        "letter_ratio": len(letters) / len(visible),
        "mark_ratio": len(regex.findall(r"\p{M}", text)) / len(visible),
        "digit_ratio": len(regex.findall(r"\p{N}", text)) / len(visible),
        "punctuation_ratio": len(regex.findall(r"\p{P}", text)) / len(visible),
        "whitespace_ratio": 1 - len(visible) / len(text),
        "uppercase_ratio": len(regex.findall(r"[\p{Lu}\p{Lt}]", text)) / len(cased) if cased else None,
        "character_entropy": -sum(n / len(visible) * math.log2(n / len(visible)) for n in characters.values()),
        "longest_character_run": max(len(run[0]) for run in regex.finditer(r"([^\s])\1*", text)),
        "num_words": len(words),
        "mean_word_length": statistics.fmean(lengths),
        "word_length_deviation": statistics.pstdev(lengths),
        "long_word_ratio": sum(length > 6 for length in lengths) / len(words),
        "longest_word": max(lengths),
        "non_alphabetic_token_ratio": sum(not regex.search(r"\p{L}", token) for token in text.split())
        / len(text.split()),
        "unique_word_count": len(counts),
        "hapax_ratio": sum(count == 1 for count in counts.values()) / len(counts),
        "top_word_ratio": max(counts.values()) / len(words),
        "close_repetition_ratio": sum(word in lower[max(0, at - 10) : at] for at, word in enumerate(lower))
        / len(words),
        "repeated_pair_ratio": sum(pair in pairs[:at] for at, pair in enumerate(pairs)) / len(pairs),
        "num_sentences": len(sentences),
        "mean_sentence_length": statistics.fmean(in_sentences),
        "sentence_length_deviation": statistics.pstdev(in_sentences),
        "commas_per_sentence": len(regex.findall("[,،，]", text)) / len(sentences),
        "interrogative_ratio": len(regex.findall("[?؟]", text)) / len(sentences),
        "num_lines": len(lines),
        "mean_line_length": statistics.fmean(line_lengths),
        "line_length_deviation": statistics.pstdev(line_lengths),
        "short_line_ratio_20": sum(length < 20 for length in line_lengths) / len(lines),
        "num_paragraphs": len(regex.findall(r"\n\n+", text)) + 1,
        "blank_line_ratio": sum(not line for line in text.split("\n")) / len(text.split("\n")),
        "bullet_ratio": sum(line.startswith("- ") for line in lines) / len(lines),
        "heading_ratio": sum(line.startswith("#") for line in lines) / len(lines),
        "stop_word_ratio": sum(word in stops for word in lower) / len(words) if stops else None,
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_features_equal_the_formulas_written_down_again(language: str) -> None:
    text = LANGUAGES[language]
    found = row(text, language)
    assert {
        name: found[name] for name, wanted in slowly(text, language).items() if not close(found[name], wanted)
    } == {}


def test_the_page_of_the_documentation_lists_them(repository: Path) -> None:
    assert (repository / "docs" / "quality-features.md").read_text(encoding="utf-8") == feature_page()


def test_there_are_93_features_each_with_a_formula_and_a_name_of_its_own() -> None:
    features = catalogue()
    assert len(features) == len({feature.name for feature in features}) == NUM_FEATURES == 93
    assert all(feature.formula and feature.needs in ("", "stop_words", "lexicon", "parts") for feature in features)


@pytest.mark.parametrize(
    ("feature", "clean", "damaged"),
    [
        ("replacement_ratio", "Zażółć gęślą jaźń.", "Za\ufffd\ufffd\ufffd gęślą jaźń."),
        ("orphan_mark_ratio", "हिन्दी की किताब", "हिन्दी ी किताब"),
        ("stacked_mark_ratio", "हिन्दी की किताब", "हिन्दीी की किताब"),
        ("question_in_word_ratio", "Zażółć gęślą?", "Za?ó?ć gęślą?"),
        ("mojibake_ratio", "Zażółć gęślą jaźń", "ZaÅ¼Ã³Å‚Ä‡ gÄ™Å›lÄ… jaÅºÅ„"),
        ("digit_in_word_ratio", "The tall old house", "The ta1l o1d h0use"),
        ("punctuation_in_word_ratio", "அங்கே அவர் போனார்.", "அங்.கே அவ,ர் போனார்."),
        ("mixed_script_word_ratio", "Москва и Kraków", "Мосkва и Kraкów"),
        ("camel_case_ratio", "two words here", "twoWords hereToo"),
        ("uppercase_word_ratio", "Buy it now", "BUY IT now"),
        ("space_before_punctuation_ratio", "One, two.", "One , two ."),
        ("no_space_after_punctuation_ratio", "यह है। वह था।", "यह है।वह था।"),
        ("doubled_punctuation_ratio", "Really? Yes!", "Really?? Yes!!!"),
        ("unbalanced_bracket_ratio", "(one) [two]", "(one [two] ((("),
        ("duplicate_line_ratio", "one\ntwo\nthree", "one\ntwo\none"),
        ("duplicate_paragraph_ratio", "one\n\ntwo\n\nthree", "one\n\ntwo\n\none"),
        ("repeated_five_ratio", "a b c d e f g h i j", "a b c d e a b c d e"),
        ("table_misalignment", "|a|b|\n|c|d|", "|a|b|\n|c|"),
        ("tag_ratio", "5 < 6 in mathematics", "<b>six</b>"),
        ("entity_ratio", "Tom & Jerry", "Tom &amp; Jerry"),
        ("link_ratio", "see the page", "see https://example.org"),
        ("emoji_ratio", "hello ©", "hello 😀🎉"),
        ("ordered_item_ratio", "one\ntwo", "1. one\n2) two"),
        ("special_character_ratio", "plain (text).", "pl§in ¤¦ t¥xt"),
        ("inner_capital_ratio", "The dog ran home.", "The Dog ran Home."),
        ("boilerplate_ratio", "Pies pobiegł do domu wieczorem", "Polityka prywatności, mapa strony, zaloguj się"),
    ],
)
def test_a_feature_tells_damage_from_sound_text(feature: str, clean: str, damaged: str) -> None:
    found, other = row(damaged, "pl")[feature], row(clean, "pl")[feature] or 0.0
    assert found is not None
    assert found > other
    assert feature in ("special_character_ratio", "inner_capital_ratio") or other == 0


@pytest.mark.parametrize(("text", "begins", "ends"), [("Raz. Dwa.", 1, 1), ("raz i dwa", 0, 0), ("घर है।", 1, 1)])
def test_whether_a_document_begins_and_ends_whole(text: str, begins: int, ends: int) -> None:
    assert (row(text)["begins_whole"], row(text)["ends_whole"]) == (begins, ends)


def test_what_is_not_known_of_a_language_is_null_not_zero() -> None:
    needy = [feature.name for feature in catalogue() if feature.needs]
    assert {row(CHINESE, "zh")[name] for name in needy} == {None}
    lexical = [feature.name for feature in catalogue() if feature.needs in ("lexicon", "parts")]
    known = row(POLISH, "pl")
    assert {known[name] for name in lexical} == {None}
    assert known["stop_word_ratio"] is not None


@pytest.mark.parametrize("text", ["", " ", "\n\n", ".", "a", "ा", "👍", "١٢٣", "a\nb"])
def test_the_smallest_texts_have_features(text: str) -> None:
    found = measure(pa.array([text, POLISH, text], pa.large_string()), ["und", "pl", "und"], {})
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], measure(pa.array([POLISH], pa.large_string()), ["pl"], {})[0])
    assert not np.isinf(found).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1, max_size=8))
def test_a_row_does_not_depend_on_its_batch(texts: list[str]) -> None:
    together = measure(pa.array(texts, pa.large_string()), ["en"] * len(texts), {})
    alone = [measure(pa.array([text], pa.large_string()), ["en"], {})[0] for text in texts]
    np.testing.assert_array_equal(together, np.stack(alone))
    ratios = [place for place, feature in enumerate(catalogue()) if feature.formula.startswith("share")]
    assert not (together[:, ratios] > 1).any()
    assert not (together < 0).any()
