"""New pieces for a tokenizer: what is promised to old text holds for any text, whoever published the tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

import published_folders
import tiny_recipe
from vernacular.foundation.errors import UserError
from vernacular.tokens.configuration import ExtendTokenizerConfiguration, TokenizerConfiguration
from vernacular.tokens.extension import extend_tokenizer
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.training import train_tokenizer

OLD = [
    "The river isn't deep, but it's cold in winter.",
    "She counted 12345 stones and two boats by the shore.",
    "Der Wind weht über die Felder, und die Mühle dreht sich.",
]
NEW = {
    "hi": [
        "नदी के किनारे बच्चे पतंग उड़ाते हैं और गीत गाते हैं।",
        "हिन्दी में लिखना मुझे अच्छा लगता है, पढ़ना भी अच्छा लगता है।",
        "गाँव के पास एक पुराना कुआँ है, जिसका पानी मीठा है।",
        "क्‍षितिज पर सूर्य २०२४ में भी उगेगा।",
    ],
    "pl": [
        "Zażółć gęślą jaźń, powiedział źrebak do źrebięcia.",
        "Wieczorem słońce chowa się za górą, a gęsi śpią.",
        "Żółta łódka kołysze się przy brzegu, a łódka biała też się kołysze.",
    ],
}
KINDS = ("ours", "granite", "krutrim_2", "mistral", "llama", "no_begin")
ONLY_DEVANAGARI = {"scripts": ["Deva"]}


def make_old(kind: str, folder: Path, make_ours: Callable[[Path], Path]) -> Path:
    if kind == "ours":
        return make_ours(folder)
    published_folders.write_folder(folder, getattr(published_folders, kind)(OLD * 4))
    ChatTemplate.default().save(folder)
    return folder


def own_characters(ranges: list[str]) -> regex.Pattern[str]:
    """Matches the characters of ranges like `U+0900–U+097F`."""
    ends = [one.replace("U+", "").split("–") for one in ranges]
    inside = "".join(f"{chr(int(end[0], 16))}-{chr(int(end[-1], 16))}" for end in ends)
    return regex.compile(f"[{inside}]")


class Extended:
    """A tokenizer before and after, with its report and its map."""

    def __init__(self, old: Path, new: Path, report: dict[str, Any]) -> None:
        self.old, self.new, self.report = Tokenizer.load(old), Tokenizer.load(new), report
        self.ids = json.loads((new / "token_map.json").read_text(encoding="utf-8"))["ids"]

    def expanded(self, ids: list[int]) -> list[int]:
        """The old ids of new ones: each new token replaced by what it is made of."""
        parts = [self.ids[str(one)] for one in ids]
        return [old for part in parts for old in (part if isinstance(part, list) else [part])]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extension")


def write_documents(curated: Path, **splits: list[tuple[str, str]]) -> Path:
    """A curated artifact's documents, (language, text) rows by split."""
    for split, rows in splits.items():
        path = curated / "documents" / split / "00000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        names = [hashlib.sha256(text.encode()).hexdigest()[:32] for _, text in rows]
        columns = {"id": names, "language": [row[0] for row in rows], "text": [row[1] for row in rows]}
        parquet.write_table(pa.table(columns), path)
    return curated


@pytest.fixture(scope="module")
def extended(place: Path) -> Callable[[str, str], Extended]:
    """extended(kind, language): a tokenizer of this kind, trained on old text, with pieces for a new language."""
    made: dict[tuple[str, str], Extended] = {}

    def make_ours(folder: Path) -> Path:
        text = write_documents(place / "old-text", train=[("en", text) for text in OLD * 4])
        train_tokenizer(TokenizerConfiguration(vocab_size=340, reserved_tokens=2), text, folder)
        return folder

    def make(kind: str, language: str) -> Extended:
        if (kind, language) not in made:
            documents = write_documents(
                place / f"{kind}-{language}-text",
                train=[(language, f"{text} {number}") for number in range(5) for text in NEW[language]],
                heldout=[*((language, text) for text in NEW[language]), ("en", OLD[0])],
            )
            old, new = place / f"{kind}-{language}-old", place / f"{kind}-{language}-new"
            only_with = ONLY_DEVANAGARI if language == "hi" else {"characters": "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ"}
            settings_ = ExtendTokenizerConfiguration.model_validate({"new_pieces": 40, "only_with": only_with})
            report = extend_tokenizer(settings_, make_old(kind, old, make_ours), documents, new)
            made[kind, language] = Extended(old, new, report)
        return made[kind, language]

    return make


