"""Any text as a task: how many bits the model needs for a byte and for a grapheme of it, and its perplexities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vernacular.evaluation.library.benchmark import DataSet, Form, LibraryTask, Part, Task
from vernacular.foundation.errors import UserError

FIELDS = {"text": "text"}


def text_tasks(paths: Sequence[Path]) -> list[LibraryTask]:
    """A task for each file, `text_NAME`.

    Args:
        paths: .txt, each one document; .jsonl (or .jsonl.gz) with the key `text`, each line one.

    Raises:
        UserError: a file is missing, of another kind, or called as another one.
    """
    found: dict[str, LibraryTask] = {}
    for path in paths:
        if not path.is_file():
            raise UserError("there is no such file", where=path, fix="check the path of --text")
        suffix = path.name.removesuffix(".gz").rpartition(".")[2]
        if suffix not in ("txt", "jsonl"):
            raise UserError("text is read from .txt and .jsonl files", where=path, fix="convert the file")
        name = "text_" + re.sub(r"[^\w.+-]", "_", path.name.partition(".")[0])
        if name in found:
            raise UserError(f"two texts are called '{name}'", where=path, fix="rename one")
        part = Part(file=path.name, reader="text" if suffix == "txt" else "lines", fields=FIELDS)
        found[name] = LibraryTask(name, TASK, DataSet(forms=(Form(splits={"test": part}),)), path.name, path.parent)
    return list(found.values())


TASK = Task(
    config={
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "byte_perplexity"}, {"metric": "word_perplexity"}],
    },
    metrics=("bits_per_grapheme",),
)
