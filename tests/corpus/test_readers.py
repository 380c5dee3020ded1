"""Every format read, and every way in which a file can be broken."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vernacular.corpus import reading
from vernacular.corpus.configuration import CurateConfiguration, Source
from vernacular.corpus.readers import stream
from vernacular.corpus.reading import Tally, read_batches
from vernacular.corpus.sources import find_files
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError

HINDI = "राम घर गया। उसने खाना खाया।"
POLISH = "Pada deszcz, a kot śpi na piecu."
TAMIL = "எங்கள் வீட்டின் அருகே ஒரு மரம்."


def rows(path: Path | str, *, strict: bool = False, **keys: Any) -> list[dict[str, Any]]:
    source = Source(name="s", path=str(path), **keys)
    return list(_rows(source, strict))


def _rows(source: Source, strict: bool = False) -> Iterator[dict[str, Any]]:
    for batch in read_batches(find_files((source,)).files, strict):
        yield from batch.to_pylist()


def texts(path: Path | str, **keys: Any) -> list[str | None]:
    return [row["text"] for row in rows(path, **keys)]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_plain_text_split_three_ways(tmp_path: Path, ending: str) -> None:
    raw = f"\ufeff{HINDI}\r\n{POLISH}\n\n \n{TAMIL}".encode()
    packed = {"": raw, ".gz": gzip.compress(raw), ".zst": zstandard.compress(raw)}[ending]
    path = write(tmp_path / f"a.txt{ending}", packed)
    assert texts(path) == [raw.decode("utf-8-sig")]
    assert texts(path, split="line") == [HINDI, POLISH, TAMIL]
    assert [row["line"] for row in rows(path, split="line")] == [1, 2, 5]
    paragraphs = rows(path, split="blank-lines")
    assert [row["text"] for row in paragraphs] == [f"{HINDI}\n{POLISH}", TAMIL]
    assert [row["provenance"] for row in paragraphs] == [f"a.txt{ending}:1", f"a.txt{ending}:5"]


def test_markdown_loses_its_front_matter_and_comments(tmp_path: Path) -> None:
    path = write(tmp_path / "a.md", f"---\ntitle: x\n---\n# Tytuł\n<!-- uwaga -->\n{POLISH}\n")
    assert texts(path) == [f"# Tytuł\n\n{POLISH}\n"]


def test_html_gives_the_main_text(tmp_path: Path) -> None:
    page = (
        '<html><head><meta charset="iso-8859-2"><title>t</title></head><body>'
        "<nav><a href='/'>Strona główna</a> <a href='/o'>O nas</a></nav>"
        f"<main><article><h1>Kot</h1><p>{POLISH}</p><p>Gęślą jaźń zażółć.</p></article></main>"
        "<footer>Wszelkie prawa zastrzeżone</footer></body></html>"
    )
    (text,) = texts(write(tmp_path / "a.html", page.encode("iso-8859-2")))
    assert text is not None
    assert POLISH in text
    assert "Gęślą jaźń" in text
    assert "O nas" not in text
    assert "zastrzeżone" not in text


def test_json_lines_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    lines = [
        json.dumps({"content": HINDI, "lang": "hin", "key": "k1"}, ensure_ascii=False).encode(),
        b'{"content": "unfinished',
        b"",
        b'{"content": "\xff\xfe bytes"}',
        b'{"other": "field"}',
        b'{"content": 5}',
        b"[1, 2]",
        b'{"content": "\\ud800 alone"}',
        b'{"content": "last"}',
    ]
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    found = rows(path, text="content", language_field="lang", id_field="key")
    assert [row["line"] for row in found] == [1, 2, 4, 5, 6, 7, 8, 9]
    assert found[0] | {"text": HINDI, "stated": "hin", "provenance": "a.jsonl:1 (k1)", "problem": None} == found[0]
    assert [row["text"] for row in found[1:]] == [None] * 6 + ["last"]
    for row, words in zip(
        found[1:7],
        ["not valid JSON", "not valid UTF-8 at byte 13", "no field 'content'", "is int, not text",
         "expected an object, found list", "lone surrogate"],
        strict=True,
    ):  # fmt: skip
        assert words in row["problem"]
    assert found[1]["bytes_in"] == len(lines[1])
    with pytest.raises(UserError, match="not valid JSON") as caught:
        rows(path, strict=True, text="content")
    assert caught.value.where == f"{path}:2"


TEXTS = st.text(max_size=40) | st.sampled_from(["", HINDI, "\U0001f600 x", 'a"b\\\\c/', "x" * 90, "\x7f\u2028"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.fixed_dictionaries(
    {}, optional={"text": TEXTS | VALUES, "id": TEXTS | VALUES, "lang": TEXTS | st.none(), "other": VALUES}
)


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    """A line of JSON, spelt in some way, and perhaps damaged."""
    spelt = json.dumps(
        draw(OBJECTS | VALUES),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", " : "), (" ,\t", ":\t")])),
    )
    raw = spelt.encode("utf-8", "surrogatepass") + draw(st.sampled_from([b"", b"", b" ", b"\r", b"x", b",", b"{}"]))
    if draw(st.integers(0, 3)) == 0 and raw:
        at = draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + draw(st.binary(max_size=2)).replace(b"\n", b"") + raw[at + draw(st.integers(0, 2)) :]
    return raw


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(json_lines(), min_size=1, max_size=6))
def test_json_lines_are_read_as_the_standard_library_reads_them(tmp_path: Path, lines: list[bytes]) -> None:
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    found = {row["line"]: row for row in rows(path, id_field="id", language_field="lang")}
    assert list(found) == [number for number, line in enumerate(lines, start=1) if line.strip()]
    for number, row in found.items():
        try:
            value = json.loads(lines[number - 1].removesuffix(b"\r").decode())
            text = value["text"]
            text.encode()
        except (ValueError, TypeError, KeyError, AttributeError, UnicodeEncodeError):
            assert (row["text"], row["problem"] is None) == (None, False)
        else:
            assert (row["text"], row["problem"], row["bytes_in"]) == (text, None, len(text.encode()))
            name = value.get("id")
            assert (row["name"] or None) == (None if name is None else str(name) or None)
            assert row["stated"] == value.get("lang")


def test_escapes_are_read_at_every_place_of_a_long_line(tmp_path: Path) -> None:
    """Many bytes are looked at together, so every character stands once at every place among them."""
    characters = f'{HINDI}é\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff😀\n\\"A'
    wanted = [("a" * shift + characters) * 3 for shift in range(70)]
    spelt = [json.dumps({"text": text}) for text in wanted]
    spelt = [line if number % 2 else line.replace("\\ud7", "\\uD7") for number, line in enumerate(spelt)]
    assert texts(write(tmp_path / "a.jsonl", "\n".join(spelt))) == wanted
    broken = [
        f'{{"text": "{"क" * shift}{piece}{"x" * 99}"}}' for shift in range(70) for piece in ("\\u12G4", "\\ud83d")
    ]
    escaped = [line.replace("क", "\\u0915") for line in broken]
    assert texts(write(tmp_path / "b.jsonl", "\n".join(escaped))) == [None] * len(broken)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=60)),
    st.integers(3, 40),
    st.sampled_from([None, ".gz", ".zst"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_blocks_are_whole_lines(lines: list[bytes], size: int, compression: str | None, mark: bytes) -> None:
    packed = {None: bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[compression]
    content = b"\n".join(lines).removeprefix(b"\xef\xbb\xbf")
    file = io.BytesIO(packed(mark + content))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream, "_CHUNK_BYTES", size)
        patched.setattr(stream, "_PIECE_BYTES", 7)
        found = [bytes(block) for block in stream.blocks(file, compression)]
    assert b"".join(found) == content
    assert all(block.endswith(b"\n") for block in found[:-1])


def test_a_line_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_CHUNK_BYTES", 16)
    monkeypatch.setattr(stream, "_LONGEST_LINE_BYTES", 100)
    assert [bytes(block) for block in stream.blocks(io.BytesIO(b"a" * 100), None)] == [b"a" * 100]
    with pytest.raises(UserError, match="longer than 1 GiB"):
        list(stream.blocks(io.BytesIO(b"a" * 101), None))


def test_long_files_keep_their_lines_and_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_CHUNK_BYTES", 1000)
    monkeypatch.setattr(reading, "_ROWS_PER_BATCH", 7)
    lines = [json.dumps({"text": f"{HINDI} {number}", "id": number or None}) for number in range(200)]
    lines[50], lines[51], lines[120] = "", "{broken", json.dumps({"text": "a", "id": 1.5, "text ": 2})
    path = write(tmp_path / "a.jsonl.gz", gzip.compress("\n".join(lines).encode()))
    found = rows(path, id_field="id")
    assert [row["line"] for row in found] == [number for number in range(1, 201) if number != 51]
    assert [row["row"] for row in found] == list(range(199))
    assert {row["line"]: row["name"] for row in found if row["line"] in (1, 2, 121)} == {1: None, 2: "1", 121: "1.5"}
    assert found[1]["provenance"] == "a.jsonl.gz:2 (1)"
    assert [row["line"] for row in found if row["problem"]] == [52]


def test_tables(tmp_path: Path) -> None:
    comma = write(
        tmp_path / "a.csv", f'id,text,lang\n1,"{POLISH}\nDruga ""linia""",pl\n2,{HINDI},hi\n3,x\n4,{TAMIL},ta'
    )
    found = rows(comma, language_field="lang")
    assert [row["text"] for row in found] == [f'{POLISH}\nDruga "linia"', HINDI, None, TAMIL]
    assert [row["line"] for row in found] == [2, 4, 5, 6]
    assert [row["stated"] for row in found] == ["pl", "hi", None, "ta"]
    tabs = write(tmp_path / "b.tsv", f'{POLISH}\tIt "rains\n'.encode() + b"\xff\tx\n" + f"{HINDI}\tHe ate\n".encode())
    assert texts(tabs, text=1) == ['It "rains', None, "He ate"]
    assert texts(tabs, text=0) == [POLISH, None, HINDI]
    with pytest.raises(UserError, match="no column 'tekst'") as caught:
        rows(comma, text="tekst")
    assert "did you mean 'text'" in str(caught.value)


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"body": [HINDI, None, POLISH], "lang": ["hi", "hi", "pl"], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = rows(tmp_path / "a.parquet", text="body", language_field="lang")
    assert [(row["text"], row["line"], row["stated"]) for row in found[::2]] == [(HINDI, 1, "hi"), (POLISH, 3, "pl")]
    assert "NoneType, not text" in found[1]["problem"]
    with pytest.raises(UserError, match="no column 'text'"):
        rows(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        rows(write(tmp_path / "bad.parquet", b"PAR1 nonsense"))


def test_saved_datasets(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    dataset = Dataset.from_dict({"text": [HINDI, POLISH]})
    dataset.save_to_disk(tmp_path / "one")
    DatasetDict({"train": dataset, "test": dataset.select([1])}).save_to_disk(tmp_path / "two")
    assert texts(tmp_path / "one") == [HINDI, POLISH]
    of_split = Source(name="s", huggingface=str(tmp_path / "two"), split="test")
    assert [row["text"] for row in _rows(of_split)] == [POLISH]
    with pytest.raises(UserError, match="no split 'dev'") as caught:
        list(_rows(Source(name="s", huggingface=str(tmp_path / "two"), split="dev")))
    assert "train, test" in str(caught.value)


def test_urls() -> None:
    with fsspec.open("memory://corpus/a.jsonl", "wb") as file:
        file.write(json.dumps({"text": HINDI}).encode())
    assert texts("memory://corpus") == [HINDI]
    with pytest.raises(UserError, match="no such file or folder"):
        rows("memory://nowhere/at-all")
    with pytest.raises(UserError, match="not a path or URL"):
        rows("nonsense://x/y")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt.zst"])
@pytest.mark.parametrize("cut", [0.6, 0.97])
def test_of_an_archive_cut_short_what_comes_before_is_read(tmp_path: Path, name: str, cut: float) -> None:
    raw = "".join(json.dumps({"text": f"{POLISH} {number}"}) + "\n" for number in range(3000)).encode()
    packed = gzip.compress(raw) if name.endswith(".gz") else zstandard.compress(raw)
    path = write(tmp_path / name, packed[: int(len(packed) * cut)])
    *read, last = rows(path)
    assert last["text"] is None and "damaged or cut short" in last["problem"] and last["line"] == len(read) + 1
    with pytest.raises(UserError, match="damaged or cut short") as caught:
        rows(path, strict=True)
    assert str(caught.value.where).startswith(str(path))


def test_zstandard_of_several_frames(tmp_path: Path) -> None:
    raw = [json.dumps({"text": word}).encode() + b"\n" for word in ("raz", "dwa", "trzy")]
    path = write(tmp_path / "a.jsonl.zst", b"".join(zstandard.compress(line) for line in raw))
    assert texts(path) == ["raz", "dwa", "trzy"]


def test_whole_frames_before_one_that_is_cut_short(tmp_path: Path) -> None:
    frames = [zstandard.compress(json.dumps({"text": word}).encode() + b"\n") for word in ("raz", "dwa", "trzy")]
    path = write(tmp_path / "a.jsonl.zst", frames[0] + frames[1] + frames[2][:-5])
    found = rows(path)
    assert [row["text"] for row in found] == ["raz", "dwa", None]
    assert found[-1]["problem"]


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", POLISH.encode() + b"\nz\xb3y wiersz\n" + HINDI.encode())
    (whole,) = rows(path)
    assert whole["text"] is None
    assert "(line 2)" in whole["problem"]
    assert [row["problem"] is None for row in rows(path, split="line")] == [True, False, True]
    assert "UTF-16" in rows(write(tmp_path / "b.txt", POLISH.encode("utf-16")))[0]["problem"]
    with pytest.raises(UserError, match="not valid UTF-8"):
        rows(path, strict=True)


def test_a_folder_of_mixed_formats(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", POLISH)
    write(tmp_path / "sub" / "b.jsonl.gz", gzip.compress(json.dumps({"text": HINDI}).encode()))
    write(tmp_path / "sub" / "c.md", TAMIL)
    write(tmp_path / "SOURCE", "where it came from")
    write(tmp_path / ".hidden" / "d.txt", "no")
    found = find_files((Source(path=str(tmp_path)),))
    assert [file.name for file in found.files] == ["a.txt", "sub/b.jsonl.gz", "sub/c.md"]
    assert found.not_read == [{"source": tmp_path.name, "file": "SOURCE", "why": "its name has no extension"}]
    assert texts(tmp_path) == [POLISH, HINDI, TAMIL]
    assert texts(f"{tmp_path}/sub/*.md") == [TAMIL]
    write(tmp_path / "picture.png", b"\x89PNG")
    with pytest.raises(UserError, match="format of this file is unknown") as caught:
        rows(tmp_path)
    assert caught.value.where == str(tmp_path / "picture.png")
    assert "only:" in str(caught.value.fix)
    assert texts(tmp_path, only=("*.txt",)) == [POLISH]
    assert texts(tmp_path, only=("sub/*",)) == [HINDI, TAMIL]
    assert texts(tmp_path / "picture.png", format="text", split="line") == [None]


@pytest.mark.parametrize(
    ("path", "words"),
    [("missing.txt", "no such file"), ("*.jsonl", "no file fits"), ("empty", "holds no files"), ("a.xyz", "format")],
)
def test_nothing_to_read_is_refused(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.xyz", "?")
    with pytest.raises(UserError, match=words):
        rows(tmp_path / path)


def test_a_folder_where_nothing_fits_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "LICENCE", "x")
    with pytest.raises(UserError, match="none of the files"):
        rows(tmp_path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"name": "x"}, "exactly one of path, huggingface, synthetic and endpoint"),
        ({"path": "a", "huggingface": "b/c"}, "given: path and huggingface"),
        ({"path": "a", "split": "train"}, "split must be document, line, blank-lines or chapter"),
        ({"path": "a", "language": "hindi!"}, "pattern"),
        ({"path": "a", "language": "hi", "language_field": "l"}, "not both"),
        ({"path": "a", "fromat": "text"}, "unknown key 'fromat'"),
    ],
)
def test_sources_that_make_no_sense_are_refused(source: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        validate(CurateConfiguration, {"sources": [source]})


def test_sources_are_named_by_their_path() -> None:
    configuration = validate(CurateConfiguration, {"sources": [{"path": "data/books/"}, {"huggingface": "org/set"}]})
    assert [source.name for source in configuration.sources] == ["books", "set"]
    with pytest.raises(UserError, match="two sources are called 'a'"):
        validate(CurateConfiguration, {"sources": [{"path": "x/a"}, {"path": "y/a"}]})


def test_what_is_read_is_counted() -> None:
    tally = Tally()
    tally.add("a", 2, 10)
    tally.add("a", 1, 5)
    assert (tally.records["a"], tally.bytes["a"]) == (3, 15)
