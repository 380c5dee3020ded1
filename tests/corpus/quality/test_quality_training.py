"""Training a classifier: by the recipe, on damage and on labels; what it learns, what it writes, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quality_corpora import prose, write_corpus
from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.curation import curate
from vernacular.corpus.quality.configuration import GRADES, TrainQualityConfiguration
from vernacular.corpus.quality.damage.catalogue import kinds
from vernacular.corpus.quality.model import QualityModel
from vernacular.corpus.quality.training import train_quality
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError

LANGUAGES = ("pl", "hi")
SMALL: dict[str, Any] = {"folds": 3, "trees": {"rounds": 40}, "damage": {"copies": 4}}


def configuration(**settings: Any) -> TrainQualityConfiguration:
    return validate(TrainQualityConfiguration, {**SMALL, **settings})


def write_curated(folder: Path, documents: int = 40) -> Path:
    source = write_corpus(folder / "stories.jsonl", LANGUAGES, documents)
    settings = {"sources": [{"path": str(source), "language_field": "language"}], "near_duplicates": {"enabled": False}}
    curate(validate(CurateConfiguration, settings), folder / "corpus")
    return folder / "corpus"


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("quality"))


@pytest.fixture(scope="module")
def trained(curated: Path) -> Path:
    folder = curated.parent / "quality"
    train_quality(configuration(), curated, None, folder)
    return folder


def damaged(name: str, text: str, language: str) -> str:
    from random import Random

    (kind,) = [kind for kind in kinds() if kind.name == name]
    return kind.spoil(text, language, 1.0, Random(0))


def test_it_tells_new_stories_from_damaged_ones(trained: Path) -> None:
    model = QualityModel.load(trained)
    for language in LANGUAGES:
        sound = [prose(language, number) for number in range(5000, 5020)]
        spoilt = [
            damaged(name, text, language)
            for name, text in zip(
                ["replacement_characters", "keyboard_noise", "markup_left_over"] * 6, sound, strict=False
            )
        ]
        given = model.probabilities(pa.array([*sound, *spoilt], pa.large_string()), [language] * 38)
        np.testing.assert_allclose(given.sum(axis=1), 1, rtol=1e-6)
        assert (given[:20, 0] > 0.5).mean() > 0.8
        assert (given[20:, 0] < 0.5).all()


def test_nothing_is_known_of_a_language_it_never_saw(trained: Path) -> None:
    given = QualityModel.load(trained).probabilities(
        pa.array([prose("en", 1), prose("pl", 1)], pa.large_string()), ["en", "pl"]
    )
    assert np.isnan(given[0]).all()
    assert not np.isnan(given[1]).any()


def test_the_report_states_what_was_not_seen(trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert set(report["grades"]) == set(GRADES)
    assert sum(report["examples"].values()) > 250
    assert report["sound_or_damaged"]["macro_f1"] > 0.8
    assert 0 < report["kept"]["documents"] <= 1
    assert len(report["importance"]) == 93
    assert len(report["damage"]) > 25
    assert {path.name for path in (trained / "plots").iterdir()} == {
        *("reliability.png", "thresholds.png", "importance.png", "damage.png"),
    }
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert page.count("<article") > 20
    assert "dir='auto'" in page


def test_the_same_settings_give_the_same_bytes(curated: Path, tmp_path: Path, trained: Path) -> None:
    train_quality(configuration(), curated, None, tmp_path)
    for name in ("model.ubj", "quality.json", "report.json", "report.html", "plots/importance.png"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name


def test_labels_from_a_file(curated: Path, tmp_path: Path) -> None:
    rows = [{"text": prose("pl", number), "language": "pl", "grade": "HIGH"} for number in range(100, 130)]
    rows += [
        {"text": damaged("keyboard_noise", prose("pl", number), "pl"), "language": "pl", "grade": "LOW"}
        for number in range(200, 230)
    ]
    rows += [{"text": prose("pl", number, 1)[:90], "language": "pl", "grade": "MEDIUM"} for number in range(300, 330)]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    summary = train_quality(configuration(damage=None), curated, labels, tmp_path / "out")
    assert summary["examples"] == {"HIGH": 30, "LOW": 30, "MEDIUM": 30}
    assert summary["macro_f1"] > 0.9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken", "not valid JSON"),
        ('{"grade": "HIGH"}', "needs an id or a text"),
        ('{"text": "a", "grade": "HIHG"}', "did you mean 'HIGH'"),
        ('{"id": "ffff", "grade": "HIGH"}', "there is no such document"),
        ("", "holds no labels"),
    ],
)
def test_labels_amiss_are_refused_with_their_place(line: str, said: str, curated: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match=said) as caught:
        train_quality(configuration(), curated, labels, tmp_path / "out")
    assert "labels.jsonl" in str(caught.value)


def test_without_labels_and_damage_there_is_nothing_to_learn_from(curated: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to learn from"):
        train_quality(configuration(damage=None), curated, None, tmp_path)


def test_a_language_with_few_documents_is_left_out_and_said_so(curated: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no language has 200 documents"):
        train_quality(configuration(minimum_documents=200), curated, None, tmp_path)


def test_a_classifier_for_other_features_is_refused(trained: Path, tmp_path: Path) -> None:
    facts = json.loads((trained / "quality.json").read_text(encoding="utf-8"))
    (tmp_path / "quality.json").write_text(json.dumps({**facts, "features": facts["features"][1:]}), encoding="utf-8")
    with pytest.raises(UserError, match="made for other features"):
        QualityModel.load(tmp_path)
    (tmp_path / "quality.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(UserError, match="trees are missing"):
        QualityModel.load(tmp_path)


def test_curation_keeps_what_the_classifier_calls_high(tmp_path: Path, run_cli: Any) -> None:
    clean = write_corpus(tmp_path / "clean.jsonl", LANGUAGES, 40)
    mixed = tmp_path / "mixed.jsonl"
    texts = {
        "sound": [prose(language, number) for language in LANGUAGES for number in range(7000, 7015)],
        "spoilt": [
            damaged("shuffled_letters", prose(language, number), language)
            for language in LANGUAGES
            for number in range(8000, 8015)
        ],
        "strange": [prose("en", number) for number in range(3)],
    }
    languages = {"sound": LANGUAGES, "spoilt": LANGUAGES, "strange": ("en",)}
    rows = [
        {
            "id": f"{kind}-{number}",
            "text": text,
            "language": languages[kind][number * len(languages[kind]) // len(members)],
        }
        for kind, members in texts.items()
        for number, text in enumerate(members)
    ]
    mixed.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
name: picked
stages:
  clean:   {{do: curate, sources: [{{path: {clean}, language_field: language}}], near_duplicates: {{enabled: false}}}}
  quality: {{do: train-quality, documents: clean, folds: 3, trees: {{rounds: 40}}}}
  corpus:
    do: curate
    sources: [{{path: {mixed}, language_field: language, id_field: id}}]
    near_duplicates: {{enabled: false}}
    quality: {{model: quality, probability: 0.6}}
""",
        encoding="utf-8",
    )
    run_cli("run", recipe, "--out", tmp_path)
    corpus = tmp_path / "picked" / "corpus"
    kept = [row for split in ("train", "heldout") for row in rows_of(corpus / "documents" / split)]
    removed = rows_of(corpus / "removed")
    assert all(row["quality"] > 0.6 for row in kept)
    assert len([row for row in kept if row["text"] in texts["sound"]]) >= 27
    assert len([row for row in kept if row["text"] not in texts["sound"]]) <= 1
    low = [row for row in removed if row["reason"] == "quality"]
    assert len(low) >= 13  # other rules take some of the spoilt ones first
    assert all("not above 0.6" in row["detail"] or "not trained on 'en'" in row["detail"] for row in low)
    assert [row["quality"] for row in low if "not trained" in row["detail"]] == [None] * 3
    wrong = run_cli("run", recipe, "stages.corpus.quality.model=qualty", "--out", tmp_path, code=2)
    assert "did you mean 'quality'" in wrong.stderr


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
