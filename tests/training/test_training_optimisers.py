"""Each optimiser against torch's own; which weights go where; μP's rates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tiny_training import SHAPE
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.parallel.gradients import place_of
from vernacular.training.optimisation import OptimiserConfiguration
from vernacular.training.optimisers.eight_bit import new_averages, open_averages
from vernacular.training.optimisers.groups import parameter_groups, roles
from vernacular.training.optimisers.optimiser import build_optimiser, set_learning_rate
from vernacular.training.optimisers.rounding import Rounder
from vernacular.training.optimisers.ruled import RuledOptimiser
from vernacular.training.optimisers.rules import orthogonal

EXPERTS = SHAPE | {"family": "granitemoe", "num_experts": 4, "experts_per_token": 2}
SETTINGS = {
    "lr": 0.02,
    "betas": (0.9, 0.95),
    "epsilon": 1e-8,
    "momentum": 0.95,
    "adjust": "original",
    "newton_schulz_steps": 5,
}


def make_decoder(shape: dict[str, Any] | None = None, seed: int = 0) -> Decoder:
    decoder = Decoder(configure(ModelShape(**(shape or SHAPE)), 304, 64))
    decoder.initialise(seed)
    return decoder


def optimiser_of(decoder: Decoder, **settings: Any) -> torch.optim.Optimizer:
    return build_optimiser(decoder, OptimiserConfiguration(learning_rate=0.01, **settings))


def ruled(parameters: list[nn.Parameter], rule: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    group = {"params": parameters, "rule": rule, "weight_decay": 0.1, "rate_scale": 1.0, "parts": 1}
    settings = SETTINGS | changes
    return RuledOptimiser(
        [group], settings, average_dtype=dtype, rounder=Rounder("nearest", 0), names=named(parameters)
    )


def named(parameters: list[nn.Parameter]) -> dict[torch.Tensor, str]:
    return {parameter: str(number) for number, parameter in enumerate(parameters)}


def descend(optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int = 5) -> None:
    """Steps with gradients that depend on nothing but the step."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()


def pair(*shapes: tuple[int, ...]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    return [nn.Parameter(value.clone()) for value in values], [nn.Parameter(value.clone()) for value in values]


def test_the_rule_of_adamw_is_torchs() -> None:
    ours, theirs = pair((6, 4), (5,))
    descend(ruled(ours, "adamw"), ours)
    descend(torch.optim.AdamW(theirs, lr=0.02, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1), theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("ours_name", "theirs_name"), [("original", "original"), ("match-rms-adamw", "match_rms_adamw")]
)
def test_the_rule_of_muon_is_torchs(ours_name: str, theirs_name: str) -> None:
    ours, theirs = pair((24, 16), (16, 40))
    descend(ruled(ours, "muon", adjust=ours_name), ours)
    descend(torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=theirs_name), theirs)
    for one, other in zip(ours, theirs, strict=True):
        # Newton–Schulz runs in bfloat16; how its products are joined is not the same.
        torch.testing.assert_close(one, other, rtol=0, atol=3e-3)


def test_muon_takes_each_matrix_of_a_stack_for_itself() -> None:
    (stack,), _ = pair((3, 16, 24))
    apart = [nn.Parameter(half.detach().clone()) for matrix in stack for half in matrix.chunk(2)]
    group = {"params": [stack], "rule": "muon", "weight_decay": 0.1, "rate_scale": 1.0, "parts": 2}
    together = RuledOptimiser(
        [group], SETTINGS, average_dtype=torch.float32, rounder=Rounder("nearest", 0), names=named([stack])
    )
    separate = ruled(apart, "muon")
    gradient = torch.randn(stack.shape, generator=torch.Generator().manual_seed(2))
    stack.grad = gradient
    for parameter, part in zip(apart, [half for matrix in gradient for half in matrix.chunk(2)], strict=True):
        parameter.grad = part.contiguous()
    together.step()
    separate.step()
    torch.testing.assert_close(stack, torch.stack([p.detach() for p in apart]).view_as(stack), rtol=0, atol=2e-3)


