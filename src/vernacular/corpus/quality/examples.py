"""What a classifier learns from: documents with grades that people or a file gave, and copies damaged on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from vernacular.corpus.document import document_files, document_id
from vernacular.corpus.languages import canonical_language
from vernacular.corpus.quality.configuration import GRADES, TrainQualityConfiguration
from vernacular.corpus.quality.labelling.store import LabelStore
from vernacular.corpus.quality.weak_labels import HIGH, Example, damaged_copies
from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import read_text

_SQLITE = b"SQLite format 3\0"


def gather(configuration: TrainQualityConfiguration, documents: Path, labels: Path | None) -> list[Example]:
    """All examples, in order of their documents' ids.

    Without labels every document is taken to be HIGH, and is damaged. With labels only what they say is learnt from,
    and the documents that they call HIGH are damaged.

    Args:
        configuration: which damage, how many documents.
        documents: a curated artifact.
        labels: the file of `vernacular label`, or JSON Lines.

    Raises:
        UserError: a label is malformed, names a document that is not there, or there is nothing to learn from.
    """
    told = _read_labels(labels) if labels is not None else None
    if told is None and configuration.damage is None:
        raise UserError("there is nothing to learn from", where="damage", fix="give labels, or leave `damage` as it is")
    examples: list[Example] = []
    for document, text, language in _documents(documents, configuration.maximum_documents, told):
        grade = HIGH if told is None else told.pop(document).grade
        if configuration.damage is None or grade != HIGH:
            examples.append(Example(document, text, language, grade, told=True))
            continue
        original, *copies = damaged_copies(document, text, language, configuration.damage, configuration.seed)
        examples += [Example(document, text, language, HIGH, told=told is not None), *copies] if original else []
    for document, label in sorted((told or {}).items()):
        if not label.text:
            raise UserError(
                f"the label of {document} has no text, and there is no such document",
                where=labels,
                fix=f"give the curated artifact that was labelled; this is {documents}",
            )
        examples.append(label)
    return examples


def _documents(documents: Path, most: int, told: dict[str, Example] | None) -> Iterator[tuple[str, str, str]]:
    """Id, text and language of the first documents by id (ids are hashes, so this is a sample), or of those told."""
    number = 0
    for path in document_files(documents, "train"):
        for batch in pq.ParquetFile(path).iter_batches(columns=["id", "text", "language"]):
            for row in batch.to_pylist():
                if told is None and number >= most:
                    return
                if told is None or row["id"] in told:
                    number += 1
                    yield row["id"], row["text"], row["language"]


def _read_labels(path: Path) -> dict[str, Example]:
    """By document id."""
    if path.is_file() and path.read_bytes()[: len(_SQLITE)] == _SQLITE:
        with LabelStore(path) as store:
            return {
                row.document: Example(row.document, row.text, row.language, GRADES.index(row.grade), told=True)
                for row in store.verdicts()
            }
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            example = _read_label(line, f"{path}:{number}")
            found[example.document] = example
    if not found:
        raise UserError("the file holds no labels", where=path)
    return found


def _read_label(line: str, where: str) -> Example:
    fix = 'write {"id": …, "grade": "HIGH"} or {"text": …, "language": "pl", "grade": "LOW"}'
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"not valid JSON: {error.msg}", where=where, fix=fix) from error
    if not isinstance(value, dict) or not isinstance(value.get("id", value.get("text")), str):
        raise UserError("a label needs an id or a text", where=where, fix=fix)
    if value.get("grade") not in GRADES:
        raise unknown_name("grade", str(value.get("grade")), GRADES, where=where)
    text = value.get("text", "")
    language = canonical_language(value.get("language"))
    return Example(value.get("id") or document_id(text), text, language, GRADES.index(value["grade"]), told=True)
