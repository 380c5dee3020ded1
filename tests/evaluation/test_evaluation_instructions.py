"""IFEval's rules by hand, in the scripts that they are asked in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vernacular.evaluation.instructions.checks import CHECKS
from vernacular.evaluation.instructions.language import table
from vernacular.evaluation.instructions.metrics import INSTRUCTION_METRICS, follows, follows_loosely, loose_forms
from vernacular.foundation.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"

CASES = [
    ("keywords:existence", {"keywords": ["ferry", "tide"]}, "Ferries? The FERRY leaves at high tide.", "The ferry."),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "less than"}, "A bb", "A a b"),
    ("keywords:frequency", {"keyword": "नदी", "frequency": 2}, "नदी और नदी", "नदी, नदी, नदी"),
    ("keywords:forbidden_words", {"forbidden_words": ["tide"]}, "Tides come.", "The tide."),
    ("keywords:letter_frequency", {"letter": "Q", "let_frequency": 2, "let_relation": "at least"}, "q Q", "q"),
    ("ja:keywords:letter_frequency", {"letter": "か", "let_frequency": 2, "let_relation": "以上"}, "かとカ", "かと"),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, "Ok? Yes, 3.5.", "A. B! C?"),
    ("hi:length_constraints:number_sentences", {"num_sentences": 2}, "पानी मीठा है। बच्चे आए।", "पानी मीठा है।"),
    ("ja:length_constraints:number_sentences", {"num_sentences": 2, "relation": "以上"}, "雨だ。寒い。", "雨だ"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo\n***\n", "one\n***\n***\ntwo"),
    ("hi:length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "गाँव में कुआँ", "गाँव में"),
    ("ja:length_constraints:number_letters", {"num_letters": 4, "relation": "未満"}, "雨 です", "雨ですね"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Kite"},
        "one\n\n“kite, of course",
        "one\n\ntwo\n\nkite",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [address]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. Write.", "No postscripts."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\np. p. s. Write.", "Bye.\nP.S. Write."),
    ("fr:detectable_content:postscript", {"postscript_marker": "P.-S."}, "Adieu.\nP.-S. Encore.", "Adieu. Psaume."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b\n**c**", "* a\n* b\n* c"),
    ("ja:detectable_format:number_bullet_lists", {"num_bullets": 2}, "・雨\n・雪", "・雨"),
    ("ja:detectable_format:number_numbered_lists", {"num_items": 2}, "1. 雨\n2. 雪", "1. 雨\n2. 雪\n3. 風"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("es:detectable_format:constrained_response", {}, "Quizás.", "My answer is maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and ** **"),
    ("ja:detectable_format:number_highlighted_sections", {"num_highlights": 1}, "《雨》の日", "*雨*の日"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Day", "num_sections": 2},
        "Day 1\na\nDay 2\nb",
        "Day 1",
    ),
    (
        "ja:detectable_format:multiple_sections",
        {"section_spliter": "章", "num_sections": 2},
        "第1章\n雨\n第2章\n雪",
        "章1",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<Kites>>\nThey fly.", "<< >>"),
    ("ja:detectable_format:title", {}, "『昭和』", "<<昭和>>"),
    ("combination:two_responses", {}, "one******two", "one******one"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why Kites?"}, "why kites? Because.", "Because."),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, '"Fine. any questions?"', "Any questions? No."),
    ("startend:quotation", {}, '"Fine."', '"Fine".'),
    ("ja:startend:quotation", {}, "「はい」", '"はい"'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "NO WAY",
        "NO way",
    ),
    ("change_case:english_lowercase", {}, "the kite was mended with a little glue", "The kite was mended."),
    ("punctuation:no_comma", {}, "Yes. No.", "Yes, no."),
    ("ja:punctuation:no_comma", {}, "はい,そうです。", "はい、そうです。"),
    ("ja:punctuation:no_period", {}, "はい", "はい。"),
    ("es:punctuation:question_marks", {}, "¿Qué? Nada.", "Qué?"),
    ("es:punctuation:exclamation_marks", {}, "¡Vale!", "Vale!"),
    ("es:special_character:enie", {"let_frequency": 2}, "Mañana, niño.", "Mañana."),
    ("es:special_character:tildes", {"num_words": 2, "relation": "como máximo"}, "Café y té.", "Café, té, sofá."),
    ("fr:detectable_content:informal_address", {}, "Je t'aime et tu le sais.", "Tu le sais, vous aussi."),
    ("fr:detectable_content:no_digits", {}, "dix ans", "10 ans"),
    ("fr:special_character:accents", {"word_to_accentuate": {"lecon": "leçon"}}, "La leçon.", "La lecon."),
    ("fr:special_character:no_accents", {}, "Le monde change.", "Évidemment."),
    ("fr:special_character:ethel_or_cedilla", {"forbidden_char": "œ"}, "le coeur", "le cœur"),
    ("ja:letters:furigana", {}, "雨（あめ）が降（ふ）る", "雨が降（ふ）る"),
    ("ja:letters:kanji", {"kanji_limit": 2, "relation": "未満"}, "雨です", "大雨です"),
    ("ja:letters:hiragana_only", {}, "あめ、です。", "雨です。"),
    ("ja:letters:katakana_only", {}, "ドリアン。", "ドリアンは。"),
    ("ja:letters:no_hiragana", {}, "雨天決行", "雨の日"),
    ("ja:letters:no_katakana", {}, "雨の日", "ピザの日"),
    ("ja:letters:kansuuji", {}, "三月", "3月"),
    ("ja:startend:sentence_unified_end", {"ending": "です"}, "雨です。「寒い。」雪です。", "雨です。寒い。"),
    ("ja:detectable_format:nominal_ending", {"count": 1}, "空には雨。", "雨が降る。"),
]


@pytest.mark.parametrize(("name", "arguments", "right", "wrong"), CASES, ids=[case[0] for case in CASES])
def test_what_follows_and_what_does_not(name, arguments, right, wrong) -> None:
    assert follows(right, name, arguments, "en")
    assert not follows(wrong, name, arguments, "en")
    assert not follows(" \n", name, arguments, "en")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("hi", "गाँव के पास एक पुराना कुआँ है, जिसका पानी मीठा है और बच्चे वहाँ खेलते हैं।"),
        ("ta", "மழை பெய்தால் ஆறு நிரம்பும்; நாம் கரையில் நிற்போம்."),
        ("de", "Das Schiff fährt erst ab, wenn die Flut kommt, und nicht früher."),
    ],
)
def test_the_language_of_an_answer(language, text) -> None:
    assert follows(text, "language:response_language", {"language": language}, "en")
    assert not follows(text, "language:response_language", {"language": "sw"}, "en")
    assert not follows(text.upper(), "change_case:english_capital", {}, "en")


def test_eight_forms_and_the_loose_rule() -> None:
    assert loose_forms("a*\nb\nc") == ["a*\nb\nc", "b\nc", "a*\nb", "b", "a\nb\nc", "b\nc", "a\nb", "b"]
    quoted = 'Sure, here it is:\n"Kites fly."'
    assert not follows(quoted, "startend:quotation", {}, "en")
    assert follows_loosely(quoted, "startend:quotation", {}, "en")
    assert not follows_loosely("", "punctuation:no_comma", {}, "en")


def test_four_numbers_by_hand() -> None:
    """Two prompts of one and two instructions: 1 of 2 prompts, 2 of 3 instructions strictly; all loosely."""
    items = [
        [row("Yes. No.", ["punctuation:no_comma"], [{}])],
        [row('Sure:\n"Yes."', ["punctuation:no_comma", "startend:quotation"], [{}, {}])],
    ]
    values = {
        name: metric.aggregate([metric.of_item(item, {}) for item in items])
        for name, metric in INSTRUCTION_METRICS.items()
    }
    assert values == {
        "prompt_level_strict_acc": 0.5,
        "inst_level_strict_acc": pytest.approx(2 / 3),
        "prompt_level_loose_acc": 1.0,
        "inst_level_loose_acc": 1.0,
    }


def row(response: str, names: list[str], arguments: list[dict[str, object]]) -> dict[str, object]:
    facts = json.dumps({"instruction_id_list": names, "kwargs": arguments})
    return {"response": response, "extracted": response, "language": "en", "facts": facts}


def test_an_instruction_that_is_not_known_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'punctuation:no_comma'"):
        follows("x", "punctuation:no_coma", {}, "en")
    with pytest.raises(UserError, match="unknown relation"):
        follows("x", "keywords:frequency", {"keyword": "x", "frequency": 1, "relation": "around"}, "en")


def test_every_instruction_has_its_check_and_every_check_an_instruction() -> None:
    assert {options["check"] for options in table("instructions.yaml").values()} == set(CHECKS)


@pytest.mark.parametrize("path", ["ifeval_multilingual", "indicifeval_en"])
def test_every_published_instruction_can_be_checked(path) -> None:
    if not (SHARED / path).is_dir():
        pytest.skip(f"needs the folder {path} of the shared data")
    answers = ("Yes.\n\n* a\n* b", "第1章 雨です。")
    for file in sorted((SHARED / path).glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            for name, arguments in zip(item["instruction_id_list"], item["kwargs"], strict=True):
                if "language" not in name:
                    assert all(follows(answer, name, arguments or {}, "en") in (True, False) for answer in answers)