def test_newton_schulz_brings_the_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(2, 30, 12, generator=torch.Generator().manual_seed(0)), 5))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_is_for_the_blocks_matrices_alone() -> None:
    decoder = make_decoder(EXPERTS)
    optimiser = optimiser_of(decoder, name="muon", muon={"learning_rate": 0.04})
    by_rule: dict[str, set[int]] = {"muon": set(), "adamw": set()}
    for group in optimiser.param_groups:
        by_rule[group["rule"]] |= {id(parameter) for parameter in group["params"]}
        assert group["rate_scale"] == (4.0 if group["rule"] == "muon" else 1.0)
    for name, role, parameter in roles(decoder):
        expected = "muon" if role in ("attention", "feed-forward") else "adamw"
        assert id(parameter) in by_rule[expected], name
    assert {role for _, role, _ in roles(decoder)} >= {"router", "norm", "embedding", "attention", "feed-forward"}


@pytest.mark.parametrize("decays", [True, False])
def test_norms_never_decay_and_embeddings_by_a_setting(decays: bool) -> None:
    decoder = make_decoder()
    groups = parameter_groups(decoder, OptimiserConfiguration(learning_rate=1.0, decay_embeddings=decays))
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(decay) == len(list(decoder.parameters()))
    for name, parameter in decoder.named_parameters():
        is_embedding = name in ("embedding.weight", "head.weight")
        expected = 0.0 if parameter.dim() == 1 or (is_embedding and not decays) else 0.1
        assert decay[id(parameter)] == expected, name


def test_mup_divides_the_rates_of_the_blocks_matrices_by_the_width() -> None:
    decoder = make_decoder(EXPERTS)
    optimiser = optimiser_of(decoder, mup={"base_width": 8})
    set_learning_rate(optimiser, 0.5)
    rate = {id(parameter): group["lr"] for group in optimiser.param_groups for parameter in group["params"]}
    for name, role, parameter in roles(decoder):
        is_internal = role in ("attention", "feed-forward", "router")
        assert rate[id(parameter)] == (0.125 if is_internal else 0.5), name


@pytest.mark.parametrize(("name", "tolerance"), [("adamw-bf16", 0.002), ("adamw-8bit", 0.0045)])
def test_averages_of_few_bits_lead_nearly_the_same_way(name: str, tolerance: float) -> None:
    whole, short = make_decoder(), make_decoder()
    for decoder, settings in ((whole, {}), (short, {"name": name})):
        descend(optimiser_of(decoder, **settings), list(decoder.parameters()), steps=4)
    moved = torch.cat([parameter.detach().flatten() for parameter in whole.parameters()])
    nearly = torch.cat([parameter.detach().flatten() for parameter in short.parameters()])
    assert (moved - nearly).square().mean().sqrt() < tolerance
    start = torch.cat([parameter.detach().flatten() for parameter in make_decoder().parameters()])
    assert (moved - start).square().mean().sqrt() > 5 * tolerance, "the steps are far longer than their difference"


def test_averages_are_kept_in_the_bits_that_were_asked_for() -> None:
    optimiser = optimiser_of(make_decoder(), name="adamw-bf16")
    assert {state["mean"].dtype for state in optimiser.state.values()} == {torch.bfloat16}
    decoder = make_decoder()
    optimiser = optimiser_of(decoder, name="adamw-8bit")
    for name, parameter in decoder.named_parameters():
        state = optimiser.state[parameter]
        if parameter.dim() > 1 and parameter.numel() >= 4096:
            assert state["mean_codes"].dtype == state["square_codes"].dtype == torch.uint8, name
            assert state["mean_scale"].shape == (*parameter.shape[:-1], math.ceil(parameter.shape[-1] / 256)), name
        else:
            assert state["mean"].dtype == torch.float32, name


def kept(name: str, values: torch.Tensor) -> torch.Tensor:
    """What an average in 8 bits keeps of these values."""
    average = open_averages(new_averages(values, (name,)))[name]
    average.copy_(values)
    return average.float()


