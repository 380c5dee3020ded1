"""Readers of foreign files: one a form. Each gives a file's records, in the file's order."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import json_objects

Record = dict[str, Any]


def read_lines(path: Path) -> Iterator[Record]:
    """JSON Lines: an object on each line."""
    with opened(path) as lines:
        yield from (value for _, value in json_objects(map(str.strip, lines), path))


def read_document(path: Path) -> Iterator[Record]:
    """One JSON document: a list of objects, or an object that is the only record."""
    with opened(path) as file:
        try:
            value = json.load(file)
        except json.JSONDecodeError as error:
            raise UserError(f"not valid JSON: {error.msg}", where=f"{path}:{error.lineno}") from error
    yield from value if isinstance(value, list) else [value]


def read_examples(path: Path) -> Iterator[Record]:
    """BIG-bench's JSON: an object with the list `examples`."""
    for document in read_document(path):
        yield from document["examples"]


def read_squad(path: Path) -> Iterator[Record]:
    """SQuAD's JSON: a question with its `title`, `context`, and `answers` as lists of text and start."""
    for document in read_document(path):
        for number, article in enumerate(document["data"]):
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = question["answers"]
                    yield {
                        "id": question["id"],
                        "title": article.get("title", str(number)),
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": {
                            "text": [answer["text"] for answer in answers],
                            "answer_start": [answer["answer_start"] for answer in answers],
                        },
                    }


def read_table(path: Path) -> Iterator[Record]:
    """Comma- or tab-separated values under a heading."""
    with opened(path) as file:
        for row in csv.DictReader(file, **_dialect(path)):
            yield cast(Record, row)


def read_rows(path: Path) -> Iterator[Record]:
    """Comma- or tab-separated values without a heading: `first`, `second`, and so on."""
    names = ("first", "second", "third", "fourth", "fifth", "sixth")
    with opened(path) as file:
        for row in csv.reader(file, **_dialect(path)):
            yield dict(zip(names, row, strict=False))


def read_labelled(path: Path) -> Iterator[Record]:
    """Lines of a label, a space, and a text."""
    with opened(path) as lines:
        for line in lines:
            label, _, text = line.rstrip("\n").partition(" ")
            yield {"label": label, "text": text}


def read_texts(path: Path) -> Iterator[Record]:
    """A text on each line."""
    with opened(path) as lines:
        for line in lines:
            if line.strip():
                yield {"text": line.rstrip("\n")}


def read_text(path: Path) -> Iterator[Record]:
    """The whole file as one text."""
    with opened(path) as file:
        yield {"text": file.read()}


READERS: Mapping[str, Callable[[Path], Iterator[Record]]] = {
    "lines": read_lines,
    "document": read_document,
    "examples": read_examples,
    "squad": read_squad,
    "table": read_table,
    "rows": read_rows,
    "labelled": read_labelled,
    "texts": read_texts,
    "text": read_text,
}

BY_SUFFIX = {".jsonl": "lines", ".json": "document", ".csv": "table", ".tsv": "table"}
"""The reader of a file whose form is not stated; `.gz` behind it counts for nothing."""


def reader_of(path: Path, stated: str | None) -> Callable[[Path], Iterator[Record]]:
    """The reader of a file: the stated one, or the one that its name asks for."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    name = stated or BY_SUFFIX.get(suffixes[-1] if suffixes else "", "")
    if name not in READERS:
        raise UserError("the form of the file is not known", where=path, fix=f"state its reader: {', '.join(READERS)}")
    return READERS[name]


def opened(path: Path) -> TextIO:
    """The file as text, unpacked where its name ends in .gz."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8")
    return open(path, encoding="utf-8", newline="")


def _dialect(path: Path) -> dict[str, Any]:
    tabs = ".tsv" in path.suffixes
    return {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"delimiter": ","}
