"""The five systems' recipes: they plan, count to the published weight, and miss no published number."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from published_shapes import BEGINS_WITH
from vernacular.lifecycle.estimate import decoder_shape
from vernacular.lifecycle.memory import training_memory
from vernacular.lifecycle.recipe import Recipe, load_recipe
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.hardware import find_gpu
from vernacular.training.schedule import Course, learning_rate

ALL_WEIGHTS = {
    "param-1": 2_860_648_448,
    "krutrim-1": 7_345_967_616,
    "krutrim-2": 12_247_782_400,
    "granite-3.0-1b-a400m": 1_334_628_352,
    "bielik-7b-v0.1": 7_241_732_096,
}
ADAM = {"name": "adamw", "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.1}
# Published, and a setting: the stage, then its keys.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "param-1": {
        "tokenizer": {"vocab_size": 256000, "max_positions": 2048},
        "base.model": {
            "hidden_size": 2048,
            "intermediate_size": 7168,
            "num_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "num_layers": 32,
            "rope_theta": 10000.0,
            "norm_epsilon": 1e-5,
            "initializer_range": 0.01,
            "tie_embeddings": False,
        },
        "base": {"sequence_length": 2048, "precision": "bfloat16"},
        "base.mixture": {"shares": {"hi": 25, "en": 75}},
        "base.optimiser": {"schedule": "cosine", "learning_rate": 3e-4, "final_learning_rate": 3e-6},
        "instruct": {"epochs": 3, "precision": "bfloat16"},
        "instruct.optimiser": {"schedule": "cosine", "learning_rate": 5e-6, "final_learning_rate": 5e-8},
        "scores": {"num_fewshot": 0},
    },
    "krutrim-1": {
        "tokenizer": {"vocab_size": 70400, "max_positions": 4096},
        "base.model": {
            "family": "mpt",
            "hidden_size": 4608,
            "num_layers": 32,
            "num_heads": 48,
            "num_key_value_heads": 8,
            "head_dim": 96,
            "intermediate_size": 18432,
            "alibi_bias_max": 8,
            "clip_qkv": 6.0,
            "norm_epsilon": 1e-5,
            "tie_embeddings": True,
        },
        "base": {"sequence_length": 4096, "document_mask": False},
    },
    "krutrim-2": {"base": {"sequence_length": 4096, "precision": "bfloat16"}},
    "granite-3.0-1b-a400m": {
        "tokenizer": {"vocab_size": 49155},
        "base_1.model": {
            "family": "granitemoe",
            "hidden_size": 1024,
            "num_layers": 24,
            "num_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "intermediate_size": 512,
            "num_experts": 32,
            "experts_per_token": 8,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.015625,
            "residual_multiplier": 0.22,
            "logits_scaling": 6.0,
            "norm_epsilon": 1e-6,
            "rope_theta": 10000.0,
            "router_aux_loss_coef": 0.001,
            "initializer_range": 0.1,
            "tie_embeddings": True,
        },
        "base_1": {"sequence_length": 4096, "batch_tokens": 1024 * 4096},
        "base_1.mixture": {
            "by": "source",
            "shares": {"web": 69.5, "code": 19, "domain": 4.5, "academic": 4, "math": 1.5, "technical": 1.5},
        },
        "base_2.mixture": {
            "by": "source",
            "shares": {
                "web": 45,
                "domain": 11,
                "code": 10,
                "math": 10,
                "instruction": 10,
                "multilingual": 5,
                "academic": 5,
                "technical": 4,
            },
        },
        "base_1.optimiser": {**ADAM, "schedule": "power", "learning_rate": 0.02, "warmup_steps": 2500},
        "base_1.optimiser.power": {"amplitude": 4.0, "exponent": -0.51},
        "base_1.optimiser.mup": {"base_width": 256},
        "base_2": {"sequence_length": 4096, "batch_tokens": 1024 * 4096},
        "base_2.optimiser": ADAM,
        "base_2.optimiser.mup": {"base_width": 256},
        "instruct_1": {"steps": 30000, "batch_tokens": 1 << 20},
        "instruct_1.optimiser": {
            "schedule": "cosine",
            "learning_rate": 0.01,
            "final_learning_rate": 0.001,
            "weight_decay": 0.1,
        },
        "instruct": {"batch_tokens": 32768},
        "instruct.optimiser": {"learning_rate": 1e-7},
    },
    "bielik-7b-v0.1": {
        "corpus.near_duplicates": {"threshold": 0.7, "shingle": 1, "hashes": 42 * 5},
        "base": {
            "sequence_length": 4096,
            "micro_batch_tokens": 4 * 4096,
            "batch_tokens": 4194304,
            "steps": 17350,
            "precision": "bfloat16",
        },
        "base.optimiser": {
            **ADAM,
            "schedule": "cosine",
            "learning_rate": 3e-5,
            "final_learning_rate": 2e-5,
            "warmup_steps": 2000,
            "epsilon": 1e-8,
            "clip": 1.0,
        },
        "instruct": {"sequence_length": 4096, "batch_tokens": 128 * 4096, "micro_batch_tokens": 4096, "epochs": 3},
        "instruct.optimiser": {
            **ADAM,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "learning_rate": 7e-6,
            "final_learning_rate": 6e-7,
            "warmup_steps": 50,
            "clip": 1.0,
            "adaptive": True,
        },
        "scores": {"num_fewshot": 5},
    },
}
# What decides the weights of any run: stated in every training stage, published or chosen.
CHOSEN = {"name", "learning_rate", "schedule", "beta1", "beta2", "epsilon", "weight_decay", "clip"}
# Published, and no setting of today: said in a remark.
REMARKS = {
    "param-1": [
        "7.5T",
        "512",
        "0.8M",
        "32 H200",
        "25%",
        "2.77T",
        "37%",
        "5T",
        "2T",
        "3.5 ×",
        "128K",
        "2,860,648,448",
        "is 2",
        "token 3",
    ],
    "krutrim-1": ["2T tokens", "70%", "12", "October and November 2023", "April 2023", "7,345,967,616", "ReLU", "= 8"],
    "krutrim-2": [
        *("5120", "40 layers", "32 query", "8 key-value", "128", "14336", "1e-5", "1000000", "131072", "1024000"),
        *("4096", "128K", "22", "December 2024", "April 2024", "12,247,782,400"),
    ],
    "granite-3.0-1b-a400m": [
        *("8T", "2T", "10T", "1024 rows", "128 or 256", "ZeRO-1", "71,171", "1.3", "0.39", "20M", "100k", "30k"),
        *("English 68", "code 13", "tools 8", "math 6", "safety 1", "90%", "30%", "10%", "49152", "428,658,688"),
        *(
            "best of 64",
            "rank 8",
            "1000 updates",
            "5e-7",
            "0.05",
            "64 rollouts",
            "116",
            "0.2",
            "every 100 steps",
            "0.02",
        ),
        *("English 40", "code 25", "math 5", "safety 30"),
    ],
    "bielik-7b-v0.1": [
        *("256 GH200", "9200", "18M", "22B", "36B", "72.8B", "93", "0.90", "9,000", "42 bands", "2.3M", "700M"),
        *("1.0", "0.7", "0.5", "55,440", "14336", "8192", "32000", "10000", "7,241,732,096"),
    ],
}


# Keys that name no quantity.
NAMES = {"do", "tokens", "weights", "conversations", "family", "by"}


def leaves(node: yaml.Node, at: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        return [(at, node)]
    return [leaf for key, value in node.value for leaf in leaves(value, (*at, key.value))]


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A value for every parameter that a recipe must be given."""
    place = tmp_path_factory.mktemp("given")
    (place / "text").mkdir()
    kinds = ("web", "code", "domain", "academic", "math", "technical", "instruction", "multilingual")
    for path in (place / "text", *(place / "text" / kind for kind in kinds)):
        path.mkdir(exist_ok=True)
        (path / "one.txt").write_text("Dzień dobry. नमस्ते। Good morning.\n", encoding="utf-8")
    for name, config in BEGINS_WITH.items():
        (place / name).mkdir()
        (place / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    text = str(place / "text")
    given = dict.fromkeys(("corpus", "corpus_2", "conversations", "conversations_2"), text)
    return given | {name: str(place / name) for name in BEGINS_WITH}


def path_of(name: str, repository: Path) -> Path:
    return repository / "recipes" / f"{name}.yaml"


def words_for(name: str, repository: Path, overrides: dict[str, str]) -> list[str]:
    asked = yaml.safe_load(path_of(name, repository).read_text(encoding="utf-8"))["parameters"]
    return [f"{key}={overrides[key]}" for key in asked]


def loaded(name: str, repository: Path, overrides: dict[str, str]) -> Recipe:
    return load_recipe(path_of(name, repository), words_for(name, repository, overrides))


@pytest.mark.parametrize("name", ALL_WEIGHTS)
def test_a_recipe_plans(name: str, repository: Path, tmp_path: Path, overrides: dict[str, str], run_cli: Any) -> None:
    words = words_for(name, repository, overrides)
    plan = run_cli("plan", path_of(name, repository), *words, "--out", tmp_path, "--gpus", "64", "--gpu", "h100").stdout
    assert f"parameters    {ALL_WEIGHTS[name]:,}" in plan
    assert plan.count("operations") >= 2, "every training stage has its forecast"
    assert "epochs:" in plan, "fine-tuning lasts as long as its data, which is not there yet"


@pytest.mark.parametrize("name", ALL_WEIGHTS)
def test_every_training_stage_has_the_published_number_of_weights(
    name: str, repository: Path, tmp_path: Path, overrides: dict[str, str]
) -> None:
    recipe = loaded(name, repository, overrides)
    trained = [stage for stage in recipe.order() if isinstance(recipe.stages[stage], TrainingConfiguration)]
    assert len(trained) >= 2
    for stage in trained:
        shape = decoder_shape(recipe, stage, tmp_path)
        assert shape is not None
        assert shape.num_parameters() == ALL_WEIGHTS[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_published_number_is_in_the_recipe(name: str, repository: Path, overrides: dict[str, str]) -> None:
    recipe = loaded(name, repository, overrides)
    written = yaml.safe_load(path_of(name, repository).read_text(encoding="utf-8"))["stages"]
    for place, facts in SETTINGS[name].items():
        stage, *keys = place.split(".")
        resolved: Any = recipe.stages[stage].model_dump()
        stated: Any = written[stage]
        for key in keys:
            resolved, stated = resolved[key], stated[key]
        for key, fact in facts.items():
            assert resolved[key] == fact, f"{place}.{key}"
            assert key in stated, f"{place}.{key} is left to a default"


@pytest.mark.parametrize("name", REMARKS)
def test_what_no_setting_can_say_stands_in_a_remark(name: str, repository: Path) -> None:
    lines = path_of(name, repository).read_text(encoding="utf-8").splitlines()
    remarks = "\n".join(line.partition("#")[2] for line in lines if "#" in line)
    assert [fact for fact in REMARKS[name] if fact not in remarks] == []


@pytest.mark.parametrize("name", ALL_WEIGHTS)
def test_every_training_setting_is_published_or_has_a_remark(name: str, repository: Path) -> None:
    published = {f"{place}.{key}" for place, facts in SETTINGS[name].items() for key in facts}
    lines = path_of(name, repository).read_text(encoding="utf-8").splitlines()
    document = yaml.compose("\n".join(lines))
    unmarked = []
    for at, node in leaves(document):
        stage = at[1] if len(at) > 1 else ""
        if at[0] != "stages" or not stage.startswith(("base", "instruct")) or at[-1] in NAMES:
            continue
        if ".".join(at[1:]) not in published and "#" not in lines[node.start_mark.line]:
            unmarked.append(".".join(at))
    assert unmarked == []


@pytest.mark.parametrize("name", ALL_WEIGHTS)
def test_no_choice_is_left_to_a_default(name: str, repository: Path) -> None:
    stages = yaml.safe_load(path_of(name, repository).read_text(encoding="utf-8"))["stages"]
    for stage, settings in stages.items():
        if settings["do"] in ("pretrain", "sft"):
            assert {"precision", "document_mask"} <= settings.keys(), stage
            assert settings["optimiser"].keys() >= CHOSEN, stage


@pytest.mark.parametrize("name", ALL_WEIGHTS)
def test_a_recipe_as_it_stands_fits_the_gpus_that_it_names(
    name: str, repository: Path, tmp_path: Path, overrides: dict[str, str]
) -> None:
    named = re.search(r"--gpus (\d+) --gpu (\w+)", path_of(name, repository).read_text(encoding="utf-8"))
    assert named is not None
    recipe, gpu = loaded(name, repository, overrides), find_gpu(named[2])
    for stage, settings in recipe.stages.items():
        if not isinstance(settings, TrainingConfiguration):
            continue
        shape = decoder_shape(recipe, stage, tmp_path)
        assert shape is not None
        sizes = settings.parallel.sizes(min(int(named[1]), settings.batch_rows))
        rows = min(settings.micro_batch_rows, settings.batch_rows // sizes.data)
        memory = training_memory(shape, settings, settings.parallel, sizes, rows)
        assert memory.total < 0.9 * gpu.memory, stage


def test_granites_rate_goes_on_from_one_stage_to_the_next(repository: Path, overrides: dict[str, str]) -> None:
    recipe = loaded("granite-3.0-1b-a400m", repository, overrides)
    rates = []
    for name in ("base_1", "base_2"):
        stage = recipe.stages[name]
        assert isinstance(stage, TrainingConfiguration)
        assert stage.steps is not None
        course = Course(stage.steps, stage.batch_rows, stage.batch_tokens)
        rates.append([learning_rate(stage.optimiser, step, course) for step in (0, 2499, 20_000, stage.steps - 1)])
    assert rates[0][1] == 0.02, "the cap holds to 2.6e10 tokens, and the warm-up ends at 1e10"
    assert rates[0][3] == pytest.approx(0.001076, rel=1e-3)
    assert rates[1][0] == pytest.approx(rates[0][3], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "stage", "tokens"),
    [
        ("param-1", "base", 7.5e12),
        ("krutrim-1", "base", 2e12),
        ("granite-3.0-1b-a400m", "base_1", 8e12),
        ("granite-3.0-1b-a400m", "base_2", 2e12),
        ("bielik-7b-v0.1", "base", 72.8e9),
    ],
)
def test_a_run_sees_as_many_tokens_as_was_published(
    name: str, stage: str, tokens: float, repository: Path, overrides: dict[str, str]
) -> None:
    settings = loaded(name, repository, overrides).stages[stage]
    assert isinstance(settings, TrainingConfiguration)
    assert settings.steps is not None
    assert settings.steps * settings.batch_tokens == pytest.approx(tokens, rel=1e-3)
