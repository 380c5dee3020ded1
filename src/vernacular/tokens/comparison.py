"""Tokenizers side by side on the same text: what each costs each language, and what of its vocabulary is never used."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import regex
from numpy.typing import NDArray

from vernacular.corpus.languages import scripts_of
from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.progress import progress
from vernacular.tokens.measures import describe_fit, measure_fit
from vernacular.tokens.tokenizer import Tokenizer

_GRAPHEME = regex.compile(r"\X")
_EXTENDER = regex.compile(r"[\p{M}\p{Grapheme_Extend}\p{Emoji_Modifier}\u200D]")
_BATCH = 512


@dataclass(frozen=True)
class Fit:
    """A tokenizer on the text of a language.

    Attributes:
        tokenizer: its name.
        language: code of the language.
        scripts: what it is written in, by ISO 15924.
        tokens: number of tokens, none added at the beginning or the end.
        tokens_per_word: fertility; None where words are written without spaces.
        bytes_per_token: UTF-8 bytes.
        graphemes_per_token: what a reader counts as characters.
        parity: tokens for a token of the reference language in parallel text; None without a reference.
            Source: Petrov et al., Language Model Tokenizers Introduce Unfairness Between Languages (2023).
        graphemes_cut: clusters in which a mark is cut from its base before tokens are made, for good; 0 where none is.
    """

    tokenizer: str
    language: str
    scripts: tuple[str, ...]
    tokens: int
    tokens_per_word: float | None
    bytes_per_token: float | None
    graphemes_per_token: float | None
    parity: float | None
    graphemes_cut: int


@dataclass(frozen=True)
class Use:
    """How much of a vocabulary the text uses.

    Attributes:
        tokenizer: its name.
        vocab_size: tokens, special ones included.
        unused: tokens, special ones left out, that stand nowhere in the text.
        rare: those that stand in it fewer than `rare_below` times, unused ones included: what is learnt from so few
            examples stays as it was initialised.
        rare_below: the number.
    """

    tokenizer: str
    vocab_size: int
    unused: int
    rare: int
    rare_below: int


@dataclass(frozen=True)
class Comparison:
    """What was measured of every tokenizer."""

    fits: tuple[Fit, ...]
    uses: tuple[Use, ...]

    def as_json(self) -> dict[str, list[dict[str, object]]]:
        """For a file."""
        return {"fits": [asdict(fit) for fit in self.fits], "uses": [asdict(use) for use in self.uses]}


def read_lines(texts: Mapping[str, Path], reference: str | None) -> dict[str, list[str]]:
    """Lines by language from text files, plain or gzipped.

    Raises:
        UserError: a file is not there or no UTF-8; the reference is none of the languages; or, with a reference, a
            file has another number of lines, so that it cannot be a translation line by line.
    """
    lines = {language: _read(path) for language, path in texts.items()}
    if reference is None:
        return lines
    if reference not in lines:
        raise unknown_name("reference", reference, lines)
    wanted = len(lines[reference])
    for language, found in lines.items():
        if len(found) != wanted:
            raise UserError(
                f"parallel text has the same lines in every language; '{language}' has {len(found)} and the reference"
                f" '{reference}' {wanted}",
                where=texts[language],
                fix="give files that were translated line by line, or leave out the reference",
            )
    return lines


def compare_tokenizers(
    folders: Sequence[Path], lines: Mapping[str, Sequence[str]], *, reference: str | None = None, rare_below: int = 10
) -> Comparison:
    """Measure tokenizers on the same text.

    Args:
        folders: tokenizers or weights, each with a `tokenizer.json` or a SentencePiece model.
        lines: text by language.
        reference: the language that parity is measured against; the lines are translations of its lines then.
        rare_below: a token that stands in the text fewer times than this is rare.
    """
    fits: list[Fit] = []
    uses: list[Use] = []
    for name, folder in _names(folders).items():
        tokenizer = Tokenizer.load(folder)
        times = np.zeros(tokenizer.vocab_size, dtype=np.int64)
        own = [
            _fit(name, tokenizer, language, list(texts), times)
            for language, texts in progress(lines.items(), doing=f"measuring {name}", unit="languages")
        ]
        fits += _with_parity(own, reference)
        uses.append(_use(name, tokenizer, times, rare_below))
    return Comparison(tuple(fits), tuple(uses))


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders by a name that tells them apart: the last parts of their paths, as many as it takes."""
    for parts in range(1, 1 + max(len(folder.parts) for folder in folders)):
        names = {"/".join(folder.parts[-parts:]): folder for folder in folders}
        if len(names) == len(folders):
            return names
    raise UserError("the same tokenizer is given twice", where=str(folders[0]), fix="name each once")


def _read(path: Path) -> list[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            return [line.rstrip("\n") for line in file]
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"not a text file: {error}", where=path, fix="give UTF-8 text, plain or gzipped") from error
    except OSError as error:
        raise UserError(f"the text cannot be read: {error.strerror}", where=path, fix="check the path") from error


def _fit(name: str, tokenizer: Tokenizer, language: str, texts: list[str], times: NDArray[np.int64]) -> Fit:
    for start in range(0, len(texts), _BATCH):
        for ids in tokenizer.encode_batch(texts[start : start + _BATCH]):
            np.add.at(times, ids, 1)
    measured = describe_fit(measure_fit(tokenizer, [([language] * len(texts), texts)]))[language]
    return Fit(
        tokenizer=name,
        language=language,
        scripts=tuple(sorted(scripts_of(language))),
        tokens=int(measured["tokens"] or 0),
        tokens_per_word=measured["tokens_per_word"],
        bytes_per_token=measured["bytes_per_token"],
        graphemes_per_token=measured["graphemes_per_token"],
        parity=None,
        graphemes_cut=sum(_cut_graphemes(tokenizer, text) for text in texts),
    )


def _cut_graphemes(tokenizer: Tokenizer, text: str) -> int:
    """Clusters with a cut of the pre-tokenizer before something that extends."""
    written, cuts = tokenizer.cuts(text)
    inside = {match.start(): range(match.start() + 1, match.end()) for match in _GRAPHEME.finditer(written)}
    return sum(any(at in cuts and _EXTENDER.match(written[at]) for at in places) for places in inside.values())


def _with_parity(fits: list[Fit], reference: str | None) -> list[Fit]:
    if reference is None:
        return fits
    base = next(fit.tokens for fit in fits if fit.language == reference)
    return [Fit(**{**asdict(fit), "parity": round(fit.tokens / base, 4) if base else None}) for fit in fits]


def _use(name: str, tokenizer: Tokenizer, times: NDArray[np.int64], rare_below: int) -> Use:
    special = [token.id for token in tokenizer.control_tokens.values()]
    ordinary = np.delete(times, special)
    return Use(name, tokenizer.vocab_size, int((ordinary == 0).sum()), int((ordinary < rare_below).sum()), rare_below)
