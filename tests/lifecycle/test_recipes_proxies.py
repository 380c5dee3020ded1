"""The proxies of the five systems: the full-size recipes' stages, settings and shape ratios, at a size a CPU trains."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from published_shapes import BEGINS_WITH
from vernacular.lifecycle.estimate import decoder_shape
from vernacular.lifecycle.recipe import Recipe, load_recipe
from vernacular.models.configuration import DecoderConfiguration
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.schedule import Course, learning_rate

NAMES = ("param-1", "krutrim-1", "krutrim-2", "granite-3.0-1b-a400m", "bielik-7b-v0.1")
DEPTH = 8
SAME_SHAPE = (
    *("family", "norm", "norm_epsilon", "feed_forward", "activation", "position", "rope_theta", "alibi_bias_max"),
    *("clip_qkv", "num_experts", "experts_per_token", "router_aux_loss_coef", "embedding_multiplier", "logits_scaling"),
    *("residual_multiplier", "tie_embeddings", "initializer_range"),
)
# What a proxy may have its own value for, by the stage's verb; tests below say of some what must hold instead.
SCALED = {
    "curate": {"sources", "languages"},
    "train-tokenizer": {"vocab_size", "max_positions"},
    "tokenize": set(),
    "pretrain": {
        *("model", "sequence_length", "batch_tokens", "micro_batch_tokens", "steps", "heldout_every"),
        *("checkpoint_every", "optimiser.learning_rate", "optimiser.final_learning_rate", "optimiser.warmup_steps"),
        *("optimiser.power.amplitude", "optimiser.mup.base_width"),
        # Of the machine, not of the model: a proxy is one process's. A micro-batch was published of Bielik alone.
        *("parallel", "checkpoint_async"),
    },
    "evaluate": set(),
    "publish": {"title", "licence", "description", "intended_use", "limitations"},
}
SCALED["sft"] = SCALED["pretrain"]
# Fewer steps of every training stage, for the test that runs them.
CUT = {
    "param-1": ("base.steps=30", "instruct.epochs=0.3"),
    "krutrim-1": ("base.steps=30", "instruct.epochs=0.3"),
    "krutrim-2": ("nemo.steps=30", "base.steps=20", "instruct.epochs=0.2"),
    "granite-3.0-1b-a400m": ("base_1.steps=30", "base_2.steps=8", "instruct_1.steps=24", "instruct.epochs=0.1"),
    "bielik-7b-v0.1": ("mistral.steps=30", "base.steps=30", "instruct.epochs=0.3"),
}
FEWER = "stages.corpus.sources.0.synthetic.documents=600"


def proxy_path(name: str, repository: Path) -> Path:
    return repository / "recipes" / "proxies" / f"{name}.yaml"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> dict[str, Recipe]:
    """The full-size recipes, given a folder for each of their parameters."""
    place = tmp_path_factory.mktemp("given")
    (place / "text").mkdir()
    for name, config in BEGINS_WITH.items():
        (place / name).mkdir()
        (place / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    recipes = {}
    for name in NAMES:
        path = repository / "recipes" / f"{name}.yaml"
        asked = yaml.safe_load(path.read_text(encoding="utf-8"))["parameters"]
        words = [f"{key}={place / (key if key in BEGINS_WITH else 'text')}" for key in asked if asked[key] is None]
        recipes[name] = load_recipe(path, words)
    return recipes


@pytest.fixture(scope="module")
def small(repository: Path) -> dict[str, Recipe]:
    """The proxies."""
    return {name: load_recipe(proxy_path(name, repository)) for name in NAMES}


def flat(settings: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted keys."""
    if not isinstance(settings, dict):
        yield at, settings
        return
    for key, value in settings.items():
        yield from flat(value, f"{at}.{key}" if at else key)


def trained(recipe: Recipe) -> dict[str, TrainingConfiguration]:
    return {name: stage for name, stage in recipe.stages.items() if isinstance(stage, TrainingConfiguration)}


def is_scaled(key: str, verb: str) -> bool:
    return any(key == scaled or key.startswith(f"{scaled}.") for scaled in SCALED[verb])


def shape_of(recipe: Recipe, stage: str) -> DecoderConfiguration:
    shape = decoder_shape(recipe, stage, Path("nowhere"))
    assert shape is not None
    return shape


def power_of_head_dim(shape: DecoderConfiguration) -> float:
    """p where scores are multiplied by head_dim^-p: 1/2 as usual, 1 under μP."""
    return 0.5 if shape.attention_multiplier is None else -math.log(shape.attention_multiplier, shape.head_dim)


@pytest.mark.parametrize("name", NAMES)
def test_a_proxy_has_the_full_recipes_stages_in_their_order(
    name: str, full: dict[str, Recipe], small: dict[str, Recipe]
) -> None:
    theirs, ours = full[name], small[name]
    assert [stage for stage in ours.stages if stage in theirs.stages] == list(theirs.stages)
    added = [stage for stage in ours.stages if stage not in theirs.stages]
    assert all(stage.partition("_")[0] in BEGINS_WITH for stage in added), "only stand-ins for given weights are added"
    for stage, asked in theirs.stages.items():
        assert ours.stages[stage].do == asked.do
        for key, read in asked.references().items():
            reads = ours.stages[stage].references()[key]
            assert reads == read if read in theirs.stages else reads in ours.stages, f"{stage}.{key}"


