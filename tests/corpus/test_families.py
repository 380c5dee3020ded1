"""The published families of rules: each rule removes what it is for, and names itself."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from vernacular.corpus.assessment import assess
from vernacular.corpus.configuration import CurateConfiguration, Filters
from vernacular.corpus.families import family_names, published_thresholds, rules_of
from vernacular.corpus.filters import check_names
from vernacular.foundation.errors import UserError

GOOD = """The miller left the village before dawn, with two sacks of flour and a donkey that he had not fed.
Nobody saw him on the bridge, because the fog had come down from the hills and lay over the river.
When the sun rose, he was already sitting in front of the inn, waiting for somebody to open the door.
His wife found the stable empty and thought that thieves had taken everything they owned in the night.
She ran to the judge, who was an old man with a long beard and very little patience for such complaints.
By noon the whole of the town was looking for a donkey, while its master drank his third cup of cider."""
HINDI = """राजा अपने मंत्री के साथ सुबह जल्दी नगर से निकला और पहाड़ की ओर चल पड़ा।
रास्ते में उन्हें एक बूढ़ा किसान मिला जो अपने खेत में काम कर रहा था।
किसान ने पूछा कि वे लोग कहाँ जा रहे हैं और क्या उन्हें पानी चाहिए।
मंत्री ने हँसकर कहा कि उन्हें प्यास नहीं, बल्कि भूख लगी है।
यह सुनकर बूढ़े ने अपनी पोटली खोली और सूखी रोटी के दो टुकड़े निकाले।
उस दिन के बाद राजा ने कभी किसी गरीब का मज़ाक नहीं उड़ाया।"""
ALL = ("gopher_repetition", "gopher_quality", "c4", "fineweb", "granite")


def reasons_of(texts: list[str], **filters: object) -> list[str | None]:
    configuration = CurateConfiguration(sources=({"path": "unused"},), filters=Filters(**filters))
    array = pa.array(texts, pa.large_string())
    return assess(array, [None] * len(texts), configuration, frozenset()).field("reason").to_pylist()


def test_prose_passes_every_family() -> None:
    assert reasons_of([GOOD, HINDI], families=ALL) == [None, None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD.split(".")[0] + ".", "gopher_quality.too_few_words"),
        ("tra la " * 30 + GOOD, "gopher_repetition.top_2_gram"),
        ("\n".join(["The very same line stands here."] * 9), "gopher_repetition.duplicate_lines"),
        ("\n".join("- " + line for line in GOOD.split("\n")), "gopher_quality.bullet_lines"),
        ("\n".join(line + "..." for line in GOOD.split("\n")), "gopher_quality.ellipsis_lines"),
        (GOOD.replace("\n", "\n# # # # # # # # #\n"), "gopher_quality.hashes"),
        (GOOD.replace(".", ""), "c4.few_sentences"),
        (GOOD + "\nfunction f() {return 1;} is what the code says at the end.", "c4.curly_bracket"),
        (GOOD + "\nLorem ipsum dolor sit amet, consectetur adipiscing.", "c4.lorem_ipsum"),
        (GOOD + "\nWhat a load of bullshit this was, said the donkey.", "c4.profanity"),
        (GOOD + "\nA line.\nA line.\nA line.", "fineweb.duplicate_line_characters"),
    ],
)
def test_a_rule_removes_what_it_is_for(text: str, reason: str) -> None:
    families = tuple(dict.fromkeys([reason.split(".")[0], *ALL]))
    assert reasons_of([text], families=families) == [reason]


def test_mc4_wants_three_long_lines() -> None:
    long = "\n".join(GOOD.replace("\n", " ") + word for word in ("", " one", " two"))
    assert reasons_of([long, GOOD], families=("mc4",)) == [None, "mc4.few_long_lines"]


def test_a_recipe_sets_bounds_and_switches_rules_off() -> None:
    short = GOOD.split(".")[0] + "."
    assert reasons_of([short], families=("gopher_quality",), thresholds={"gopher_quality.too_few_words": 5}) == [None]
    assert reasons_of([short], families=("gopher_quality",), disable=("gopher_quality.too_few_words",)) == [None]


def test_a_script_has_its_own_bounds() -> None:
    chinese = "今天早上孩子们在河边玩耍，母亲在家里做饭。" * 3
    published = published_thresholds()
    rule = next(rule for rule in rules_of("gopher_quality") if rule.name == "short_words")
    assert published.limits(rule, ["zh", "en"], ["Hani", "Latn"]).tolist() == [0, 3]
    assert reasons_of([chinese], families=("gopher_quality",)) == ["gopher_quality.too_few_words"]


def test_fitted_thresholds_win_over_published_ones(tmp_path: Path) -> None:
    fitted = tmp_path / "fitted.yaml"
    fitted.write_text("languages:\n  en: {gopher_quality.too_few_words: 500}\n", encoding="utf-8")
    found = reasons_of([GOOD], families=("gopher_quality",), fitted=str(fitted))
    assert found == ["gopher_quality.too_few_words"]


@pytest.mark.parametrize(
    ("settings", "message", "fix"),
    [
        ({"families": ("gopher",)}, "'gopher'", "gopher_"),
        ({"thresholds": {"c4.few_sentence": 3}}, "'c4.few_sentence'", "c4.few_sentences"),
        ({"disable": ("c4.curly",)}, "'c4.curly'", "c4.curly_bracket"),
        ({"fitted": "/nowhere/fitted.yaml"}, "cannot be read", "filters.fitted"),
    ],
)
def test_names_that_are_none_are_refused(settings: dict[str, object], message: str, fix: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_names(Filters(**settings))
    assert fix in str(caught.value.fix)


def test_each_family_names_its_source() -> None:
    folder = Path(__file__).parents[2] / "src" / "vernacular" / "corpus" / "data" / "rules"
    for family in family_names():
        head = (folder / f"{family}.yaml").read_text(encoding="utf-8").split("\nrules:")[0]
        assert "arXiv" in head or "JMLR" in head or "report" in head, family
