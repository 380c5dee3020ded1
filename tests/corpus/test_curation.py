"""The whole of curation: files in, artifact out, and an account that balances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from small_corpora import configuration, hindi, polish, write_lines
from vernacular.corpus.curation import curate
from vernacular.corpus.document import DOCUMENT_SCHEMA, REMOVED_SCHEMA, document_files, document_id
from vernacular.corpus.report import Account, label_figures
from vernacular.corpus.writing import ShardWriter
from vernacular.foundation.artifact import collect_outputs, digest_outputs
from vernacular.foundation.errors import InternalError, UserError


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def all_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def id_at(folder: Path, place: str) -> str:
    """The id of the record that stood at `file:line`."""
    return next(row["id"] for row in rows(folder / "logs" / "places") if row["provenance"] == place)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    good = [{"text": polish(number)} for number in range(40)] + [{"text": hindi(number)} for number in range(40)]
    long = " ".join(polish(number) for number in range(0, 40, 4))
    bad: list[dict[str, Any] | str] = [
        {"text": polish(3)},
        {"text": f"  {hindi(4)} "},
        {"text": long},
        {"text": long.removesuffix(" dzień numer 36.")},
        {"text": "Zn\ufffdki zgu\ufffdione w tym zda\ufffdiu na zaw\ufffdze."},
        {"text": "Heute Morgen spielten die Kinder am Fluss, und ihre Mutter kochte zu Hause das Essen."},
        "{broken",
        {"text": ""},
        {"tekst": "nie to pole"},
    ]
    write_lines(folder / "good.jsonl", good)
    write_lines(folder / "bad.jsonl", bad)
    (folder / "README").write_text("a note")
    return folder


@pytest.fixture(scope="module")
def curated(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated")
    curate(configuration({"name": "mix", "path": str(sources)}, languages=["pl", "hi"]), folder)
    return folder


def test_the_artifact(curated: Path) -> None:
    train, heldout = rows(curated / "documents" / "train"), rows(curated / "documents" / "heldout")
    assert pq.read_schema(document_files(curated, "train")[0]).equals(DOCUMENT_SCHEMA)
    assert pq.read_schema(curated / "removed" / "00000.parquet").equals(REMOVED_SCHEMA)
    assert [row["id"] for row in train] == sorted(row["id"] for row in train)
    assert {row["text"] for row in train + heldout} >= {polish(0), hindi(39)}
    for row in train + heldout:
        assert row["id"] == document_id(row["text"])
        assert (row["language"], row["script"]) in {("pl", "Latn"), ("hi", "Deva")}
        assert row["source"] == "mix"
        assert row["quality"] is None
    assert not {row["id"] for row in train} & {row["id"] for row in heldout}
    assert all(sum(row["language"] == code for row in heldout) >= 8 for code in ("pl", "hi"))
    assert sorted(path.name for path in curated.iterdir()) == [
        "documents",
        "logs",
        "removed",
        "report.html",
        "report.json",
    ]
    with pytest.raises(UserError, match="no documents of the split 'test'"):
        document_files(curated, "test")


def test_removed_documents_keep_their_reason(curated: Path) -> None:
    removed: dict[str, list[dict[str, Any]]] = {}
    for row in rows(curated / "removed"):
        removed.setdefault(row["id"], []).append(row)
    expected = {
        "bad.jsonl:1": "exact_duplicate",  # of good.jsonl:4, interchangeable with it
        "bad.jsonl:2": "exact_duplicate",
        "bad.jsonl:4": "near_duplicate",
        "bad.jsonl:5": "broken_encoding",
        "bad.jsonl:6": "wrong_language",
        "bad.jsonl:8": "empty",
    }
    found = {place: removed[id_at(curated, place)] for place in expected}
    assert {place: [row["reason"] for row in gone] for place, gone in found.items()} == {
        place: [reason] for place, reason in expected.items()
    }
    assert sum(map(len, removed.values())) == len(expected)
    assert found["bad.jsonl:1"][0]["detail"] == "the same text as one of mix"
    assert found["bad.jsonl:4"][0]["detail"].endswith(f"to {id_at(curated, 'bad.jsonl:3')}")
    assert found["bad.jsonl:6"][0]["detail"].startswith("de, probability")
    broken = [json.loads(line) for line in (curated / "logs" / "quarantine.jsonl").read_text().splitlines()]
    assert [(entry["file"], entry["line"]) for entry in broken] == [("bad.jsonl", 7), ("bad.jsonl", 9)]
    assert "no field 'text'" in broken[1]["error"]


def test_every_record_has_a_place(curated: Path) -> None:
    places = rows(curated / "logs" / "places")
    assert len(places) == 87
    assert {row["provenance"] for row in places if row["id"] == document_id(polish(3))} == {
        "bad.jsonl:1",
        "good.jsonl:4",
    }
    ids = [row["id"] for row in places]
    assert ids == sorted(ids)


def test_a_document_is_called_what_its_source_calls_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_lines(tmp_path / "in" / "a.jsonl", [{"text": polish(1), "url": "https://a.example/1"}, {"text": polish(2)}])
    (tmp_path / "in" / "b.txt").write_text(hindi(5))
    curate(configuration({"path": str(tmp_path / "in"), "id_field": "url"}), tmp_path / "out")
    named = {row["text"]: row["provenance"] for row in rows(tmp_path / "out" / "documents" / "train")}
    assert named == {polish(1): "https://a.example/1", polish(2): "", hindi(5): "b.txt"}


def test_the_account_balances(curated: Path, sources: Path) -> None:
    report = json.loads((curated / "report.json").read_text())
    for part in (report, *report["sources"].values()):
        for unit in ("documents", "bytes"):
            assert part["in"][unit] == part["kept"][unit] + part["removed"][unit] + part["quarantined"][unit]
            assert part["kept"][unit] == part["kept"]["train"][unit] + part["kept"]["heldout"][unit]
            assert part["removed"][unit] == sum(figures[unit] for figures in part["removed"]["reasons"].values())
    assert report["in"]["documents"] == 89
    assert report["quarantined"] == {"documents": 2, "bytes": len("{broken") + len('{"tekst": "nie to pole"}')}
    assert report["removed"]["reasons"]["exact_duplicate"]["documents"] == 2
    assert report["languages"]["de"]["removed"]["documents"] == 1
    not_read = json.loads((curated / "logs" / "not_read.json").read_text())
    assert not_read == [{"source": "mix", "file": "README", "why": "its name has no extension"}]
    kept = rows(curated / "documents" / "train") + rows(curated / "documents" / "heldout")
    assert report["kept"]["bytes_after_normalisation"] == sum(len(row["text"].encode()) for row in kept)
    cells = report["cells"]
    assert sum(cell["in"]["documents"] for cell in cells) == 87
    for key in ("documents", "bytes"):
        assert sum(cell["train"][key] for cell in cells) == report["kept"]["train"][key]
    german = [cell for cell in cells if cell["language"] == "de"]
    assert [(cell["in"]["documents"], cell["train"]["documents"]) for cell in german] == [(1, 0)]


def test_the_same_text_in_other_files_gives_the_same_artifact(curated: Path, sources: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    curate(configuration({"name": "mix", "path": str(sources)}, languages=["pl", "hi"]), again)
    assert all_files(again) == all_files(curated)
    lines = [line for name in ("bad", "good") for line in (sources / f"{name}.jsonl").read_text().splitlines()]
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for part in range(4):
        (shuffled / f"{part}.jsonl").write_text("\n".join(lines[::-1][part::4]))
    other = tmp_path / "other"
    curate(configuration({"name": "mix", "path": str(shuffled)}, languages=["pl", "hi"]), other)
    assert digest_outputs(collect_outputs(other)) == digest_outputs(collect_outputs(curated))
    assert all_files(other) != all_files(curated), "the logs say where each record stood"


def test_what_is_at_once_in_memory_makes_no_difference(
    curated: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vernacular.corpus.curation as curation
    import vernacular.corpus.reading as reading
    import vernacular.corpus.runs as runs
    import vernacular.corpus.spill as spill

    monkeypatch.setattr(curation, "_COPIES_OF_A_PART", 1_000_000)
    monkeypatch.setattr(spill, "_BYTES_TO_SORT", 10_000_000)
    monkeypatch.setattr(reading, "_BYTES_PER_RUN", 4000)
    monkeypatch.setattr(reading, "_ROWS_PER_BATCH", 5)
    monkeypatch.setattr(runs, "_ROWS_PER_BATCH", 3)
    small = {"memory": "1GB", "workers": 1}
    curate(configuration({"name": "mix", "path": str(sources)}, languages=["pl", "hi"], engine=small), tmp_path)
    assert all_files(tmp_path) == all_files(curated)


def test_memory_too_small_for_the_workers_is_refused(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too little for 4 processes") as caught:
        curate(configuration({"path": str(sources)}, engine={"memory": "1 GB", "workers": 4}), tmp_path)
    assert caught.value.where == "engine.memory"
    with pytest.raises(UserError, match="600MB of memory are too little for a process"):
        curate(configuration({"path": str(sources)}, engine={"memory": "600MB"}), tmp_path)


def test_curating_again_replaces_what_was_there(sources: Path, tmp_path: Path) -> None:
    curate(configuration({"path": str(sources)}, languages=["pl", "hi"]), tmp_path)
    curate(configuration({"path": str(sources)}, languages=["pl"]), tmp_path)
    kept = rows(tmp_path / "documents" / "train") + rows(tmp_path / "documents" / "heldout")
    assert {row["language"] for row in kept} == {"pl"}


def test_strict_stops_at_the_first_broken_record(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not valid JSON") as caught:
        curate(configuration({"path": str(sources)}, strict=True), tmp_path)
    assert caught.value.where == f"{sources / 'bad.jsonl'}:7"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_empty_corpus_is_refused_with_the_reasons(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "Tak."}, {"text": "Nie."}, {"text": ""}, "{"])
    with pytest.raises(UserError, match="the corpus is empty: removed: too_short: 2, ") as caught:
        curate(configuration({"path": str(path)}), tmp_path / "out")
    assert "empty: 1" in str(caught.value)
    assert "broken record: 1" in str(caught.value)
    (tmp_path / "none.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="the sources hold no documents"):
        curate(configuration({"path": str(tmp_path / "none.jsonl")}), tmp_path / "out")
    (tmp_path / "none.jsonl").write_text("{\n")
    with pytest.raises(
        UserError, match=r"removed: broken record: 1; the first broken record is none.jsonl:1: not valid JSON"
    ):
        curate(configuration({"path": str(tmp_path / "none.jsonl")}), tmp_path / "out")


def test_a_language_absent_from_the_text_is_refused(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no document in ta is left; the text has pl: \d+, hi: \d+") as caught:
        curate(configuration({"path": str(sources)}, languages=["pl", "hi", "ta"]), tmp_path)
    assert "take it off `languages`" in str(caught.value)


def test_an_archive_cut_short_is_set_aside_or_stops_a_strict_run(sources: Path, tmp_path: Path) -> None:
    import gzip

    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress((sources / "good.jsonl").read_bytes())[:-30])
    given = ({"path": str(sources)}, {"path": str(cut)})
    curate(configuration(*given), tmp_path / "out")
    assert "damaged or cut short" in (tmp_path / "out" / "logs" / "quarantine.jsonl").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="damaged or cut short"):
        curate(configuration(given[1], strict=True), tmp_path / "strict")


def test_labelled_noise_is_found(tmp_path: Path) -> None:
    generated = {"synthetic": {"documents": 900, "conversations": 60, "items": 4}}
    summary = curate(configuration(generated, languages=["hi", "pl", "en"]), tmp_path)
    assert summary["labels"]["noise_removed"] >= 0.95
    assert summary["labels"]["clean_kept"] >= 0.98
    assert summary["labels"]["precision"] >= 0.95
    report = json.loads((tmp_path / "report.json").read_text())
    assert sum(figures["documents"] for figures in report["labels"]["by_label"].values()) == report["in"]["documents"]
    assert len((tmp_path / "conversations.jsonl").read_text().splitlines()) == summary["conversations"] == 60
    assert summary["tasks"]
    for name in summary["tasks"]:
        assert (tmp_path / "tasks" / f"{name}.yaml").is_file()
    assert set(pq.read_schema(document_files(tmp_path, "train")[0]).names) == set(DOCUMENT_SCHEMA.names)


def test_figures_of_labels() -> None:
    figures = label_figures(
        [
            ("clean", "1", "train"),
            ("clean", "2", "near_duplicate"),  # its copy is kept instead: it counts as kept, the copy as handled
            ("near_duplicate", "2", "heldout"),
            ("clean", "3", "train"),
            ("exact_duplicate", "3", "train"),  # both survive: not handled
            ("repairable", "4", "broken_encoding"),  # lost
            ("spam", "5", "spam"),
            ("boilerplate", "6", "train"),  # missed
        ]
    )
    assert figures["clean_kept"] == pytest.approx(3 / 4)
    assert figures["noise_removed"] == pytest.approx(2 / 4)
    assert figures["precision"] == pytest.approx(2 / 3, abs=1e-6)
    assert figures["by_label"]["near_duplicate"]["right"] == 1


def test_a_document_unaccounted_for_is_an_error() -> None:
    from vernacular.corpus.reading import Tally

    columns = {"source": ["a"], "language": ["pl"], "outcome": ["train"], "bytes_in": [5], "bytes_out": [5]}
    account = Account()
    account.add(pa.table({**columns, "label": pa.nulls(1, pa.string()), "group": pa.nulls(1, pa.string())}))
    tally = Tally()
    tally.add("a", 1, 5)
    account.check(tally)
    tally.add("a", 1, 0)
    with pytest.raises(InternalError, match="2 documents of 'a' went in, but 1 are accounted for"):
        account.check(tally)


def test_files_are_cut_at_the_same_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vernacular.corpus.writing as writing

    monkeypatch.setattr(writing, "_BYTES_PER_FILE", 100)
    schema = pa.schema([pa.field("text", pa.string())])
    texts = ["x" * length for length in (60, 30, 20, 150, 5, 5, 95)]
    for name, batches in (("one", [texts]), ("many", [[text] for text in texts])):
        with ShardWriter(tmp_path / name, schema) as writer:
            for batch in batches:
                writer.add(pa.table({"text": pa.array(batch, pa.large_string())}))
    files = sorted((tmp_path / "one").iterdir())
    sizes = [[len(row["text"]) for row in pq.read_table(path).to_pylist()] for path in files]
    assert sizes == [[60, 30], [20], [150], [5, 5], [95]]
    assert all_files(tmp_path / "one") == all_files(tmp_path / "many")


def test_real_stories_survive(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "text" / "pratham_books"
    if not folder.is_dir():
        pytest.skip("needs the stories in ../shared/data/text/pratham_books, which are not here")
    summary = curate(configuration({"path": str(folder)}), tmp_path)
    duplicates = sum(summary["removed"].get(reason, 0) for reason in ("exact_duplicate", "near_duplicate"))
    assert summary["documents"] >= 0.98 * (summary["documents_in"] - duplicates)
    assert {"hi", "bn", "en", "gu", "kn", "ml", "mr", "or", "pa", "sa", "ta", "te", "as"} <= set(summary["languages"])
    assert summary["quarantined"] == 0