@pytest.mark.parametrize("name", NAMES)
def test_a_proxy_differs_in_sizes_and_rates_alone(name: str, full: dict[str, Recipe], small: dict[str, Recipe]) -> None:
    for stage, asked in full[name].stages.items():
        theirs, ours = (dict(flat(one.settings())) for one in (asked, small[name].stages[stage]))
        different = [
            key
            for key in theirs.keys() | ours.keys()
            if theirs.get(key) != ours.get(key) and not is_scaled(key, asked.do)
        ]
        assert different == [], stage


@pytest.mark.parametrize("name", NAMES)
def test_a_proxy_has_the_full_shapes_ratios(name: str, full: dict[str, Recipe], small: dict[str, Recipe]) -> None:
    for stage, asked in trained(full[name]).items():
        theirs, ours = (shape_of(recipe[name], stage) for recipe in (full, small))
        length = trained(small[name])[stage].sequence_length
        for key in SAME_SHAPE:
            assert getattr(ours, key) == getattr(theirs, key), key
        assert ours.num_heads / ours.num_key_value_heads == theirs.num_heads / theirs.num_key_value_heads
        queries, their_queries = ours.num_heads * ours.head_dim, theirs.num_heads * theirs.head_dim
        assert queries / ours.hidden_size == their_queries / theirs.hidden_size
        assert ours.intermediate_size / ours.hidden_size == theirs.intermediate_size / theirs.hidden_size
        assert ours.num_layers * DEPTH == theirs.num_layers
        assert ours.vocab_size / ours.hidden_size <= theirs.vocab_size / theirs.hidden_size
        assert (ours.window or 0) / length == (theirs.window or 0) / asked.sequence_length
        assert power_of_head_dim(ours) == pytest.approx(power_of_head_dim(theirs))


@pytest.mark.parametrize("name", NAMES)
def test_a_proxys_rates_rise_and_fall_as_the_full_ones(
    name: str, full: dict[str, Recipe], small: dict[str, Recipe]
) -> None:
    for stage, asked in trained(full[name]).items():
        made = trained(small[name])[stage]
        theirs, ours = asked.optimiser, made.optimiser
        assert ours.final_learning_rate / ours.learning_rate == pytest.approx(
            theirs.final_learning_rate / theirs.learning_rate, rel=0.005
        )
        assert bool(ours.warmup_steps) == bool(theirs.warmup_steps)
        assert (made.steps is None) == (asked.steps is None)
        if name == "bielik-7b-v0.1":
            assert made.micro_batch_rows == asked.micro_batch_rows
        if theirs.mup is not None and ours.mup is not None:
            widths = (shape_of(recipe[name], stage).hidden_size for recipe in (small, full))
            ratios = [width / mup.base_width for width, mup in zip(widths, (ours.mup, theirs.mup), strict=True)]
            assert ratios[0] == ratios[1]
            if stage != "base_2":  # which goes on where the power law of base_1 ends
                assert ours.learning_rate == theirs.learning_rate


def test_granites_power_law_goes_on_from_one_stage_to_the_next(small: dict[str, Recipe]) -> None:
    stages = trained(small["granite-3.0-1b-a400m"])
    rates = []
    for name in ("base_1", "base_2"):
        stage = stages[name]
        assert stage.steps is not None
        course = Course(stage.steps, stage.batch_rows, stage.batch_tokens)
        rates.append([learning_rate(stage.optimiser, step, course) for step in range(stage.steps)])
    capped = sum(rate == stages["base_1"].optimiser.learning_rate for rate in rates[0])
    assert 0.05 < capped / len(rates[0]) < 0.15
    assert rates[1][0] == pytest.approx(rates[0][-1], rel=0.005)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_a_proxy_runs_from_text_to_card(name: str, repository: Path, tmp_path: Path, run_cli: Any) -> None:
    cut = [f"stages.{setting}" for setting in CUT[name]]
    # A warm-up longer than the cut run would be refused.
    stages = {setting.partition(".")[0] for setting in CUT[name]}
    cut += [f"stages.{stage}.optimiser.warmup_steps={4 if stage != 'instruct' else 0}" for stage in sorted(stages)]
    run_cli("run", proxy_path(name, repository), *cut, FEWER, "--out", tmp_path)
    folder = tmp_path / f"proxy-{name}"
    recipe = load_recipe(proxy_path(name, repository), [*cut, FEWER])
    assert {path.name for path in folder.iterdir() if (path / "artifact.json").is_file()} == set(recipe.stages)
    scores = json.loads((folder / "scores" / "scores.json").read_text(encoding="utf-8"))["scores"]
    assert all(math.isfinite(score["value"]) for score in scores)
    for stage in trained(recipe):
        lines = (folder / stage / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses = [json.loads(line)["heldout_loss"] for line in lines if "heldout_loss" in line]
        if not losses:  # of so few conversations none may be held out
            index = json.loads((folder / stage / "tokens" / "index.json").read_text(encoding="utf-8"))
            assert index["splits"]["heldout"]["documents"] == 0
            continue
        assert losses[-1] < math.log(shape_of(recipe, stage).vocab_size)
    run_cli("verify", folder / "card")
