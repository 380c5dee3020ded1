"""How well a tokenizer fits each language: fertility, bytes and graphemes per token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

import yaml

from vernacular.tokens.text_units import count_units
from vernacular.tokens.tokenizer import Tokenizer


@dataclass
class TextCounts:
    """What texts measure. In shards `tokens` counts begin and end tokens, in a tokenizer's report it does not."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    words: int = 0
    graphemes: int = 0

    def add(self, text: str, num_tokens: int) -> None:
        """Count one more document."""
        self.include(count_texts([text], [num_tokens])[0])

    def include(self, other: TextCounts) -> None:
        """Count others in."""
        self.documents += other.documents
        self.tokens += other.tokens
        self.bytes += other.bytes
        self.words += other.words
        self.graphemes += other.graphemes


def count_texts(texts: Sequence[str], num_tokens: Sequence[int]) -> list[TextCounts]:
    """The counts of each document; many at a time take a fraction of what each by itself would."""
    units = count_units(texts)
    sizes = [len(text.encode("utf-8")) for text in texts]
    columns = zip(num_tokens, sizes, units.words.tolist(), units.graphemes.tolist(), strict=True)
    return [TextCounts(1, *counts) for counts in columns]


def count_words(text: str) -> int:
    """Runs of letters, marks, joiners and digits; apostrophes and hyphens end one, in every language."""
    return int(count_units([text]).words[0])


def count_graphemes(text: str) -> int:
    """Extended grapheme clusters (Unicode Standard Annex 29): what a reader counts as characters."""
    return int(count_units([text]).graphemes[0])


@cache
def languages_without_spaces() -> frozenset[str]:
    """Codes of languages that are written without spaces between words."""
    text = (files("vernacular.tokens") / "data" / "languages_without_spaces.yaml").read_text(encoding="utf-8")
    return frozenset(yaml.safe_load(text))


def describe_fit(counts: Mapping[str, TextCounts]) -> dict[str, dict[str, float | int | None]]:
    """By language: the counts, `tokens_per_word` (fertility), `bytes_per_token` and `graphemes_per_token`.

    A ratio is None where it means nothing: nothing to divide by, or words of a language written without spaces.
    """
    described: dict[str, dict[str, float | int | None]] = {}
    for language, count in sorted(counts.items()):
        has_words = count.words and language not in languages_without_spaces()
        described[language] = {
            **asdict(count),
            "tokens_per_word": round(count.tokens / count.words, 4) if has_words else None,
            "bytes_per_token": round(count.bytes / count.tokens, 4) if count.tokens else None,
            "graphemes_per_token": round(count.graphemes / count.tokens, 4) if count.tokens else None,
        }
    return described


def measure_fit(tokenizer: Tokenizer, batches: Iterable[tuple[list[str], list[str]]]) -> dict[str, TextCounts]:
    """Counts by language of batches (languages, texts); tokens without begin and end tokens."""
    counts: dict[str, TextCounts] = {}
    for languages, texts in batches:
        measured = count_texts(texts, list(map(len, tokenizer.encode_batch(texts))))
        for language, count in zip(languages, measured, strict=True):
            counts.setdefault(language, TextCounts()).include(count)
    return counts
