"""Recipes that are wrong are refused before anything is done, naming file, line, key and the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_training import SHAPE

import tiny_recipe
from vernacular.foundation.errors import UserError
from vernacular.lifecycle.decision import digest_input
from vernacular.lifecycle.recipe import load_recipe
from vernacular.lifecycle.runner import run
from vernacular.lifecycle.schema import recipe_schema


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    tiny_recipe.write_texts(tmp_path / "texts", documents=2)
    return tiny_recipe.write_recipe(tmp_path / "tiny.yaml", tmp_path / "texts")


def edit(recipe: Path, old: str, new: str) -> int:
    """Replace the first `old` and return the number of its line."""
    text = recipe.read_text(encoding="utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new, 1), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vocab_size:", "vocab_sise:", "did you mean 'vocab_size'"),
        ("learning_rate:", "learning_rat:", "did you mean 'learning_rate'"),
        ("hidden_size: 32", "hidden_size: wide", "a whole number is needed"),
        ("do: pretrain", "do: pretraine", "did you mean 'pretrain'"),
        ("documents: corpus", "documents: corpse", "neither a stage of this recipe nor a path"),
        ("steps: 12", "steps: 0", "above 0"),
        ("tokens: tokens", "tokens: base", "a stage cannot read itself"),
    ],
)
def test_a_mistake_is_named_with_its_line(recipe: Path, old: str, new: str, message: str) -> None:
    line = edit(recipe, old, new)
    with pytest.raises(UserError) as caught:
        load_recipe(recipe)
    assert message in str(caught.value)
    assert f"{recipe}:{line} " in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "changes", "message", "key"),
    [
        ("corpus", {"filters": {"families": ["gopher_qualty"]}}, "unknown family of rules", "filters.families"),
        ("corpus", {"filters": {"disable": ["spm"]}}, "unknown filter rule", "filters.disable"),
        ("corpus", {"engine": {"memory": "1MB"}}, "too little for a process", "engine.memory"),
        ("corpus", {"near_duplicates": {"groupings": 2, "bands": 128}}, "different ways", "near_duplicates.groupings"),
        ("base", {"evaluate": {"every": 2}}, "takes both", "evaluate"),
        ("base", {"model": None}, "give either weights", "model"),
        ("base", {"model": {**SHAPE, "family": "lama"}}, "unknown model family", "model.family"),
        ("base", {"model": {**SHAPE, "window": 8}}, "has no place for window", "model.window"),
        ("base", {"model": {**SHAPE, "num_experts": 4}}, "but the feed-forward is gated", "model"),
        ("base", {"router_z_loss": 0.1}, "the model has no experts", "router_z_loss"),
        ("base", {"profile": {"first": 99, "last": 99}}, "exceeds the run's 12 steps", "profile.first"),
        ("base", {"optimiser": {"learning_rate": 1, "warmup_steps": 99}}, "exceeds", "optimiser.warmup_steps"),
        ("scores", {"do": "evaluate", "weights": "base", "tasks": None}, "nothing to evaluate", "tasks"),
        ("scores", {"do": "evaluate", "weights": "base", "suite": "krutrim"}, "unknown suite 'krutrim'", "suite"),
        ("grades", {"do": "train-quality", "documents": "corpus", "damage": {"kinds": ["x"]}}, "kind", "damage.kinds"),
    ],
)
def test_what_a_stage_would_refuse_after_hours_is_refused_at_once(
    tmp_path: Path, stage: str, changes: dict[str, Any], message: str, key: str
) -> None:
    texts = tiny_recipe.write_texts(tmp_path / "texts", documents=2)
    path = tiny_recipe.write_recipe(tmp_path / "tiny.yaml", texts, **{stage: changes})
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    before = lines.index(f"  {stage}:")
    line = next(n for n, text in enumerate(lines[before:], before + 1) if text.strip().startswith(key.split(".")[-1]))
    assert caught.value.where == f"{path}:{line} (stages.{stage}.{key})"


def test_what_a_stage_finds_wrong_when_it_runs_is_named_with_its_line_too(recipe: Path, tmp_path: Path) -> None:
    line = edit(recipe, "languages:\n", "languages:\n    - cs\n")
    with pytest.raises(UserError, match="no document in cs is left") as caught:
        run(recipe, out=tmp_path / "runs")
    assert caught.value.where == f"{recipe}:{line} (stages.corpus.languages)"
    loaded = load_recipe(recipe)
    for place in ("model.safetensors", "model.hidden_size.x", "elsewhere", "texts/hi.jsonl:3"):
        with pytest.raises(UserError) as caught, loaded.places_told("base"):
            raise UserError("a file, and no key", where=place)
        assert caught.value.where == place


def test_a_circle_is_named_without_the_stages_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "circle.yaml"
    path.write_text(
        "name: circle\nstages:\n"
        "  pieces: {do: train-tokenizer, documents: good}\n"
        "  good: {do: curate, sources: [{path: .}], quality: {model: grades}}\n"
        "  grades: {do: train-quality, documents: good}\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert caught.value.message == "no stage can be the first: good reads grades reads good"
    assert caught.value.where == f"{path}:4 (stages.good)"


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("name: x\n", "the key 'stages' is missing", ""),
        ("name: x\nstages: [a, b]\n", "'stages' is not a mapping", ":2 (stages)"),
        ("name: x\nparameters: 3\nstages: {a: {do: curate}}\n", "'parameters' is not a mapping", ":2 (parameters)"),
        ("name: x/y\nstages: {a: {do: curate, sources: [{path: .}]}}\n", "the name 'x/y' cannot name a folder", ""),
        ("name: x\nstages: {a: {do: curate, sources: [{path: ''}]}}\n", "at least 1 character", ":2 (stages.a."),
        ("name: x\nstages: {a: {do: curate, sources: [{path: '${t}'}]}}\n", "unknown parameter 't'", ":2 (stages.a."),
    ],
)
def test_a_recipe_of_the_wrong_form_is_refused(tmp_path: Path, text: str, message: str, place: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert message in caught.value.message
    assert str(caught.value.where).startswith(f"{path}{place}")


@pytest.mark.parametrize(
    ("old", "new", "message", "fix"),
    [
        ("documents: corpus", "documents: tokens", "(do: tokenize) makes none", "use one of: corpus"),
        ("tokens: tokens", "tokens: corpus", "(do: curate) makes none", "use one of: tokens"),
        ("tokenizer: tokenizer", "tokenizer: corpus", "reads a tokenizer here", "use one of: tokenizer, base"),
    ],
)
def test_a_stage_that_makes_something_else_is_refused(recipe: Path, old: str, new: str, message: str, fix: str) -> None:
    line = edit(recipe, old, new)
    with pytest.raises(UserError) as caught:
        load_recipe(recipe)
    assert message in caught.value.message
    assert str(caught.value.where).startswith(f"{recipe}:{line} ")
    assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.corpus.languages=[no]", "put it in quotation marks"),
        ("stages.bass.steps=3", "did you mean 'base'"),
        ("stages.base.stebs=3", "did you mean 'steps'"),
        ("stage.base.steps=3", "did you mean 'stages'"),
        ("stages.base.steps", "is not an override"),
        ("corpus=x", "unknown parameter or key 'corpus'"),
        ("stages.base.steps=few", "where: override stages.base.steps=few"),
    ],
)
def test_a_wrong_override_is_refused(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, [override])
    assert message in str(caught.value)


def test_overrides_reach_every_setting(recipe: Path) -> None:
    loaded = load_recipe(
        recipe, ["stages.base.optimiser.learning_rate=0.5", "stages.corpus.languages=[hi]", "name=other"]
    )
    base: Any = loaded.stages["base"]
    corpus: Any = loaded.stages["corpus"]
    assert (loaded.name, base.optimiser.learning_rate, corpus.languages) == ("other", 0.5, ("hi",))


def test_parameters_are_filled_in_and_asked_for(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    texts = str(recipe.parent / "texts")
    recipe.write_text("parameters: {corpus: null, size: null}\n" + text.replace(texts, "${corpus}/"), encoding="utf-8")
    edit(recipe, "vocab_size: 420", "vocab_size: ${size}")
    with pytest.raises(UserError, match="needs corpus, size") as caught:
        load_recipe(recipe)
    assert "corpus=… size=…" in str(caught.value), "all that are missing, at once"
    with pytest.raises(UserError, match="'corpus' is given no value"):
        load_recipe(recipe, ["corpus=", "size=500"])
    with pytest.raises(UserError, match="a whole number is needed") as caught:
        load_recipe(recipe, [f"corpus={texts}", "size=many"])
    assert caught.value.where == "override size=many"
    loaded = load_recipe(recipe, [f"corpus={texts}", "size=500"])
    corpus: Any = loaded.stages["corpus"]
    tokenizer: Any = loaded.stages["tokenizer"]
    assert corpus.sources[0].path == f"{texts}/"
    assert tokenizer.vocab_size == 500
    edit(recipe, "${size}", "${seize}")
    with pytest.raises(UserError, match="did you mean 'size'"):
        load_recipe(recipe, [f"corpus={texts}"])


def test_stages_run_after_those_they_read(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    assert loaded.order() == ["corpus", "tokenizer", "tokens", "base"]
    assert loaded.ancestors("base") == ["corpus", "tokenizer", "tokens"]


def test_the_schema_knows_every_verb_and_describes_every_key() -> None:
    schema = recipe_schema()
    json.dumps(schema)
    verbs = {
        definition["properties"]["do"]["const"]
        for definition in schema["$defs"].values()
        if "const" in definition.get("properties", {}).get("do", {})
    }
    assert verbs == {
        "curate", "train-quality", "train-tokenizer", "extend-tokenizer", "trim-tokenizer", "tokenize",
        "change-tokenizer", "pretrain", "sft", "merge", "evaluate", "publish",
    }  # fmt: skip
    for name, definition in schema["$defs"].items():
        for key, property_ in definition.get("properties", {}).items():
            assert key == "do" or "description" in property_ or "$ref" in property_, f"{name}.{key}"


def test_the_command_line_prints_no_traceback(recipe: Path, run_cli: Any) -> None:
    taken = run_cli("plan", recipe, "--out", recipe, cwd=recipe.parent, code=2)
    assert taken.stderr.startswith("error: a file stands where a folder is needed\n  where: --out")
    edit(recipe, "steps: 12", "stepz: 12")
    refused = run_cli("run", recipe, cwd=recipe.parent, code=2)
    assert refused.stderr.startswith("error: unknown key 'stepz'")
    assert "did you mean 'steps'" in refused.stderr
    assert not (recipe.parent / "runs").exists()
    missing = run_cli("run", "nowhere.yaml", cwd=recipe.parent, code=2)
    assert missing.stderr.startswith("error: file not found\n  where: nowhere.yaml")


def test_tokens_at_an_address_are_told_apart_by_their_index(tmp_path: Path) -> None:
    digests = []
    for name, index in (("one", "{}"), ("two", "{}"), ("three", '{"splits": {}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text(index)
        (tmp_path / name / "address.json").write_text(f'{{"address": "memory://{name}"}}')
        digests.append(digest_input(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]


def test_only_tokens_may_lie_at_an_address(recipe: Path) -> None:
    load_recipe(recipe, ["stages.base.tokens=memory://tokens"])
    with pytest.raises(UserError, match="neither a stage of this recipe nor a path"):
        load_recipe(recipe, ["stages.base.weights=memory://weights"])
