"""Training on a GPU learns what training on a CPU learns; its own paths equal those that they stand in for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tiny_training import SHAPE, settings
from vernacular.models.attention import DenseAttend, Heads
from vernacular.models.document_attention import DocumentAttend
from vernacular.models.feed_forward import answer
from vernacular.parallel.gradients import place_of
from vernacular.training.cross_entropy import compiled_score_rows, score_rows
from vernacular.training.metrics import read_metrics
from vernacular.training.objectives.pretrain import pretrain
from vernacular.training.optimisers import ruled
from vernacular.training.optimisers.rounding import Rounder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(100),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"),
]
GPU = torch.device("cuda")
MIXTURE = {**SHAPE, "family": "granitemoe", "num_experts": 4, "experts_per_token": 2}
# bfloat16 keeps 8 bits; sums of some hundred products differ by some of the last.
BFLOAT16 = 2e-2


def far(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found - expected‖ / ‖expected‖."""
    expected = expected.double().cpu()
    return float((found.double().cpu() - expected).norm() / expected.norm())


def losses(folder: Path, tokens: Path, tokenizer: Path, **changes: Any) -> list[float]:
    folder.mkdir()
    pretrain(settings(**changes), tokens=tokens, tokenizer=tokenizer, weights=None, folder=folder, name=folder.name)
    return [line["loss"] for line in read_metrics(folder)]


@pytest.mark.parametrize("model", [SHAPE, MIXTURE], ids=["dense", "mixture"])
@pytest.mark.parametrize("document_mask", [True, False])
def test_in_float32_the_losses_are_those_of_a_cpu(
    tmp_path: Path, tokens: Path, tokenizer: Path, model: dict[str, Any], document_mask: bool
) -> None:
    common = {"model": model, "document_mask": document_mask}
    on_cpu = losses(tmp_path / "cpu", tokens, tokenizer, device="cpu", kernels="torch", **common)
    on_gpu = losses(tmp_path / "gpu", tokens, tokenizer, device="cuda", **common)
    assert on_gpu == pytest.approx(on_cpu, rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "compile": True},
        {"precision": "bfloat16-pure", "rounding": "stochastic", "optimiser": {"name": "adamw-bf16"}},
        {"precision": "bfloat16-pure", "rounding": "kahan", "compile": True},
        {"precision": "bfloat16", "model": MIXTURE, "compile": True},
        {"precision": "bfloat16", "parallel": {"activation_checkpointing": "selective"}, "compile": True},
    ],
    ids=["bfloat16", "compiled", "stochastic", "kahan", "mixture", "checkpointed"],
)
def test_in_bfloat16_it_learns_as_in_float32(
    tmp_path: Path, tokens: Path, tokenizer: Path, changes: dict[str, Any]
) -> None:
    optimiser = {"learning_rate": 1e-2, "warmup_steps": 2}
    common = {"model": {**SHAPE, "head_dim": 16}, "steps": 12, "device": "cuda", "optimiser": optimiser}
    changes = {**changes, "optimiser": {**optimiser, **changes.get("optimiser", {})}}
    if "model" in changes:
        changes["model"] = {**changes["model"], "head_dim": 16}
    exact = losses(tmp_path / "exact", tokens, tokenizer, **{**common, "model": changes.get("model", common["model"])})
    found = losses(tmp_path / "found", tokens, tokenizer, **{**common, **changes})
    assert found == pytest.approx(exact, rel=BFLOAT16)
    assert found[-1] < found[0]


