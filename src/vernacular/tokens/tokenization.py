"""Documents and conversations become token shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import pyarrow as pa

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path
from vernacular.foundation.progress import progress
from vernacular.tokens.configuration import ConversationsConfiguration, TokenizeConfiguration
from vernacular.tokens.conversations import Conversation, read_conversations
from vernacular.tokens.documents import count_documents, document_files, read_documents
from vernacular.tokens.measures import TextCounts, count_texts, describe_fit
from vernacular.tokens.messages import ConversationError
from vernacular.tokens.mixed_rows import cell_name
from vernacular.tokens.pieces import encode_pieces
from vernacular.tokens.shard_writer import ShardWriter, write_index
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer

_CONVERSATIONS_PER_BATCH = 512
QUARANTINE = "quarantine.jsonl"
LISTING = "conversations.jsonl"
UNGRADED = "ungraded"


def tokenize_documents(
    configuration: TokenizeConfiguration, curated: Path, tokenizer: Path, folder: Path
) -> dict[str, Any]:
    """Write a curated artifact's documents as token shards: each is begin token, text, end token.

    Args:
        configuration: splits and size of the shards.
        curated: the curated artifact (it holds `documents/SPLIT/*.parquet`).
        tokenizer: the tokenizer folder.
        folder: receives the shards; `index.json` is written last.

    Returns:
        The summary: tokens, documents and the fit by language, for each split.
    """
    encoder = Tokenizer.load(tokenizer)
    files = {split: document_files(curated, split) for split in configuration.splits}
    splits: dict[str, dict[str, Any]] = {}
    for split, paths in files.items():
        with (
            ShardWriter(
                folder,
                split,
                vocab_size=encoder.vocab_size,
                tokens_per_shard=configuration.tokens_per_shard,
                weighted=False,
            ) as writer,
            progress(doing=f"tokenizing {split}", total=count_documents(paths), unit="documents") as bar,
        ):
            graded = ("quality",) if configuration.quality_bands else ()
            for batch in read_documents(paths, ("id", "text", "language", "source", *graded)):
                texts = batch.column("text").to_pylist()
                encoded = encoder.encode_batch(texts, begin=True, end=True)
                known = (batch.column(column).to_pylist() for column in ("id", "language", "source"))
                counts = count_texts(texts, list(map(len, encoded)))
                bands = _bands(batch, configuration.quality_bands)
                for ids, count, band, name, language, source in zip(encoded, counts, bands, *known, strict=True):
                    writer.add(ids, name=name, language=language, source=source, quality=band, count=count)
                bar.update(batch.num_rows)
        splits[split] = writer.entry
    write_index(folder, encoder, splits)
    return {"tokenizer_hash": encoder.hash, "splits": {split: _summary(entry) for split, entry in splits.items()}}


def _bands(batch: pa.RecordBatch, bands: Sequence[float]) -> list[str]:
    """The band of each document, by the lowest probability in it."""
    if not bands:
        return [""] * batch.num_rows
    names = [f"{band:g}+" for band in (0.0, *bands)]
    # In the precision of the column, so that 0.95 is 0.95.
    column = batch.column("quality").cast(pa.float32())
    places = np.searchsorted(np.array(bands, dtype=np.float32), column.to_numpy(zero_copy_only=False), side="right")
    known = zip(places.tolist(), column.is_valid().to_pylist(), strict=True)
    return [names[place] if graded else UNGRADED for place, graded in known]


def tokenize_conversations(
    conversations: Path,
    tokenizer_folder: Path,
    folder: Path,
    configuration: ConversationsConfiguration | None = None,
) -> dict[str, Any]:
    """Write conversations as token shards with a loss weight for each token as a target.

    The weight is the conversation's own (`weight`, 1 if not given) on each assistant's text through its end token, and
    0 elsewhere. A malformed line goes to `quarantine.jsonl` with its number, or stops the run if `strict`; a template
    that cannot be masked always does. `SPLIT/conversations.jsonl` lists name, id, line and tokens of each.

    Args:
        conversations: JSONL, a line {"messages": [{"role", "content"}], "id"?, "language"?, "weight"?} each.
        tokenizer_folder: the tokenizer folder, with its chat template.
        folder: receives the shards; `index.json` is written last.
        configuration: size of the shards, share held out, strictness.

    Returns:
        The summary: tokens, conversations, tokens with loss, and the fit by language, for each split.
    """
    configuration = configuration or ConversationsConfiguration()
    conversations, folder = Path(conversations), Path(folder)
    tokenizer, template = Tokenizer.load(tokenizer_folder), ChatTemplate.load(tokenizer_folder)
    with ExitStack() as stack:
        quarantine = _Quarantine(
            stack.enter_context(open(stack.enter_context(atomic_path(folder / QUARANTINE)), "w", encoding="utf-8")),
            conversations,
            configuration.strict,
        )
        names = ("train", "heldout") if configuration.heldout_fraction else ("train",)
        writers = {
            split: stack.enter_context(_ConversationWriter(folder, split, tokenizer, configuration, conversations.stem))
            for split in names
        }
        for conversation, ids, weights in _encode(conversations, tokenizer, template, quarantine):
            is_heldout = int(conversation.name[:8], 16) < configuration.heldout_fraction * 2**32
            writers["heldout" if is_heldout else "train"].add(conversation, ids, weights)
    if not any(writer.conversations for writer in writers.values()):
        where, fix = str(conversations), "give it conversations"
        if quarantine.first is not None:
            line, problem = quarantine.first
            where, fix = f"{where}:{line}", f"mend the first of them: {problem}"
        raise UserError(f"no conversation can be used; {quarantine.lines} malformed lines", where=where, fix=fix)
    splits = {split: writer.entry for split, writer in writers.items()}
    write_index(folder, tokenizer, splits, template_hash=template.hash)
    return {
        "tokenizer_hash": tokenizer.hash,
        "template_hash": template.hash,
        "quarantined": quarantine.lines,
        "splits": {
            split: {**_summary(writer.entry), "loss_tokens": writer.loss_tokens} for split, writer in writers.items()
        },
    }


def _encode(
    path: Path, tokenizer: Tokenizer, template: ChatTemplate, quarantine: _Quarantine
) -> Iterator[tuple[Conversation, list[int], list[float]]]:
    """Each usable conversation, its ids and its loss weights, encoded many at a time."""
    batch: list[Conversation] = []
    pieces = []
    for conversation in read_conversations(path, quarantine.reject):
        try:
            pieces.append(
                template.training_pieces(
                    tokenizer, conversation.messages, tools=conversation.tools, documents=conversation.documents
                )
            )
        except ConversationError as error:
            quarantine.reject(conversation.line, error)
            continue
        batch.append(conversation)
        if len(batch) == _CONVERSATIONS_PER_BATCH:
            yield from _finish_batch(tokenizer, batch, pieces)
            batch, pieces = [], []
    yield from _finish_batch(tokenizer, batch, pieces)


def _finish_batch(
    tokenizer: Tokenizer, batch: list[Conversation], pieces: list[Any]
) -> Iterator[tuple[Conversation, list[int], list[float]]]:
    for conversation, (ids, weights) in zip(batch, encode_pieces(tokenizer, pieces), strict=True):
        yield conversation, ids, [weight * conversation.weight for weight in weights]


class _Quarantine:
    """Malformed lines: written down with their number, or raised at once if strict."""

    def __init__(self, file: IO[str], source: Path, strict: bool) -> None:
        self._file = file
        self._source = source
        self._strict = strict
        self.lines = 0
        self.first: tuple[int, str] | None = None

    def reject(self, line: int, error: UserError) -> None:
        message = error.message if error.where is None else f"{error.message} ({error.where})"
        if self._strict:
            self._stop(line, message, error)
        self.first = self.first or (line, message)
        record = {"file": self._source.name, "line": line, "error": message}
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.lines += 1

    def _stop(self, line: int, message: str, error: UserError) -> NoReturn:
        fix = error.fix or "mend the line"
        raise UserError(message, where=f"{self._source}:{line}", fix=f"{fix}; or set strict to false") from error


class _ConversationWriter:
    """A split's shards and the listing of its conversations."""

    def __init__(
        self, folder: Path, split: str, tokenizer: Tokenizer, configuration: ConversationsConfiguration, source: str
    ) -> None:
        self.conversations = self.loss_tokens = 0
        self._source = source
        self._listing = folder / split / LISTING
        self._stack = ExitStack()
        self._shards = ShardWriter(
            folder,
            split,
            vocab_size=tokenizer.vocab_size,
            tokens_per_shard=configuration.tokens_per_shard,
            weighted=True,
        )

    def __enter__(self) -> _ConversationWriter:
        self._stack.enter_context(self._shards)
        temporary = self._stack.enter_context(atomic_path(self._listing))
        self._lines = self._stack.enter_context(open(temporary, "w", encoding="utf-8"))
        return self

    def __exit__(self, *raised: Any) -> bool | None:
        return self._stack.__exit__(*raised)

    def add(self, conversation: Conversation, ids: list[int], weights: list[float]) -> None:
        self._shards.add(
            ids,
            name=conversation.name,
            language=conversation.language,
            source=self._source,
            count=count_texts([conversation.text], [len(ids)])[0],
            weights=weights,
        )
        record = {"name": conversation.name, "id": conversation.id, "line": conversation.line, "tokens": len(ids)}
        self._lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.conversations += 1
        self.loss_tokens += sum(weight > 0 for weight in weights)

    @property
    def entry(self) -> dict[str, Any]:
        return self._shards.entry


def _summary(entry: dict[str, Any]) -> dict[str, Any]:
    counts = {language: TextCounts(**count) for language, count in entry["languages"].items()}
    return {
        "tokens": entry["tokens"],
        "documents": entry["documents"],
        "languages": describe_fit(counts),
        "sources": {source: count["tokens"] for source, count in entry["sources"].items()},
        "cells": {
            cell_name(cell): {key: cell[key] for key in ("documents", "bytes", "tokens")} for cell in entry["cells"]
        },
    }
