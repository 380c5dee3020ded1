"""A training run of a second, alone and spread over ranks: what the tests of `parallel` compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.tensor import DTensor

from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.training_kernels import use_native_kernels
from vernacular.parallel.apply import Spread, spread
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.parallel.mesh import Mesh, open_mesh
from vernacular.parallel.pipeline import Read
from vernacular.parallel.share import share
from vernacular.parallel.state import gather_decoder, state_of, take_state
from vernacular.tokens.order import Order
from vernacular.training.cross_entropy import chunked_cross_entropy

SEQUENCE, ROWS, STEPS, VOCABULARY = 16, 8, 5, 50
RATE, CLIP = 1e-2, 1.0
# Larger than usual: a gradient that is zero but for rounding then moves its weight by next to nothing.
EPSILON = 1e-6

MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "mixture": {
        "feed_forward": "experts",
        "num_experts": 4,
        "experts_per_token": 2,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    },
    "tied": {"tie_embeddings": True},
    "alibi": {"position": "alibi", "feed_forward": "plain", "norm": "layer", "clip_qkv": 1.0},
    "windowed": {"window": 5},
}


@dataclass(frozen=True)
class Part:
    """Some rows of a step."""

    ids_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor | None
    is_text_BT: Tensor


def make_decoder(name: str) -> Decoder:
    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "intermediate_size": 48,
        "max_positions": 64,
        "initializer_range": 0.1,
        **MODELS[name],
    }
    decoder = Decoder(DecoderConfiguration(**values))
    decoder.initialise(0)
    return decoder


def rows_of(indices: list[int]) -> Part:
    """Rows of two documents each, of different lengths; a row is a function of its number alone."""
    ids, weights, documents = [], [], []
    for index in indices:
        generator = torch.Generator().manual_seed(index)
        ids.append(torch.randint(VOCABULARY, (SEQUENCE + 1,), generator=generator))
        weights.append((torch.rand(SEQUENCE, generator=generator) > 0.3).float() * (1 + index % 3))
        documents.append((torch.arange(SEQUENCE + 1) >= 3 + index % 9).long())
    ids_BT, documents_BT = torch.stack(ids), torch.stack(documents)
    same = documents_BT[:, 1:] == documents_BT[:, :-1]
    begins = (documents_BT == 0).sum(dim=1, keepdim=True)
    positions = torch.arange(SEQUENCE + 1) - documents_BT * begins
    documents_BT = documents_BT[:, :-1]
    mask = (documents_BT[:, :, None] == documents_BT[:, None, :]) & torch.ones(SEQUENCE, SEQUENCE).tril().bool()
    return Part(ids_BT[:, :-1], ids_BT[:, 1:], torch.stack(weights) * same, positions[:, :-1], mask[:, None], same)


def read(decoder: Decoder, part: Part) -> Tensor:
    return _hidden(decoder, part)


def read_narrow(decoder: Decoder, part: Part) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return _hidden(decoder, part)


def _hidden(decoder: Decoder, part: Part) -> Tensor:
    return decoder(part.ids_BT, positions_BT=part.positions_BT, mask_B1TS=part.mask_B1TT)


def loss_over(weight: float) -> Callable[[Decoder, Tensor, Part], Tensor]:
    def loss(decoder: Decoder, hidden_BTD: Tensor, part: Part) -> Tensor:
        scaled_BTD = hidden_BTD / decoder.configuration.logits_scaling
        sums = chunked_cross_entropy(
            scaled_BTD.flatten(0, 1),
            decoder.head.weight,
            part.targets_BT.flatten(),
            part.weights_BT.flatten(),
            chunk_tokens=7,
        )
        return sums.loss / weight

    return loss


def groups_of(decoder: Decoder) -> list[dict[str, Any]]:
    parameters = list(decoder.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


@dataclass
class Curve:
    """What a run leaves behind: values of every step, and the final weights, whole."""

    losses: list[float]
    norms: list[float]
    weights: dict[str, Tensor]


def train_alone(model: str, *, steps: int = STEPS) -> Curve:
    """The reference: plain PyTorch, one process, the whole batch at once."""
    decoder = make_decoder(model)
    optimiser = torch.optim.AdamW(groups_of(decoder), lr=RATE, eps=EPSILON)
    losses, norms = [], []
    for step in range(steps):
        part = rows_of(Order(100, ROWS, seed=3).indices(step))
        value = loss_over(float(part.weights_BT.sum()))(decoder, read(decoder, part), part)
        value.backward()
        norms.append(float(nn.utils.clip_grad_norm_(decoder.parameters(), CLIP)))
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(value.detach()))
    return Curve(losses, norms, {name: weight.detach() for name, weight in decoder.state_dict().items()})


def train_spread(
    model: str,
    settings: dict[str, Any],
    micro_batches: int = 1,
    steps: int = STEPS,
    read: Read = read,
    prepare: Callable[[Decoder], None] = lambda decoder: None,
) -> Curve:
    """The same run on a rank among others, or alone."""
    mesh = open_mesh(ParallelConfiguration.model_validate({k: v for k, v in settings.items() if k != "compile"}))
    run, optimiser = begin(model, settings, mesh, prepare)
    losses, norms = [], []
    for step in range(steps):
        loss, norm = take_step(run, optimiser, step, micro_batches, read)
        losses.append(loss)
        norms.append(norm)
    return Curve(losses, norms, gather(run.decoder, mesh))


def take_step(
    run: Spread, optimiser: torch.optim.Optimizer, step: int, micro_batches: int, read: Read = read
) -> tuple[float, float]:
    mesh = run.mesh
    indices = Order(100, ROWS, seed=3).indices(step, mesh.data_rank, mesh.sizes.data)
    size = len(indices) // micro_batches
    parts = [share(rows_of(indices[start : start + size]), mesh) for start in range(0, len(indices), size)]
    (weight,) = mesh.total(sum(float(part.weights_BT.sum()) for part in parts))
    (loss,) = mesh.total(sum(run.learn(parts, read, loss_over(weight))))
    norm = run.clip(CLIP)
    optimiser.step()
    optimiser.zero_grad()
    return loss, norm


def gather(decoder: Decoder, mesh: Mesh) -> dict[str, Tensor]:
    """Every weight, whole; over all stages of a pipeline."""
    whole = {}
    for name, weight in decoder.state_dict().items():
        whole[name] = (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach().clone()
    if mesh.sizes.pipeline > 1:
        stages: list[Any] = [None] * mesh.sizes.world
        dist.all_gather_object(stages, whole)
        whole = {name: weight for stage in stages for name, weight in stage.items()}
    return whole


def differences(curve: Curve, reference: Curve) -> tuple[float, float, float]:
    """Largest relative difference of losses and norms, largest absolute one of weights."""
    assert set(curve.weights) == set(reference.weights)
    loss = max(abs(a / b - 1) for a, b in zip(curve.losses, reference.losses, strict=True))
    norm = max(abs(a / b - 1) for a, b in zip(curve.norms, reference.norms, strict=True))
    weight = max(float((curve.weights[name] - reference.weights[name]).abs().max()) for name in reference.weights)
    return loss, norm, weight if math.isfinite(weight) else math.inf


@dataclass(frozen=True)
class Kept:
    """What a checkpoint must keep: model and optimiser, every tensor whole."""

    values: dict[str, Any]


def kept_of(run: Spread, optimiser: torch.optim.Optimizer) -> Kept:
    values: dict[str, Any] = {}
    for part, state in state_of(run.decoder, optimiser).items():
        for name, value in state.items():
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            values[f"{part}.{name}"] = whole.clone() if isinstance(whole, Tensor) else whole
    if run.mesh.sizes.pipeline > 1:
        stages: list[Any] = [None] * run.mesh.sizes.world
        dist.all_gather_object(stages, values)
        values = {name: value for stage in stages for name, value in stage.items()}
    return Kept(values)


def begin(
    model: str, settings: dict[str, Any], mesh: Mesh, prepare: Callable[[Decoder], None] = lambda decoder: None
) -> tuple[Spread, torch.optim.Optimizer]:
    settings, compiles = {**settings}, "compile" in settings
    settings.pop("compile", None)
    configuration = ParallelConfiguration.model_validate(settings)
    decoder = make_decoder(model)
    prepare(decoder)
    run = spread(decoder, configuration, mesh, sequence_length=SEQUENCE, compile=compiles)
    return run, torch.optim.AdamW(groups_of(run.decoder), lr=RATE, eps=EPSILON, fused=True)


def save_state(folder: Path, decoder: Decoder, optimiser: torch.optim.Optimizer | None) -> None:
    writer = checkpoint.FileSystemWriter(folder)
    checkpoint.save(state_of(decoder, optimiser), storage_writer=writer, no_dist=not dist.is_initialized())


def load_state(folder: Path, decoder: Decoder, optimiser: torch.optim.Optimizer | None) -> None:
    state = state_of(decoder, optimiser)
    reader = checkpoint.FileSystemReader(folder)
    checkpoint.load(state, storage_reader=reader, no_dist=not dist.is_initialized())
    take_state(decoder, optimiser, state)


def train_and_save(model: str, settings: dict[str, Any], folder: Path, steps: int) -> Kept:
    mesh = open_mesh(ParallelConfiguration.model_validate(settings))
    run, optimiser = begin(model, settings, mesh)
    for step in range(steps):
        take_step(run, optimiser, step, micro_batches=2)
    save_state(folder, run.decoder, optimiser)
    return kept_of(run, optimiser)


def load_and_train(model: str, settings: dict[str, Any], folder: Path, first: int, steps: int) -> tuple[Kept, Curve]:
    """What was loaded, and how the run went on from there."""
    mesh = open_mesh(ParallelConfiguration.model_validate(settings))
    run, optimiser = begin(model, settings, mesh)
    load_state(folder, run.decoder, optimiser)
    loaded = kept_of(run, optimiser)
    values = [take_step(run, optimiser, step, micro_batches=2) for step in range(first, steps)]
    losses, norms = [loss for loss, _ in values], [norm for _, norm in values]
    return loaded, Curve(losses, norms, gather(run.decoder, mesh))


def train_narrow(model: str, settings: dict[str, Any]) -> Curve:
    """Products in bfloat16."""
    return train_spread(model, settings, read=read_narrow)


def train_with_kernels(model: str, settings: dict[str, Any]) -> Curve:
    """Norms, rotations, gates and experts by the kernels of this machine."""
    return train_spread(model, settings, prepare=use_native_kernels)


def score(model: str, settings: dict[str, Any]) -> float:
    """The loss of eight rows in four parts, summed over all ranks."""
    configuration = ParallelConfiguration.model_validate(settings)
    mesh = open_mesh(configuration)
    run = spread(make_decoder(model), configuration, mesh, sequence_length=SEQUENCE)
    rows = list(range(8))[mesh.data_rank :: mesh.sizes.data]
    size = len(rows) // 4 or 1
    parts = [share(rows_of(rows[start : start + size]), mesh) for start in range(0, len(rows), size)]
    (total,) = mesh.total(sum(run.score(parts, read, loss_over(1.0))))
    for parameter in run.decoder.parameters():
        assert parameter.grad is None
        assert isinstance(parameter, DTensor) == (mesh.sizes.world > 1)
    return total


def gather_weights(model: str, settings: dict[str, Any]) -> dict[str, Tensor] | None:
    configuration = ParallelConfiguration.model_validate(settings)
    mesh = open_mesh(configuration)
    run = spread(make_decoder(model), configuration, mesh, sequence_length=SEQUENCE)
    whole = gather_decoder(run.decoder, mesh)
    return None if whole is None else whole.state_dict()


def save_weights_of(model: str, folder: Path) -> None:
    save_state(folder, make_decoder(model), None)


def fill_from(model: str, settings: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """A decoder that is spread before it has any storage, as one too large for a single machine is."""
    configuration = ParallelConfiguration.model_validate(settings)
    shape = make_decoder(model).configuration
    with torch.device("meta"):
        decoder = Decoder(shape)
    mesh = open_mesh(configuration)
    spread(decoder, configuration, mesh, sequence_length=SEQUENCE)
    decoder.to_empty(device="cpu")
    load_state(folder, decoder, None)
    return gather(decoder, mesh)


def targets_of_share(settings: dict[str, Any]) -> tuple[list[int], bool]:
    """What a rank learns from, of eight rows, and whether it computes losses."""
    mesh = open_mesh(ParallelConfiguration.model_validate(settings))
    size = 8 // mesh.sizes.data
    part = share(rows_of(list(range(mesh.data_rank * size, (mesh.data_rank + 1) * size))), mesh)
    assert part.is_text_BT.shape == part.targets_BT.shape
    return part.targets_BT.flatten().tolist(), mesh.is_last_stage


def train_until_told(model: str, settings: dict[str, Any]) -> Curve:
    return train_spread(model, settings, steps=1_000_000)


# Loaded on first use otherwise, by every process of a crew for itself.
__import__("torch._dynamo")
__import__("torch.distributed.checkpoint")
