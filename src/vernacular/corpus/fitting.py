"""Fitting thresholds to a reference corpus: the bounds that all but a percentile of good documents keep.

FineWeb 2 (Penedo et al. 2025, arXiv:2506.20920) carries rules over to another language in this way: a rule's threshold
is where the same share of a reference in that language would fall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from vernacular.corpus.configuration import Identification, Normalisation, Source
from vernacular.corpus.counting.counts import count
from vernacular.corpus.families import FamilyRule, published_thresholds, rules_of, values_of
from vernacular.corpus.histograms import histograms
from vernacular.corpus.identification import identify
from vernacular.corpus.languages import canonical_language
from vernacular.corpus.normalisation import normalise
from vernacular.corpus.reading import read_texts
from vernacular.corpus.sources import find_files
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path
from vernacular.foundation.progress import progress

_DOCUMENTS_AT_ONCE = 1024


@dataclass(frozen=True)
class Fitted:
    """One rule in one language.

    Attributes:
        rule: the rule.
        language: the language.
        script: the script that most of its documents are in.
        values: float64 [D], the measure of each document it applies to, ascending.
        bound: the fitted bound.
        published: the bound of the family's file for this language and script.
    """

    rule: FamilyRule
    language: str
    script: str
    values: np.ndarray
    bound: float
    published: float

    @property
    def lost(self) -> float:
        """The share of the reference that the published bound would remove."""
        outside = self.values < self.published if self.rule.is_minimum else self.values > self.published
        return float(outside.mean())


def fit_thresholds(
    source: Source, families: Sequence[str], percentile: float, margin: float, least: int, out: Path
) -> list[Fitted]:
    """Fit the rules of some families to a reference, language by language; write thresholds.yaml and histograms.

    Args:
        source: the reference: documents that are good.
        families: whose rules.
        percentile: of documents that may fall outside a bound, 0…50.
        margin: the bound is then loosened by this share of itself.
        least: documents a language must have.
        out: the folder to write to: thresholds.yaml for `filters.fitted`, histograms.html, and a PNG for each language.

    Raises:
        UserError: the reference cannot be read, or has no language with documents enough.
    """
    languages, scripts, columns = _measured(source, families)
    fitted = []
    for language in sorted({name for name in languages if name != "und"}):
        mine = np.array([name == language for name in languages])
        if mine.sum() < least:
            continue
        written = [script for script, chosen in zip(scripts, mine, strict=True) if chosen]
        script = max(sorted(set(written)), key=written.count)
        fitted += [
            each
            for rule, values in columns.items()
            if (each := _fit(rule, language, script, values[mine], percentile, margin)) is not None
        ]
    if not fitted:
        counts = ", ".join(f"{languages.count(name):,} in {name}" for name in sorted(set(languages))) or "none at all"
        raise UserError(
            f"no language has {least} documents; the reference has {counts}",
            where=source.path,
            fix="give more text, state its language with --language, or lower --least",
        )
    out.mkdir(parents=True, exist_ok=True)
    _write(fitted, source, percentile, margin, out / "thresholds.yaml")
    histograms(fitted, out)
    return fitted


def _measured(source: Source, families: Sequence[str]) -> tuple[list[str], list[str], dict[FamilyRule, np.ndarray]]:
    rules = [rule for family in families for rule in rules_of(family)]
    languages: list[str] = []
    scripts: list[str] = []
    values: dict[FamilyRule, list[np.ndarray]] = {rule: [] for rule in rules}
    for texts, stated in _batches(source):
        texts, _ = normalise(texts, Normalisation())
        found = identify(texts, stated, Identification(), frozenset())
        counts = count(texts, found.languages)
        languages += found.languages
        scripts += found.scripts
        for rule in rules:
            values[rule].append(values_of(rule, counts, found.languages))
    columns = {rule: np.concatenate(parts) for rule, parts in values.items() if parts}
    return languages, scripts, columns


def _batches(source: Source) -> Iterator[tuple[pa.Array, list[str | None]]]:
    texts: list[str] = []
    stated: list[str | None] = []
    files = find_files((source,)).files
    for text, language in progress(read_texts(files), doing="measuring documents", unit="documents"):
        texts.append(text)
        stated.append(canonical_language(language) if language else None)
        if len(texts) == _DOCUMENTS_AT_ONCE:
            yield pa.array(texts, pa.large_string()), stated
            texts, stated = [], []
    if texts:
        yield pa.array(texts, pa.large_string()), stated


def _fit(
    rule: FamilyRule, language: str, script: str, values: np.ndarray, percentile: float, margin: float
) -> Fitted | None:
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return None
    bound = float(np.percentile(values, percentile if rule.is_minimum else 100 - percentile))
    bound *= 1 - margin if rule.is_minimum else 1 + margin
    published = float(published_thresholds().limits(rule, [language], [script])[0])
    return Fitted(rule, language, script, values, float(f"{bound:.4g}"), published)


def _write(fitted: list[Fitted], source: Source, percentile: float, margin: float, path: Path) -> None:
    languages: dict[str, dict[str, Any]] = {}
    for each in fitted:
        languages.setdefault(each.language, {})[each.rule.key] = each.bound
    documents = {each.language: len(each.values) for each in fitted}
    head = "# Fitted by `vernacular fit-thresholds`; a recipe takes it with `filters: {fitted: FILE}`.\n"
    value = {
        "source": str(source.path or source.huggingface),
        "percentile": percentile,
        "margin": margin,
        "documents": documents,
        "languages": languages,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(head + yaml.safe_dump(value, allow_unicode=True, sort_keys=False), encoding="utf-8")
