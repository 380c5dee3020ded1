"""The claim on real text: damage of kinds never seen in training is told from sound documents never seen either."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vernacular.corpus.configuration import Normalisation
from vernacular.corpus.document import document_id
from vernacular.corpus.normalisation import normalise
from vernacular.corpus.quality.configuration import Damage, TrainQualityConfiguration, Trees
from vernacular.corpus.quality.cross_fitting import cross_fitted
from vernacular.corpus.quality.training import Judged, calibrate, figures_of, measure_examples
from vernacular.corpus.quality.weak_labels import Example, damaged_copies

LANGUAGES = {"pl": "pol", "hi": "hin", "en": "eng", "ta": "tam"}
BYTES = 3000
MOST = 600  # documents a language: all there are, but for English
LEAST_CHARACTERS = 200


def pieces(text: str) -> list[str]:
    """Whole paragraphs, about 3 kB together."""
    found = [""]
    for paragraph in text.split("\n\n"):
        if len(found[-1].encode()) > BYTES:
            found.append("")
        found[-1] = f"{found[-1]}\n\n{paragraph}".strip()
    return found


def lines_of(path: Path) -> list[str]:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().removesuffix("\n").split("\n")


def articles(folder: Path, language: str) -> list[tuple[str, str]]:
    """Name of the article and text of each piece: stories, a handbook, news, and in Polish verse."""
    found = []
    for path in sorted(folder.glob(f"*/{language}.jsonl.gz")):
        for number, line in enumerate(lines_of(path)):
            found += [(f"{path.parent.name}-{number}", piece) for piece in pieces(json.loads(line)["text"])]
    news: dict[str, list[str]] = defaultdict(list)
    names = (folder / "ntrex" / "DOCUMENT_IDS.tsv").read_text(encoding="utf-8").split("\n")
    (path,) = (folder / "ntrex").glob(f"newstest2019-*.{LANGUAGES[language]}.txt*")
    for name, line in zip(names, lines_of(path), strict=False):
        news[name].append(line.strip())
    found += [(name, "\n".join(lines)) for name, lines in news.items()]
    if language == "pl":
        verse = (folder / "pan_tadeusz" / "pan-tadeusz.txt").read_text(encoding="utf-8").split("\n")
        found += [(f"verse-{at // 600}", "\n".join(verse[at : at + 60])) for at in range(0, len(verse), 60)]
    return sorted(found, key=lambda pair: document_id(pair[1]))


def examples(folder: Path, settings: TrainQualityConfiguration) -> list[Example]:
    """Sound pieces and their damaged copies; pieces of one article share its name, so that no fold parts them."""
    made = []
    assert settings.damage is not None
    for language in LANGUAGES:
        names, raw = zip(*articles(folder, language)[:MOST], strict=True)
        texts, _ = normalise(pa.array(raw, pa.large_string()), Normalisation())
        for name, text in zip(names, texts.to_pylist(), strict=True):
            if len(text) > LEAST_CHARACTERS:
                copies = damaged_copies(document_id(text), text, language, settings.damage, settings.seed)
                made += [Example(name, one.text, language, one.grade, one.kind) for one in copies]
    return made


@pytest.mark.slow
def test_unseen_damage_is_found_in_four_languages(shared_data: Path) -> None:
    settings = TrainQualityConfiguration(damage=Damage(copies=5, light=None), trees=Trees(rounds=60, learning_rate=0.2))
    made = examples(shared_data / "text", settings)
    rows = measure_examples(made, {})
    scores = cross_fitted(rows, made, settings)
    unseen = np.flatnonzero(~np.isnan(scores).any(axis=1))
    left = [made[place] for place in unseen]
    fitted = calibrate(scores[unseen], left, settings.calibration)
    judged = Judged(left, rows[unseen], fitted.apply(scores[unseen]))
    report = figures_of(judged, settings)
    for language, found in report["languages"].items():
        print(language, found)
        assert found["documents"] > 300
    low = {language: found["macro_f1"] for language, found in report["languages"].items() if found["macro_f1"] < 0.90}
    assert low == {}
    assert max(report["calibration_error"].values()) < 0.06
