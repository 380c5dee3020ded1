"""`do: merge` in a recipe: what it reads, what it leaves, what it refuses before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny_recipe

MERGED = {"do": "merge", "method": "ties", "density": 0.5, "weights": ["instruct", "second"], "base": "base"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merge")
    tiny_recipe.write_texts(folder / "texts")
    tiny_recipe.write_conversations(folder / "chats.jsonl")
    return folder


@pytest.fixture(scope="module")
def second(place: Path) -> dict[str, Any]:
    """A second tuning of the same base, in another order."""
    path = tiny_recipe.write_recipe(place / "plain.yaml", place / "texts", place / "chats.jsonl")
    import yaml

    return {**yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]["instruct"], "seed": 5}


def write(place: Path, second: dict[str, Any], **merged: Any) -> Path:
    stages = {
        "second": second,
        "merged": MERGED | merged,
        "between": {"do": "merge", "method": "slerp", "position": 0.2, "weights": ["base", "instruct"]},
    }
    return tiny_recipe.write_recipe(place / "tiny.yaml", place / "texts", place / "chats.jsonl", **stages)


def artifact(place: Path, stage: str) -> dict[str, Any]:
    return dict(json.loads((place / "runs" / "tiny" / stage / "artifact.json").read_text(encoding="utf-8")))


def test_models_of_a_recipe_become_one(place: Path, second: dict[str, Any], run_cli: Any) -> None:
    write(place, second)
    run_cli("run", "tiny.yaml", cwd=place)
    merged, between = artifact(place, "merged"), artifact(place, "between")
    assert {key: source["name"] for key, source in merged["inputs"].items()} == {
        "weights.0": "instruct",
        "weights.1": "second",
        "base": "base",
    }
    models = merged["summary"]["models"]
    assert [(model["name"], model["share"]) for model in models] == [("instruct", 1.0), ("second", 1.0)]
    assert all(0 < model["distance"] < 1 for model in models)
    assert (merged["summary"]["learned_to_answer"], between["summary"]["learned_to_answer"]) == (True, None)
    # At a fifth of the way it lies about a quarter as far from where it begins as from where it ends.
    base, instruct = between["summary"]["models"]
    assert base["distance"] / instruct["distance"] == pytest.approx(0.25, rel=0.1)
    assert run_cli("generate", "runs/tiny/merged", "Moja babcia", "--max-new-tokens", "4", cwd=place).stdout.strip()
    assert "second  [sft]" in run_cli("inspect", "runs/tiny/merged", cwd=place).stdout

    write(place, second, shares=[2.0, 1.0])
    again = run_cli("run", "tiny.yaml", cwd=place).stdout
    assert again.count("up to date") == 7
    assert [model["share"] for model in artifact(place, "merged")["summary"]["models"]] == [2.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "says", "key"),
    [
        ({"base": None}, "ties merges what models have learned since a base", "stages.merged"),
        ({"shares": [1.0]}, "1 shares for 2 models", "stages.merged.shares"),
        ({"density": None}, "ties needs a density", "stages.merged"),
        ({"weights": ["instruct", "instruct"]}, "each only once", "stages.merged.weights"),
        ({"weights": ["instruct", "tokens"]}, "tokens", "stages.merged.weights"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    changes: dict[str, Any], says: str, key: str, tmp_path: Path, second: dict[str, Any], place: Path, run_cli: Any
) -> None:
    tiny_recipe.write_recipe(
        tmp_path / "tiny.yaml", place / "texts", place / "chats.jsonl", second=second, merged=MERGED | changes
    )
    error = run_cli("run", "tiny.yaml", cwd=tmp_path, code=2).stderr
    assert says in error
    assert f"({key}" in error
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs" / "tiny").glob("*/artifact.json"))
