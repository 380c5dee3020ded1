"""A tokenizer loses the pieces that nobody uses.

What stays is closed: with a piece stay the two parts of every merge that makes it, so each stays within reach. All
bytes and all special tokens stay. The merges left stand in their old order, and a word whose old ids are all kept is
joined by just the merges it was joined by before. So every text whose old ids are all kept has those ids, renumbered;
any other text still comes back as it was, in more tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import write_json
from vernacular.foundation.progress import progress
from vernacular.tokens.byte_pairs import BytePairs
from vernacular.tokens.change_report import describe_change
from vernacular.tokens.configuration import TrimTokenizerConfiguration
from vernacular.tokens.documents import count_documents, document_files, read_documents
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.token_map import map_tokens
from vernacular.tokens.tokenizer import Tokenizer


def trim_tokenizer(
    configuration: TrimTokenizerConfiguration, source: Path, documents: Path, folder: Path
) -> dict[str, Any]:
    """Keep the pieces that the split `train` of a curated artifact uses, and write the smaller tokenizer's folder.

    Args:
        configuration: which languages count, and how often a piece must occur.
        source: the folder of the tokenizer to trim.
        documents: the curated artifact.
        folder: receives the tokenizer's files, its chat template if it has one, token_map.json and report.json.

    Returns:
        The summary: sizes, hashes, and the fit by language before and after.

    Raises:
        UserError: the tokenizer is none of byte pairs, or a language is absent from the documents.
    """
    old = BytePairs(source)
    template = ChatTemplate.find(source)
    used = np.flatnonzero(_count_tokens(configuration, old, documents) >= configuration.min_count)
    kept = sorted(_closed(old, set(used.tolist())))
    new = Tokenizer(old.reduced({old_id: place for place, old_id in enumerate(kept)}), where=folder)
    new.save(folder)
    if template is not None:
        template.save(folder)
    tokens = map_tokens(old, new)
    tokens.save(folder)
    report = {
        "vocab_size": new.vocab_size,
        "old_vocab_size": old.tokenizer.vocab_size,
        "removed_pieces": len(old.ids) - len(kept),
        "tokenizer_hash": new.hash,
        "old_tokenizer_hash": old.tokenizer.hash,
        "template_hash": template and template.hash,
        **describe_change(old.tokenizer, new, tokens, documents),
    }
    write_json(folder / "report.json", report)
    return report


def _count_tokens(configuration: TrimTokenizerConfiguration, old: BytePairs, documents: Path) -> NDArray[np.int64]:
    """How often each id occurs in the text, int64 [V]."""
    paths = document_files(documents, "train")
    counts = np.zeros(old.tokenizer.vocab_size, dtype=np.int64)
    seen: set[str] = set()
    with progress(doing="counting tokens", total=count_documents(paths), unit="documents") as bar:
        for batch in read_documents(paths, ("language", "text")):
            languages = batch.column("language").to_pylist()
            seen.update(languages)
            wanted = configuration.languages
            texts = [
                text
                for language, text in zip(languages, batch.column("text").to_pylist(), strict=True)
                if wanted is None or language in wanted
            ]
            for ids in old.tokenizer.encode_batch(texts):
                counts += np.bincount(ids, minlength=len(counts))
            bar.update(batch.num_rows)
    for language in configuration.languages or ():
        if language not in seen:
            raise UserError(
                f"the language '{language}' is absent from the text",
                where="languages",
                fix=f"use languages that are there: {', '.join(sorted(seen))}",
            )
    return counts


def _closed(old: BytePairs, used: set[int]) -> set[int]:
    """The used ids, all bytes and added tokens, and what any of them is merged from."""
    parts: dict[int, list[int]] = {}
    for left, right in old.merges:
        parts.setdefault(old.ids[left + right], []).extend((old.ids[left], old.ids[right]))
    kept: set[int] = set()
    waiting = used | old.indispensable_ids
    while waiting:
        kept |= waiting
        waiting = {part for token in waiting for part in parts.get(token, ())} - kept
    return kept