@pytest.mark.parametrize(("name", "signed"), [("mean", True), ("square", False)])
def test_an_average_in_eight_bits_keeps_what_torchaos_does(name: str, signed: bool) -> None:
    """Where rows are whole blocks, blocks are torchao's."""
    library = pytest.importorskip("torchao.optim.subclass_8bit")
    values = torch.randn(24, 512, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 0, 24)[:, None]
    values = values if signed else values.square()
    theirs = library.OptimState8bit.zeros(values.shape, signed=signed)
    theirs.copy_(values)
    torch.testing.assert_close(kept(name, values), theirs.dequantize(), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("shape", [(4, 0), (0, 300), (0, 0)])
def test_an_average_in_eight_bits_of_no_values_is_none(shape: tuple[int, int]) -> None:
    average = open_averages(new_averages(torch.zeros(shape), ("mean",)))["mean"]
    average.copy_(torch.zeros(shape))
    assert average.float().shape == shape


@pytest.mark.parametrize("columns", [64, 256, 300, 600])
def test_a_row_that_is_cut_at_blocks_or_left_whole_keeps_the_same(columns: int) -> None:
    values = torch.randn(16, columns, generator=torch.Generator().manual_seed(1))
    whole = kept("mean", values)
    assert (whole - values).abs().max() < 0.03 * values.abs().max()
    assert torch.equal(torch.cat([kept("mean", part) for part in values.split(5)]), whole)
    assert torch.equal(torch.cat([kept("mean", part) for part in values.split(256, dim=1)], dim=1), whole)
    assert not kept("square", torch.zeros(4, columns)).any()


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_updates_below_the_last_bit_are_not_lost(rounding: Any) -> None:
    """A thousand steps of a thousandth: to nearest, none of them is ever seen."""
    exact = 1.0 + 1000 * 1e-3
    found = {}
    for way in ("nearest", rounding):
        rounder = Rounder(way, seed=5)
        parameter = torch.ones(512, dtype=torch.bfloat16)
        state: dict[str, Any] = {"step": torch.zeros(()), **rounder.new_state(parameter)}
        for _ in range(1000):
            state["step"] += 1
            key = rounder.key("weight", int(state["step"]))
            rounder.write(rounder.read(parameter, state) + 1e-3, parameter, state, place_of(parameter), key)
        found[way] = parameter.float().mean().item()
    assert found["nearest"] == 1.0
    assert math.isclose(found[rounding], exact, rel_tol=0.01)


def test_noise_depends_on_seed_weight_and_step_alone() -> None:
    value = torch.rand(4096, generator=torch.Generator().manual_seed(0))

    def rounded(seed: int, number: int, step: int) -> torch.Tensor:
        parameter = torch.empty(4096, dtype=torch.bfloat16)
        rounder = Rounder("stochastic", seed)
        rounder.write(value, parameter, {}, place_of(parameter), rounder.key(str(number), step))
        return parameter

    torch.manual_seed(1)
    once = rounded(0, 1, 1)
    torch.manual_seed(2)
    assert torch.equal(once, rounded(0, 1, 1))
    for other in (rounded(1, 1, 1), rounded(0, 2, 1), rounded(0, 1, 2)):
        assert not torch.equal(once, other)
    assert (once.float() - value).abs().max() <= 2**-8
    assert abs((once.float() - value).mean()) < 1e-4, "as often up as down"


def test_what_kahan_cuts_off_is_lost_in_no_step() -> None:
    """Updates of 2⁻²⁰ of a weight: they add up to what they do in float32, to the bit."""
    ours = nn.Parameter(1 + torch.rand(256, generator=torch.Generator().manual_seed(0)).bfloat16())
    ours.grad_dtype = torch.float32
    exact = nn.Parameter(ours.detach().float())
    group = {"rule": "adamw", "weight_decay": 0.1, "rate_scale": 1.0, "parts": 1}
    pair = [(ours, Rounder("kahan", 0)), (exact, Rounder("nearest", 0))]
    rules = [
        RuledOptimiser(
            [{"params": [weight], **group}],
            SETTINGS | {"lr": 1e-6},
            average_dtype=torch.float32,
            rounder=rounder,
            names=named([weight]),
        )
        for weight, rounder in pair
    ]
    generator = torch.Generator().manual_seed(1)
    for _ in range(3000):
        ours.grad = 1 + torch.randn(256, generator=generator)
        exact.grad = ours.grad.clone()
        for rule in rules:
            rule.step()
    torch.testing.assert_close(Rounder.read(ours, rules[0].state[ours]), exact.detach(), rtol=0, atol=0)
    assert (ours.float() - exact).abs().max() <= 2**-8, "half of a last bit"
