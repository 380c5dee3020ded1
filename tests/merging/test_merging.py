"""Each method against its paper's formula in float64, and what a merge refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

import tiny
from vernacular.foundation.errors import UserError
from vernacular.merging import blocks, slerp
from vernacular.merging.configuration import MergeConfiguration
from vernacular.merging.merge import merge
from vernacular.models.tensor_files import TENSORS

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "tie_embeddings": False},
    "granitemoe": {
        "family": "granitemoe", "tie_embeddings": True, "feed_forward": "experts", "num_experts": 4,
        "experts_per_token": 2, "attention_multiplier": 0.35, "logits_scaling": 3.0,
    },
}  # fmt: skip
MODELS = ("chat", "code", "stories")
Tensors = dict[str, NDArray[np.float64]]


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 1000)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tokenizer(tmp_path_factory.mktemp("merging") / "tokenizer")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Path:
    """Three models that lie near their base, of each family."""
    folder = tmp_path_factory.mktemp("models")
    for family, shape in FAMILIES.items():
        base = tiny.make_weights(folder / family / "base", tokenizer, **shape)
        drawn = np.random.default_rng(0)
        for name in MODELS:
            shutil.copytree(base, folder / family / name)
            learned = {
                key: tensor + 0.05 * drawn.normal(size=tensor.shape) for key, tensor in tiny_tensors(base).items()
            }
            tiny_write(folder / family / name, learned)
    return folder


def tiny_tensors(folder: Path) -> Tensors:
    return {name: tensor.double().numpy() for name, tensor in load_file(folder / TENSORS).items()}


def tiny_write(folder: Path, tensors: Tensors) -> None:
    from safetensors.numpy import save_file

    save_file({name: tensor.astype(np.float32) for name, tensor in tensors.items()}, folder / TENSORS)


def merged(place: Path, out: Path, models: tuple[str, ...] = MODELS, base: str | None = None, **values: Any) -> Tensors:
    folders = {name: place / name for name in models}
    out.mkdir()
    merge(MergeConfiguration(**values), folders, None if base is None else place / base, out)
    return tiny_tensors(out)


def trimmed(change: NDArray[np.float64], density: float) -> NDArray[np.float64]:
    order = np.argsort(-np.abs(change).ravel(), kind="stable")
    kept = np.zeros(change.size)
    kept[order[: int(density * change.size)]] = 1
    return change * kept.reshape(change.shape)


def elected(changes: list[NDArray[np.float64]], shares: tuple[float, ...]) -> NDArray[np.float64]:
    """Number by number, as the paper says it."""
    flat = np.stack([change.ravel() for change in changes], axis=1)
    result = np.zeros(len(flat))
    for place, values in enumerate(flat):
        sign = np.sign(np.dot(shares, values))
        own = [(share, value) for share, value in zip(shares, values, strict=True) if value * sign > 0]
        result[place] = sum(share * value for share, value in own) / sum(share for share, _ in own) if own else 0.0
    return result.reshape(changes[0].shape)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["linear", "slerp", "task-arithmetic", "ties"])
def test_a_merge_is_its_formula(method: str, family: str, place: Path, tmp_path: Path) -> None:
    folder, shares = place / family, (2.0, 1.0, 0.5)
    base, *models = (tiny_tensors(folder / name) for name in ("base", *MODELS))
    if method == "linear":
        found = merged(folder, tmp_path / "out", method=method, shares=shares)
        expected = {name: np.average([model[name] for model in models], axis=0, weights=shares) for name in base}
    elif method == "slerp":
        found = merged(folder, tmp_path / "out", ("chat", "code"), method=method, position=0.3)
        expected = {name: on_the_arc(models[0][name], models[1][name], 0.3) for name in base}
    else:
        learned = [{name: model[name] - base[name] for name in base} for model in models]
        settings: dict[str, Any] = {"scale": 0.7, "shares": shares}
        if method == "ties":
            settings["density"] = 0.3
        found = merged(folder, tmp_path / "out", base="base", method=method, **settings)
        expected = {}
        for name in base:
            changes = [change[name] for change in learned]
            if method == "ties":
                expected[name] = base[name] + 0.7 * elected([trimmed(change, 0.3) for change in changes], shares)
            else:
                expected[name] = base[name] + 0.7 * sum(s * change for s, change in zip(shares, changes, strict=True))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, expected[name], rtol=0, atol=5e-7, err_msg=name)


def on_the_arc(a: NDArray[np.float64], b: NDArray[np.float64], position: float) -> NDArray[np.float64]:
    cosine = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    if cosine > 0.9995:
        return (1 - position) * a + position * b
    angle = np.arccos(cosine)
    return (np.sin((1 - position) * angle) * a + np.sin(position * angle) * b) / np.sin(angle)


def test_the_arc_keeps_the_length_where_the_chord_loses_it() -> None:
    a, b = torch.eye(2) * 3
    assert slerp.slerp(a, b, 0.5).norm().item() == pytest.approx(3.0)
    torch.testing.assert_close(slerp.slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp.slerp(a, b, 1.0), b)
    # No arc of their own: opposite, parallel, nothing.
    for other in (-a, 2 * a, torch.zeros(2)):
        torch.testing.assert_close(slerp.slerp(a, other, 0.25), 0.75 * a + 0.25 * other)


def test_chance_keeps_the_density_and_the_mean(place: Path, tmp_path: Path) -> None:
    folder = place / "llama"
    base, chat = tiny_tensors(folder / "base"), tiny_tensors(folder / "chat")
    name = "model.embed_tokens.weight"
    learned = chat[name] - base[name]
    changes = []
    for seed in range(40):
        found = merged(folder, tmp_path / str(seed), ("chat",), "base", method="dare", density=0.25, seed=seed)
        change = found[name] - base[name]
        kept = change != 0
        assert kept.mean() == pytest.approx(0.25, abs=0.02)
        np.testing.assert_allclose(change[kept], 4 * learned[kept], rtol=0, atol=1e-6)
        changes.append(change)
    # Of 40 draws the mean is off by √(3 / 40) of the change, so the whole by as much, and more by 3 in 100 at most.
    off = np.linalg.norm(np.mean(changes, axis=0) - learned) / np.linalg.norm(learned)
    assert off == pytest.approx(np.sqrt(3 / 40), rel=0.03)
    again = merged(folder, tmp_path / "again", ("chat",), "base", method="dare", density=0.25, seed=7)
    np.testing.assert_array_equal(again[name] - base[name], changes[7])


def test_chance_is_another_for_each_model_and_tensor_and_the_vote_follows_it(place: Path, tmp_path: Path) -> None:
    folder, shares = place / "llama", (1.0, 2.0)
    base = tiny_tensors(folder / "base")
    kept = {}
    for one, models in {"chat": ("chat", "base"), "code": ("base", "code")}.items():
        # The base has learned nothing, so what is left is the other's, drawn by its place.
        found = merged(folder, tmp_path / one, models, "base", method="dare", density=0.5, shares=(1.0, 1.0))
        kept[one] = {name: found[name] - base[name] for name in base}
    masks = [(kept[one]["model.embed_tokens.weight"] != 0).ravel() for one in kept]
    layers = [(kept["chat"][f"model.layers.{layer}.mlp.up_proj.weight"] != 0).ravel() for layer in (0, 1)]
    assert abs(np.corrcoef(*masks)[0, 1]) < 0.05
    assert abs(np.corrcoef(*layers)[0, 1]) < 0.05
    found = merged(folder, tmp_path / "vote", ("chat", "code"), "base", method="dare-ties", density=0.5, shares=shares)
    for name in base:
        expected = base[name] + elected([kept["chat"][name], kept["code"][name]], shares)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=2e-6)


def test_a_model_merged_with_itself_is_itself_and_lies_at_no_distance(place: Path, tmp_path: Path) -> None:
    folder = place / "llama"
    shutil.copytree(folder / "chat", tmp_path / "twin")
    (tmp_path / "out").mkdir()
    weights = {"one": folder / "chat", "other": tmp_path / "twin"}
    summary = merge(MergeConfiguration(), weights, None, tmp_path / "out")
    assert summary["models"] == [{"name": name, "share": 1.0, "distance": 0} for name in ("one", "other")]
    found, expected = tiny_tensors(tmp_path / "out"), tiny_tensors(folder / "chat")
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)
    summary = merge(
        MergeConfiguration(shares=(3.0, 1.0)), {**weights, "other": folder / "code"}, None, tmp_path / "out"
    )
    one, other = summary["models"]
    assert other["distance"] == pytest.approx(3 * one["distance"], rel=1e-4)


def test_what_is_merged_is_read_by_transformers_and_can_be_narrower(place: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = place / "llama"
    expected = merged(folder, tmp_path / "wide")
    merged(folder, tmp_path / "narrow", dtype="bfloat16")
    assert json.loads((tmp_path / "narrow" / "config.json").read_text())["dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "narrow")
    assert model.dtype == torch.bfloat16
    assert model.state_dict().keys() == expected.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, torch.from_numpy(expected[name]).float().bfloat16())
    assert AutoTokenizer.from_pretrained(tmp_path / "narrow").chat_template


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"method": "ties"}, "needs a density"),
        ({"density": 0.3}, "density is a setting of ties"),
        ({"method": "slerp", "shares": (1.0, 1.0)}, "position instead of shares"),
        ({"method": "slerp", "scale": 2.0}, "scale is a setting of task-arithmetic"),
        ({"shares": (1.0, -1.0)}, "above 0"),
        ({"method": "ties", "density": 0.5, "shares": (0.0, 1.0)}, "above 0"),
        ({"method": "task-arithmetic", "seed": 3}, "seed is a setting of dare"),
        ({"method": "ties", "density": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MergeConfiguration(**values)


def test_what_cannot_be_merged_is_refused_by_name(place: Path, tmp_path: Path, tokenizer: Path) -> None:
    folder = place / "llama"

    def refusal(models: dict[str, Path], base: Path | None = None, **values: Any) -> UserError:
        with pytest.raises(UserError) as raised:
            merge(MergeConfiguration(**values), models, base, tmp_path / "never")
        assert raised.value.fix
        return raised.value

    both = {name: folder / name for name in ("chat", "code")}
    assert refusal(both, method="task-arithmetic").where == "base"
    assert refusal(both, folder / "base").where == "base"
    assert refusal({"chat": folder / "chat"}).where == "weights"
    assert refusal({**both, "stories": folder / "stories"}, method="slerp").where == "weights"
    assert refusal(both, shares=(1.0,)).where == "shares"

    tiny.make_weights(tmp_path / "wider", tokenizer, hidden_size=64, head_dim=16)
    assert "hidden_size is 32 and 64" in refusal({**both, "wider": tmp_path / "wider"}).message

    tiny.make_tokenizer(tmp_path / "other-tokenizer", vocab_size=410)
    tiny.make_weights(tmp_path / "foreign", tmp_path / "other-tokenizer", **FAMILIES["llama"])
    assert "different tokenizers" in refusal({**both, "foreign": tmp_path / "foreign"}).message

    shutil.copytree(folder / "code", tmp_path / "polite")
    with open(tmp_path / "polite" / "chat_template.jinja", "a", encoding="utf-8") as file:
        file.write("{# please #}")
    assert "different chat templates" in refusal({**both, "polite": tmp_path / "polite"}).message

    shutil.copytree(folder / "code", tmp_path / "broken")
    tensors = tiny_tensors(folder / "code")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    tiny_write(tmp_path / "broken", tensors)
    (tmp_path / "never").mkdir()
    error = refusal({"chat": folder / "chat", "broken": tmp_path / "broken"})
    assert "model.layers.1.mlp.up_proj.weight" in error.message
    assert error.where == "broken"
    assert not list((tmp_path / "never").iterdir())


def test_a_base_without_a_template_lends_none(place: Path, tmp_path: Path) -> None:
    """What ends an answer is the first speaker's, whatever stands first."""
    folder = place / "llama"
    shutil.copytree(folder / "base", tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink()
    (tmp_path / "plain" / "generation_config.json").write_text('{"eos_token_id": 0}')
    (tmp_path / "out").mkdir()
    merge(MergeConfiguration(), {"plain": tmp_path / "plain", "chat": folder / "chat"}, None, tmp_path / "out")
    for name in ("chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_text() == (folder / "chat" / name).read_text()
