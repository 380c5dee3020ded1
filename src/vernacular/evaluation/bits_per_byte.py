"""Bits per byte on held-out text, by language: the one score that compares models with different tokenizers.

A model that gives a text the probability p could store it in -log2 p bits, so a compressor is its honest yardstick.
`xz` packs each language's held-out text alone; `xz after training text` is what the held-out text adds to a packed
file that already holds training text of that language, which is fairer to xz, for the model has read that too.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet

from vernacular.evaluation.records import Row
from vernacular.foundation.errors import InternalError, UserError
from vernacular.foundation.files import sha256_bytes
from vernacular.foundation.machine import usable_cores
from vernacular.foundation.progress import progress
from vernacular.models.language_model import LanguageModel
from vernacular.tokens.measures import count_graphemes

XZ = "xz -9"
XZ_AFTER_TRAINING = "xz -9 after training text"

_XZ_THREADS = 2
"""Each packs in up to 700 MB of memory."""


def documents_folder(source: Path, split: str) -> Path | None:
    """Where a curated artifact (or a bare folder of Parquet files, as `heldout`) holds a split; None if nowhere."""
    folder = source / "documents" / split
    if folder.is_dir():
        return folder
    return source if split == "heldout" and any(source.glob("*.parquet")) else None


def read_texts(folder: Path, most_bytes: int) -> dict[str, list[tuple[str, str]]]:
    """(id, text) of documents by language, in order, whole ones until a language has `most_bytes`."""
    texts: dict[str, list[tuple[str, str]]] = {}
    sizes: dict[str, int] = {}
    for document, text, language in _documents(folder):
        size = len(text.encode("utf-8"))
        if size and sizes.get(language, 0) + size <= max(most_bytes, size if language not in sizes else 0):
            texts.setdefault(language, []).append((document, text))
            sizes[language] = sizes.get(language, 0) + size
    return dict(sorted(texts.items()))


def _documents(folder: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(folder.glob("*.parquet")):
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["id", "text", "language"]):
            for row in batch.to_pylist():
                yield row["id"], row["text"], row["language"]


def score_heldout(model: LanguageModel, texts: dict[str, list[tuple[str, str]]]) -> list[Row]:
    """Log-probability of each held-out document after the begin token: rows of the record."""
    rows: list[Row] = []
    total = sum(len(documents) for documents in texts.values())
    with progress(doing="held-out text", total=total, unit="documents") as bar:
        for language, documents in texts.items():
            likelihoods = model.text_loglikelihood([text for _, text in documents], report=bar.update)
            for (document, text), likelihood in zip(documents, likelihoods, strict=True):
                if not likelihood.log_probability <= 0:
                    raise InternalError(
                        f"the model gave log-probability {likelihood.log_probability}",
                        where=f"held-out document {document}",
                        fix="check the weights: their logits are not finite",
                    )
                rows.append(
                    {
                        "document": document,
                        "language": language,
                        "bytes": len(text.encode("utf-8")),
                        "graphemes": count_graphemes(text),
                        "tokens": likelihood.num_tokens,
                        "log_probability": likelihood.log_probability,
                    }
                )
    return rows


def score_yardsticks(texts: dict[str, list[tuple[str, str]]], training: dict[str, list[tuple[str, str]]]) -> list[Row]:
    """What xz makes of the same bytes: rows of the record."""
    joined = {language: _join(documents) for language, documents in texts.items()}
    before = {language: _join(training.get(language, [])) for language in texts}
    jobs = [data for language in texts for data in _packings(joined[language], before[language])]
    sizes: dict[bytes, int] = {}
    threads = min(_XZ_THREADS, usable_cores())
    with progress(doing="xz -9", total=sum(map(len, jobs)), unit="B") as bar, ThreadPoolExecutor(threads) as pool:
        for data, size in zip(jobs, pool.map(_packed_bytes, jobs), strict=True):
            sizes[data] = size
            bar.update(len(data))
    rows: list[Row] = []
    for language, text in joined.items():
        common = {"language": language, "bytes": len(text), "text_sha256": sha256_bytes(text)}
        rows.append({**common, "yardstick": XZ, "compressed_bytes": sizes[text], "training_bytes": 0})
        if earlier := before[language]:
            added = sizes[earlier + text] - sizes[earlier]
            rows.append(
                {
                    **common,
                    "yardstick": XZ_AFTER_TRAINING,
                    "compressed_bytes": added,
                    "training_bytes": len(earlier),
                }
            )
    return rows


def _packings(text: bytes, earlier: bytes) -> list[bytes]:
    return [text, earlier, earlier + text] if earlier else [text]


def _packed_bytes(data: bytes) -> int:
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, preset=9))


def _join(documents: list[tuple[str, str]]) -> bytes:
    return "".join(text for _, text in documents).encode("utf-8")


def heldout_texts(source: Path, most_bytes: int) -> dict[str, list[tuple[str, str]]]:
    """Held-out texts by language; none at all is refused."""
    folder = documents_folder(source, "heldout")
    texts = read_texts(folder, most_bytes) if folder is not None else {}
    if not texts:
        raise UserError("there are no held-out documents", where=source, fix="hold some out when curating")
    return texts


def training_texts(source: Path, most_bytes: int) -> dict[str, list[tuple[str, str]]]:
    """Training texts by language, as far as `most_bytes`; empty where the source has none."""
    folder = documents_folder(source, "train")
    return read_texts(folder, most_bytes) if folder is not None and most_bytes else {}