def test_a_run_that_stops_goes_on_with_the_same_bits(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    changes = {"precision": "bfloat16", "device": "cuda", "checkpoint_every": 3}
    whole = losses(tmp_path / "whole", tokens, tokenizer, **changes)
    parts = tmp_path / "parts"
    parts.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        from vernacular.training.trainer import Trainer

        step = Trainer._step

        def stop(trainer: Trainer, position: Any) -> Any:
            if position.step == 4:
                raise KeyboardInterrupt
            return step(trainer, position)

        patch.setattr(Trainer, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(**changes), tokens=tokens, tokenizer=tokenizer, weights=None, folder=parts, name="parts")
    pretrain(settings(**changes), tokens=tokens, tokenizer=tokenizer, weights=None, folder=parts, name="parts")
    assert [line["loss"] for line in read_metrics(parts)][-2:] == whole[-2:]
    name = "model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (parts / name).read_bytes()


def test_experts_by_the_grouped_product_are_those_of_the_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    num_experts, per_token, tokens, width, inner = 8, 3, 200, 64, 48

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    x, into, out = draw(tokens, width), 0.1 * draw(num_experts, 2 * inner, width), 0.1 * draw(num_experts, width, inner)
    scores = draw(tokens, num_experts)
    scores[:, 5] = -9.0  # an expert that nobody chooses
    best, chosen = scores.topk(per_token, dim=-1)
    weight = draw(tokens, width)
    found = []
    for device, dtype in ((torch.device("cpu"), torch.float32), (GPU, torch.bfloat16)):
        given = [tensor.to(device, dtype, copy=True).requires_grad_() for tensor in (x, into, out)]
        gates = best.softmax(dim=-1).to(device, copy=True).detach().requires_grad_()
        y = answer(functional.silu, *given, chosen.to(device), gates)
        (y.float() * weight.to(device)).sum().backward()
        found.append([y, *(tensor.grad for tensor in (*given, gates))])
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert far(on_gpu, on_cpu) < BFLOAT16
        assert torch.isfinite(on_gpu).all()


@pytest.mark.parametrize("key_heads", [4, 2])
def test_flash_attention_keeps_documents_apart_as_the_mask_does(key_heads: int) -> None:
    batch, tokens, heads_, width = 2, 192, 4, 64
    documents = np.repeat([[0, 1, 2, 3], [4, 5, 5, 6]], tokens // 4, axis=1)
    documents[0, 180:] = -1
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, number, tokens, width) for number in (heads_, key_heads, key_heads)]
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    heads, weight = Heads(width**-0.5, None, None), torch.randn(shapes[0], generator=generator)
    mask = torch.from_numpy(documents[:, :, None] == documents[:, None, :])[:, None]
    mask = mask & torch.ones(tokens, tokens, dtype=torch.bool).tril()
    positions = torch.arange(tokens).expand(batch, tokens)
    found = []
    for device, attend in (
        (torch.device("cpu"), DenseAttend(positions, mask, None)),
        (GPU, DocumentAttend(documents, GPU)),
    ):
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        given = [tensor.to(device, dtype, copy=True).requires_grad_() for tensor in values]
        gathered = attend(0, *given, heads)
        (gathered.float() * weight.to(device)).sum().backward()
        found.append([gathered, *(tensor.grad for tensor in given)])
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert far(on_gpu, on_cpu) < BFLOAT16


def test_compiled_rows_score_as_the_plain_ones() -> None:
    generator = torch.Generator(GPU).manual_seed(0)
    logits = 4 * torch.randn(96, 1000, generator=generator, device=GPU)
    targets = torch.randint(0, 1000, (96,), generator=generator, device=GPU)
    weights = torch.rand(96, generator=generator, device=GPU)
    settings_ = {"z_weight": 1e-3, "wants_gradient": True}
    plain = score_rows(logits.double().float().clone(), targets, weights, **settings_)
    for ours, expected in zip(compiled_score_rows()(logits, targets, weights, **settings_), plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_a_compiled_step_changes_weights_as_the_plain_one(rounding: Any) -> None:
    generator = torch.Generator(GPU).manual_seed(0)
    rounder = Rounder(rounding, seed=3)
    group = {"rule": "adamw", "betas": (0.9, 0.95), "epsilon": 1e-8, "weight_decay": 0.1, "lr": 1e-3}
    for size in (100, 4096):
        weight = torch.randn(size, generator=generator, device=GPU).bfloat16()
        state = {name: torch.zeros_like(weight) for name in ("mean", "square")} | rounder.new_state(weight)
        other, other_state = weight.clone(), {name: tensor.clone() for name, tensor in state.items()}
        for step in range(1, 5):
            gradient = torch.randn(size, generator=generator, device=GPU)
            key, place = rounder.key("weight", step), place_of(weight)
            ruled._apply(weight, gradient, state, {**group, "steps": float(step)}, place, key)
            tensors = {"steps": torch.tensor(float(step)), "lr": torch.tensor(group["lr"])}
            ruled._compiled()(other, gradient, other_state, {**group, **tensors}, place, key)
        # One in a thousand may lie so near a border that another order of rounding in float32 decides.
        assert (weight != other).float().mean() <= 1e-3


def test_float8_products_learn_as_bfloat16_ones(tmp_path: Path, tokens: Path, tokenizer: Path) -> None:
    pytest.importorskip("torchao")
    common = {"model": {**SHAPE, "head_dim": 16}, "steps": 12, "device": "cuda", "precision": "bfloat16"}
    exact = losses(tmp_path / "exact", tokens, tokenizer, **common)
    found = losses(tmp_path / "found", tokens, tokenizer, **common, compile=True, parallel={"float8": True})
    assert found == pytest.approx(exact, rel=0.05)
