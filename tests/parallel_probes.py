"""What the tests of `parallel` look at on each rank, one way of spreading at a time."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_parallel
from tiny_parallel import SEQUENCE, begin, loss_over, make_decoder, read, rows_of, take_step
from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.models.feed_forward import Experts
from vernacular.parallel.apply import spread
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.parallel.experts import apply_experts
from vernacular.parallel.gradients import place_of
from vernacular.parallel.mesh import open_mesh
from vernacular.parallel.share import share

TOKENS, EXPERTS, CHOSEN, RANKS = 6, 4, 2, 4


class _Counted(TorchDispatchMode):
    """Counts operations by name as they are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def computed_in_a_step(mode: str) -> tuple[int, int]:
    """How many products and how many activation functions one forward and backward pass computes."""
    configuration = ParallelConfiguration.model_validate({"activation_checkpointing": mode})
    run = spread(make_decoder("dense"), configuration, open_mesh(configuration), sequence_length=SEQUENCE)
    with _Counted() as counted:
        run.learn([rows_of([1, 2])], read, loss_over(1.0))
    return counted.counts["mm"], counted.counts["silu"]


def what_is_sharded(settings: dict[str, Any]) -> dict[str, Any]:
    """How a weight and its gradient look in the course of a step of two micro-batches."""
    mesh = open_mesh(ParallelConfiguration.model_validate(settings))
    run, _ = begin("dense", settings, mesh)
    held = list(run.decoder.parameters())
    down = run.decoder.blocks[0].get_submodule("feed_forward.down")
    weights, gradients = [], []

    def look(decoder: Decoder, hidden_BTD: Tensor, part: tiny_parallel.Part) -> Tensor:
        weights.append("part" if isinstance(down.weight, DTensor) else "whole")
        gradients.append(_form(held[1].grad))
        return loss_over(1.0)(decoder, hidden_BTD, part)

    run.learn([share(rows_of([1, 2]), mesh), share(rows_of([3, 4]), mesh)], read, look)
    return {
        "weight between forward and backward": weights[0],
        "gradient before the last micro-batch": gradients[1],
        "gradient after it": _form(held[1].grad),
        "share of the weights at rest": sum(weight.to_local().numel() for weight in held)
        / run.decoder.configuration.num_parameters(),
    }


def gradient_in_a_pipeline(settings: dict[str, Any]) -> tuple[str, str]:
    """How a stage's gradient looks as the last of three micro-batches begins, the first having gone back; and then."""
    mesh = open_mesh(ParallelConfiguration.model_validate(settings))
    run, _ = begin("dense", settings, mesh)
    weight = next(run.decoder.blocks.parameters())
    seen: list[str] = []

    def look(decoder: Decoder, part: tiny_parallel.Part) -> Tensor:
        seen.append(_form(weight.grad))
        return read(decoder, part)

    run.learn([share(rows_of([row, row + 1]), mesh) for row in (1, 3, 5)], look, loss_over(1.0))
    return seen[-1], _form(weight.grad)


def places_told_wrong(model: str, settings: dict[str, Any]) -> list[str]:
    """The weights of which a rank's own values are not at the places that it thinks they are."""
    run, _ = begin(model, settings, open_mesh(ParallelConfiguration.model_validate(settings)))
    wrong = []
    for name, weight in run.decoder.named_parameters():
        place = place_of(weight)
        if isinstance(weight, DTensor):
            form = {"shape": weight.shape, "stride": weight.stride(), "run_check": False}
            place = DTensor.from_local(place, weight.device_mesh, weight.placements, **form).full_tensor()
        if not torch.equal(place, torch.arange(weight.numel(), dtype=torch.int32).view(weight.shape)):
            wrong.append(name)
    return wrong


def _form(gradient: Tensor | None) -> str:
    if gradient is None:
        return "none"
    return "part" if isinstance(gradient, DTensor) else "whole"


class Answered(NamedTuple):
    answers: list[Tensor]
    input_gradients: list[Tensor]
    weight_gradient: Tensor


def _asked(rank: int, chosen: str) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of a rank, the experts chosen for each, and their gates."""
    generator = torch.Generator().manual_seed(rank)
    x_ND = torch.randn(TOKENS, 32, generator=generator).requires_grad_()
    gates_NK = torch.rand(TOKENS, CHOSEN, generator=generator)
    if chosen == "all the first":
        chosen_NK = torch.tensor([[0, 1]]).repeat(TOKENS, 1)
    elif chosen == "only this rank's":
        chosen_NK = torch.tensor([[rank, rank]]).repeat(TOKENS, 1)
    else:
        chosen_NK = torch.rand(TOKENS, EXPERTS, generator=generator).topk(CHOSEN).indices
    return x_ND, chosen_NK, gates_NK


def answer_alone(chosen: str, ranks: int) -> Answered:
    experts = _experts(make_decoder("mixture"))
    answers, gradients = [], []
    for rank in range(ranks):
        x_ND, chosen_NK, gates_NK = _asked(rank, chosen)
        answer_ND = experts(x_ND, chosen_NK, gates_NK)
        answer_ND.square().sum().backward()
        assert x_ND.grad is not None
        answers.append(answer_ND.detach())
        gradients.append(x_ND.grad)
    assert experts.input.grad is not None
    return Answered(answers, gradients, experts.input.grad)


def answer_divided(chosen: str) -> tuple[Tensor, Tensor, Tensor]:
    """This rank's answers, the gradient of its tokens, and that of its experts' first weights."""
    mesh = open_mesh(ParallelConfiguration(expert=RANKS))
    decoder = make_decoder("mixture")
    apply_experts(decoder, mesh)
    experts = _experts(decoder)
    x_ND, chosen_NK, gates_NK = _asked(mesh.rank, chosen)
    answer_ND = experts(x_ND, chosen_NK, gates_NK)
    answer_ND.square().sum().backward()
    gradient = experts.input.grad
    assert x_ND.grad is not None
    assert isinstance(gradient, DTensor)
    return answer_ND.detach(), x_ND.grad, gradient.to_local()


def _experts(decoder: Decoder) -> Experts:
    experts = decoder.blocks[0].get_submodule("feed_forward.experts")
    assert isinstance(experts, Experts)
    return experts


def refusal_of(settings: dict[str, Any], micro_batches: int) -> str:
    """Why a step is refused."""
    run, optimiser = begin("dense", settings, open_mesh(ParallelConfiguration.model_validate(settings)))
    try:
        take_step(run, optimiser, 0, micro_batches)
    except UserError as error:
        return str(error)
    return "not refused"


def refusal_without_mask() -> str:
    mesh = open_mesh(ParallelConfiguration(context=2))
    run, _ = begin("dense", {"context": 2}, mesh)
    part = share(rows_of([1]), mesh)
    try:
        run.decoder(part.ids_BT, positions_BT=part.positions_BT)
    except UserError as error:
        return str(error)
    return "not refused"