@pytest.mark.parametrize("language", NEW)
@pytest.mark.parametrize("kind", KINDS)
def test_old_tokens_keep_their_ids_and_new_ones_follow(
    kind: str, language: str, extended: Callable[[str, str], Extended]
) -> None:
    one = extended(kind, language)
    size = one.old.vocab_size
    assert one.new.vocab_size == size + 40 == one.report["vocab_size"]
    assert [one.new.token_text(number) for number in range(size)] == [
        one.old.token_text(number) for number in range(size)
    ]
    assert one.new.control_tokens == one.old.control_tokens
    assert one.new.begin_ids == one.old.begin_ids
    fit = one.report["languages"]
    assert fit[language]["after"]["tokens"] < fit[language]["before"]["tokens"]
    assert fit["en"]["after"]["tokens"] == fit["en"]["before"]["tokens"]
    assert fit["en"]["documents_with_the_same_ids"] == 1


TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from([word for texts in [*NEW.values(), OLD] for text in texts for word in text.split()])).map(
        " ".join
    ),
    st.text(alphabet="नदीकिरताहैं्।ािुूे ँ\u200d२zażółćęśia bcd\n", max_size=40),
)


@pytest.mark.parametrize("language", NEW)
@pytest.mark.parametrize("kind", KINDS)
def test_the_promises_hold_for_any_text(kind: str, language: str, extended: Callable[[str, str], Extended]) -> None:
    one = extended(kind, language)
    own = own_characters(one.report["ids_kept_without"])

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(TEXTS)
    def holds(text: str) -> None:
        old_ids, new_ids = one.old.encode(text), one.new.encode(text)
        assert one.expanded(new_ids) == old_ids
        assert one.new.decode(new_ids, skip_special=False) == one.old.decode(old_ids, skip_special=False)
        bare = own.sub("", text)
        assert one.new.encode(bare) == one.old.encode(bare)
        if kind != "llama":  # whose blank at the very beginning swallows one of the text's own, before and after
            assert one.new.decode(new_ids, skip_special=False) == text

    holds()


def test_what_is_promised_is_said_by_characters(extended: Callable[[str, str], Extended]) -> None:
    """A piece that is half a Devanagari character may begin any of 64, the danda among them."""
    assert extended("mistral", "hi").report["ids_kept_without"][0].startswith("U+0900–U+0950")
    assert "U+0900–U+097F" in extended("granite", "hi").report["ids_kept_without"]
    polish = extended("granite", "pl").report["ids_kept_without"]
    assert "U+0104–U+0107" in polish and "U+00D3" in polish


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_but_vocabulary_and_merges(
    kind: str, extended: Callable[[str, str], Extended], place: Path
) -> None:
    """Above all not where words and graphemes are cut; the old merges come first, in their order."""
    extended(kind, "hi")
    old, new = (
        json.loads((place / f"{kind}-hi-{age}" / "tokenizer.json").read_text(encoding="utf-8"))
        for age in ("old", "new")
    )
    for part in ("normalizer", "pre_tokenizer", "decoder", "post_processor"):
        assert new[part] == old[part]
    merges = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in old["model"]["merges"]]
    assert new["model"]["merges"][: len(merges)] == merges


def test_without_only_with_old_text_gets_shorter_and_still_expands(
    extended: Callable[[str, str], Extended], place: Path
) -> None:
    old = place / "granite-pl-old"
    extended("granite", "pl")
    configuration = ExtendTokenizerConfiguration(new_pieces=30)
    report = extend_tokenizer(configuration, old, place / "granite-pl-text", place / "any")
    one = Extended(old, place / "any", report)
    assert report["ids_kept_without"] is None
    for text in [*OLD, *NEW["pl"], *NEW["hi"]]:
        assert one.expanded(one.new.encode(text)) == one.old.encode(text)
    assert any(one.new.encode(text) != one.old.encode(text) for text in NEW["pl"])


def test_the_same_text_gives_the_same_bytes(extended: Callable[[str, str], Extended], place: Path) -> None:
    extended("ours", "hi")
    configuration = ExtendTokenizerConfiguration.model_validate({"new_pieces": 40, "only_with": ONLY_DEVANAGARI})
    extend_tokenizer(configuration, place / "ours-hi-old", place / "ours-hi-text", place / "again")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "token_map.json", "report.json"):
        assert (place / "again" / name).read_bytes() == (place / "ours-hi-new" / name).read_bytes()


@pytest.mark.parametrize("kind", ["ours", "granite", "krutrim_2", "llama"])
def test_transformers_reads_the_same_ids(kind: str, extended: Callable[[str, str], Extended], place: Path) -> None:
    transformers = pytest.importorskip("transformers")
    one = extended(kind, "hi")
    theirs = transformers.AutoTokenizer.from_pretrained(place / f"{kind}-hi-new")
    for text in [*NEW["hi"], *OLD]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == one.new.encode(text)


