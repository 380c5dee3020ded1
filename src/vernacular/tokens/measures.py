"""How well a tokenizer fits each language: fertility, bytes and graphemes per token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

import regex
import yaml

from vernacular.tokens.tokenizer import Tokenizer

# A word is a run of letters, marks, joiners and digits; apostrophes and hyphens end it, in every language.
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}\u200C\u200D]+")
_GRAPHEME = regex.compile(r"\X")


@dataclass
class TextCounts:
    """What texts measure. In shards `tokens` counts begin and end tokens, in a tokenizer's report it does not."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    words: int = 0
    graphemes: int = 0

    @classmethod
    def of(cls, text: str, num_tokens: int) -> TextCounts:
        """The counts of one document."""
        return cls(1, num_tokens, len(text.encode("utf-8")), count_words(text), count_graphemes(text))

    def add(self, text: str, num_tokens: int) -> None:
        """Count one more document."""
        self.include(TextCounts.of(text, num_tokens))

    def include(self, other: TextCounts) -> None:
        """Count others in."""
        self.documents += other.documents
        self.tokens += other.tokens
        self.bytes += other.bytes
        self.words += other.words
        self.graphemes += other.graphemes


def count_words(text: str) -> int:
    """Runs of letters, marks, joiners and digits."""
    return len(_WORD.findall(text))


def count_graphemes(text: str) -> int:
    """Extended grapheme clusters (Unicode Standard Annex 29): what a reader counts as characters."""
    return len(_GRAPHEME.findall(text))


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
        for language, text, ids in zip(languages, texts, tokenizer.encode_batch(texts), strict=True):
            counts.setdefault(language, TextCounts()).add(text, len(ids))
    return counts
