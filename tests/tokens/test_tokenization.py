"""Documents and conversations become shards: all of them, counted by language, broken lines set aside by number."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import regex

from vernacular.foundation.errors import UserError
from vernacular.tokens.configuration import ConversationsConfiguration, TokenizeConfiguration
from vernacular.tokens.mixed_rows import open_cells
from vernacular.tokens.shards import ShardReader
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.tokenization import tokenize_conversations, tokenize_documents
from vernacular.tokens.tokenizer import Tokenizer

ROWS = [("hi", "नदी <|end|> बहती है।\n"), ("th", "แม่น้ำไหล"), ("pl", "Rzeka płynie"), ("hi", "घर")]


def chat(question: str, answer: str, **further: object) -> dict[str, object]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, **further}


def test_documents_come_back_from_their_tokens(
    make_curated: Callable[..., Path], tokenizer_folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    curated = make_curated(train=ROWS, heldout=[("ta", "மழை")])
    summary = tokenize_documents(TokenizeConfiguration(tokens_per_shard=30), curated, tokenizer_folder, tmp_path / "t")
    reader = ShardReader.open(tmp_path / "t", "train", verify=True)
    reader.require_tokenizer(tokenizer)
    by_language = sorted(ROWS, key=lambda row: row[0])  # a shard holds one language
    for number, (_, text) in enumerate(by_language):
        ids = reader.slice(*reader.document_range(number)).tolist()
        assert ids[0] == tokenizer.begin_id
        assert ids[-1] == tokenizer.end_id
        assert tokenizer.end_id not in ids[:-1]
        assert tokenizer.decode(ids) == text
    assert ShardReader.open(tmp_path / "t", "heldout").num_documents == 1
    assert summary["splits"]["train"]["tokens"] == reader.num_tokens


def test_languages_are_counted(make_curated: Callable[..., Path], tokenizer_folder: Path, tmp_path: Path) -> None:
    curated = make_curated(train=ROWS)
    configuration = TokenizeConfiguration(splits=("train",))
    summary = tokenize_documents(configuration, curated, tokenizer_folder, tmp_path / "t")
    counts = summary["splits"]["train"]["languages"]
    hindi = [text for language, text in ROWS if language == "hi"]
    assert counts["hi"]["documents"] == 2
    assert counts["hi"]["bytes"] == sum(len(text.encode()) for text in hindi)
    assert counts["hi"]["graphemes"] == sum(len(regex.findall(r"\X", text)) for text in hindi)
    assert counts["hi"]["words"] == 5  # "end" is written out in one of them
    assert counts["th"]["tokens_per_word"] is None
    index = json.loads((tmp_path / "t" / "index.json").read_text())
    assert index["dtype"] == "uint16"
    assert index["splits"]["train"]["languages"]["pl"]["tokens"] == counts["pl"]["tokens"]


def test_documents_are_parted_by_quality(
    make_curated: Callable[..., Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    curated = make_curated(train=ROWS)
    path = next((curated / "documents/train").glob("*.parquet"))
    table = parquet.read_table(path)
    names = table.schema.names
    graded = table.drop_columns(["quality"]) if "quality" in names else table
    quality = {ROWS[0][1]: 0.97, ROWS[1][1]: None, ROWS[2][1]: 0.9, ROWS[3][1]: 0.95}
    column = pa.array([quality[text] for text in graded["text"].to_pylist()], pa.float32())
    parquet.write_table(graded.append_column("quality", column), path)
    configuration = TokenizeConfiguration(splits=("train",), quality_bands=(0.92, 0.95))
    summary = tokenize_documents(configuration, curated, tokenizer_folder, tmp_path / "t")
    cells = summary["splits"]["train"]["cells"]
    assert {name.split(":", 1)[1]: cell["documents"] for name, cell in cells.items()} == {
        "hi:0.95+": 2,
        "pl:0+": 1,
        "th:ungraded": 1,
    }
    assert sum(cell["tokens"] for cell in cells.values()) == summary["splits"]["train"]["tokens"]
    assert sum(cell["bytes"] for cell in cells.values()) == sum(len(text.encode()) for _, text in ROWS)
    rows = open_cells({"t": tmp_path / "t"}, "train", "quality", 8)
    assert list(rows.sizes) == ["0+", "0.95+", "ungraded"]
    for bands in ((0.95, 0.92), (1.0,), (0.5, 0.5)):
        with pytest.raises(ValueError, match="each above the one before"):
            TokenizeConfiguration(quality_bands=bands)


def test_a_split_that_is_not_there_is_refused_before_anything_is_written(
    make_curated: Callable[..., Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    curated = make_curated(train=ROWS)
    with pytest.raises(UserError, match="'heldout'"):
        tokenize_documents(TokenizeConfiguration(), curated, tokenizer_folder, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_conversations_carry_their_weights(
    make_jsonl: Callable[[Sequence[object]], Path], tokenizer_folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = make_jsonl([chat("कौन?", "मैं", weight=0.5, language="hi", id="पहला"), chat("Kto?", "ja", source="mine")])
    summary = tokenize_conversations(path, tokenizer_folder, tmp_path / "t")
    reader = ShardReader.open(tmp_path / "t", "train", verify=True)
    template = ChatTemplate.load(tokenizer_folder)
    for number, weight in enumerate((0.5, 1.0)):
        record = json.loads(path.read_text().splitlines()[number])
        ids, weights = template.encode_for_training(tokenizer, record["messages"])
        start, stop = reader.document_range(number)
        assert reader.slice(start, stop).tolist() == ids
        assert reader.weights(start, stop).tolist() == [weight * mask for mask in weights]
    assert summary["splits"]["train"]["languages"].keys() == {"hi", "und"}
    assert summary["template_hash"] == template.hash == reader.template_hash
    listed = [json.loads(line) for line in (tmp_path / "t" / "train" / "conversations.jsonl").read_text().splitlines()]
    assert listed[0]["id"] == "पहला"
    assert [entry["name"] for entry in listed] == [reader.document_name(0), reader.document_name(1)]


BROKEN = [
    ('{"messages": [', "not valid JSON"),
    ('{"messages": []}', "not a conversation"),
    ('["a"]', "not a conversation"),
    ('{"messages": [{"role": "usr", "content": "a"}]}', "unknown role 'usr'"),
    ('{"messages": [{"role": "user", "content": "a"}]}', "does not end with"),
    ('{"messages": [{"role": "user", "content": "\\ud83d"}]}', "surrogate"),
    (json.dumps(chat("a", "")), "is empty"),
    (json.dumps(chat("a", "b", weight=0)), "'weight' is not a number above 0"),
    (json.dumps(chat("a", "b", id=7)), "'id' is not a text"),
]


def test_broken_lines_are_quarantined_with_their_numbers(tokenizer_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    lines = [json.dumps(chat("a", "b")).encode(), b"", *(line.encode() for line, _ in BROKEN), b"\xff\xfe"]
    path.write_bytes(b"\n".join(lines))
    summary = tokenize_conversations(path, tokenizer_folder, tmp_path / "t")
    quarantined = [json.loads(line) for line in (tmp_path / "t" / "quarantine.jsonl").read_text().splitlines()]
    assert summary["quarantined"] == len(BROKEN) + 1
    assert {entry["line"] for entry in quarantined} == set(range(3, len(BROKEN) + 4))
    errors = {entry["line"]: entry["error"] for entry in quarantined}
    for number, (_, reason) in enumerate(BROKEN, start=3):
        assert reason in errors[number]
    assert "UTF-8" in errors[len(BROKEN) + 3]
    assert ShardReader.open(tmp_path / "t", "train").num_documents == 1


@pytest.mark.parametrize(("line", "reason"), BROKEN)
def test_a_broken_line_stops_a_strict_run_by_file_and_line(
    tokenizer_folder: Path, tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(chat("a", "b")) + "\n" + line + "\n")
    with pytest.raises(UserError, match=reason) as refused:
        tokenize_conversations(path, tokenizer_folder, tmp_path / "t", ConversationsConfiguration(strict=True))
    assert refused.value.where == f"{path}:2"
    assert not list((tmp_path / "t").rglob("*.bin"))
    assert not (tmp_path / "t" / "index.json").exists()


def test_a_template_that_cannot_be_masked_stops_the_run(
    make_jsonl: Callable[[Sequence[object]], Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "other")
    source = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    (tmp_path / "other" / "chat_template.jinja").write_text(source)
    with pytest.raises(UserError, match="cannot be masked") as refused:
        tokenize_conversations(make_jsonl([chat("a", "b")]), tmp_path / "other", tmp_path / "t")
    assert str(refused.value.where).endswith("chat_template.jinja")


def test_nothing_usable_is_refused(
    make_jsonl: Callable[[Sequence[object]], Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    conversations = make_jsonl([{"messages": 1}, {"messages": 2}])
    with pytest.raises(UserError, match="no conversation can be used; 2 malformed") as caught:
        tokenize_conversations(conversations, tokenizer_folder, tmp_path / "t")
    # A stage that fails leaves nothing, so the list of them is gone: the first is told at its line.
    assert caught.value.where == f"{conversations}:1"
    assert caught.value.fix is not None
    assert caught.value.fix.startswith("mend the first of them: ")
    with pytest.raises(UserError, match="file not found"):
        tokenize_conversations(tmp_path / "none.jsonl", tokenizer_folder, tmp_path / "u")


def test_a_share_is_held_out_by_id(
    make_jsonl: Callable[[Sequence[object]], Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    path = make_jsonl([chat(f"pytanie {number}", "odpowiedź") for number in range(300)])
    configuration = ConversationsConfiguration(heldout_fraction=0.2)
    first = tokenize_conversations(path, tokenizer_folder, tmp_path / "t", configuration)
    assert 30 < first["splits"]["heldout"]["documents"] < 90
    assert first["splits"]["heldout"]["documents"] + first["splits"]["train"]["documents"] == 300
    assert tokenize_conversations(path, tokenizer_folder, tmp_path / "u", configuration) == first