def test_too_many_pieces_are_refused_with_the_number_there_is(
    extended: Callable[[str, str], Extended], place: Path
) -> None:
    extended("granite", "hi")
    configuration = ExtendTokenizerConfiguration.model_validate({"new_pieces": 9000, "only_with": ONLY_DEVANAGARI})
    with pytest.raises(UserError, match=r"supports \d+ new pieces") as caught:
        extend_tokenizer(configuration, place / "granite-hi-old", place / "granite-hi-text", place / "too-many")
    most = int(regex.search(r"at most (\d+)", str(caught.value))[1])
    assert 40 < most < 9000


@pytest.mark.parametrize("script", ["Devanagri", "", "Deva}", "Klingon"])
def test_a_script_that_unicode_does_not_know_is_refused(
    script: str, extended: Callable[[str, str], Extended], place: Path
) -> None:
    extended("granite", "hi")
    configuration = ExtendTokenizerConfiguration.model_validate(
        {"new_pieces": 4, "only_with": {"scripts": [script], "characters": "ą"}}
    )
    with pytest.raises(UserError, match="no script") as caught:
        extend_tokenizer(configuration, place / "granite-hi-old", place / "granite-hi-text", place / "unknown")
    assert "Devanagari" in str(caught.value)


def change(old: Path, new: Path, **model: Any) -> Path:
    """A copy of a tokenizer folder whose BPE model says otherwise."""
    new.mkdir()
    for path in old.iterdir():
        content = path.read_text(encoding="utf-8")
        if path.name == "tokenizer.json":
            description = json.loads(content)
            description["model"] |= model
            content = json.dumps(description)
        (new / path.name).write_text(content, encoding="utf-8")
    return new


@pytest.mark.parametrize(
    ("kind", "model", "message"),
    [
        ("granite", {"dropout": 0.1}, "cuts a text by chance"),
        ("granite", {"end_of_word_suffix": "</w>"}, "end of words"),
        ("llama", {"byte_fallback": False}, "no bytes to fall back on"),
    ],
)
def test_what_cannot_be_promised_is_refused(
    kind: str,
    model: dict[str, Any],
    message: str,
    extended: Callable[[str, str], Extended],
    place: Path,
    tmp_path: Path,
) -> None:
    extended(kind, "hi")
    old = change(place / f"{kind}-hi-old", tmp_path / "old", **model)
    with pytest.raises(UserError, match=message):
        configuration = ExtendTokenizerConfiguration(new_pieces=4)
        extend_tokenizer(configuration, old, place / f"{kind}-hi-text", tmp_path / "new")


def test_whole_words_taken_without_merges_expand_too(
    extended: Callable[[str, str], Extended], place: Path, tmp_path: Path
) -> None:
    """Llama 3's `ignore_merges` takes a word that is in the vocabulary as it is."""
    extended("granite", "hi")
    old = change(place / "granite-hi-old", tmp_path / "old", ignore_merges=True)
    configuration = ExtendTokenizerConfiguration(new_pieces=60)
    one = Extended(
        old, tmp_path / "new", extend_tokenizer(configuration, old, place / "granite-hi-text", tmp_path / "new")
    )
    for text in [word for sentence in [*NEW["hi"], *OLD] for word in (sentence, *sentence.split())]:
        assert one.expanded(one.new.encode(text)) == one.old.encode(text)


def test_a_recipe_extends_and_plans_with_the_larger_vocabulary(tmp_path: Path, run_cli: Any) -> None:
    tiny_recipe.write_texts(tmp_path / "texts", documents=20)
    larger = {"do": "extend-tokenizer", "tokenizer": "tokenizer", "documents": "corpus", "new_pieces": 30}
    recipe = tiny_recipe.write_recipe(
        tmp_path / "tiny.yaml",
        tmp_path / "texts",
        tokenizer={"vocab_size": 350},
        larger={**larger, "only_with": {"scripts": ["Deva"]}},
        tokens={"tokenizer": "larger"},
    )
    planned = run_cli("plan", recipe, cwd=tmp_path).stdout
    # 2 · 380 · 32 for the embeddings and the head, 2 blocks of 9,280 weights, the last norm of 32.
    assert "42.91k" in planned
    run_cli("run", recipe, "--until", "tokens", cwd=tmp_path)
    report = json.loads((tmp_path / "runs" / "tiny" / "larger" / "report.json").read_text(encoding="utf-8"))
    fit = report["languages"]
    assert fit["hi"]["after"]["tokens"] < fit["hi"]["before"]["tokens"]
    assert fit["pl"]["documents_with_the_same_ids"] == fit["en"]["documents_with_the_same_ids"] == 1
    refused = run_cli("run", recipe, "stages.larger.only_with.script=[Deva]", cwd=tmp_path, code=2).stderr
    assert "did you mean 'scripts'" in refused
