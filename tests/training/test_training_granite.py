"""Granite's losses are those of the published implementation, which is asked to compute them on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from vernacular.foundation.errors import InternalError
from vernacular.models import feed_forward
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.weights import load_decoder
from vernacular.training.batch import TensorBatch
from vernacular.training.objectives.next_token import next_token_loss, read
from vernacular.training.routers import RouterLoss, Routers

GRANITE = {
    "family": "granite",
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.125,
    "residual_multiplier": 0.22,
    "logits_scaling": 6.0,
    "tie_embeddings": True,
    "initializer_range": 0.1,
}
EXPERTS = {**GRANITE, "family": "granitemoe", "feed_forward": "experts", "num_experts": 5, "experts_per_token": 2}

MANY_LAYERS = 9
"""More than the programs that PyTorch's compiler keeps of one function, which are eight."""


def theirs(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def batch_of(ids_BT: torch.Tensor) -> TensorBatch:
    """Rows in which each token's successor is its target; the last token has none."""
    weights = torch.ones(ids_BT.shape)
    weights[:, -1] = 0
    positions = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)
    return TensorBatch(
        ids_BT, ids_BT.roll(-1, dims=1), weights, positions, None, torch.ones_like(ids_BT, dtype=torch.bool), list
    )


def losses_of(routers: Routers, is_text_BT: torch.Tensor) -> RouterLoss:
    """Of a batch that goes through in one pass."""
    return routers.loss(is_text_BT, routers.counts(is_text_BT), float(is_text_BT.sum()))


@pytest.fixture(scope="module")
def ids_BT() -> torch.Tensor:
    return torch.randint(3, tiny.VOCAB_SIZE, (3, 20), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("shape", [GRANITE, EXPERTS], ids=["dense", "experts"])
def test_the_loss_and_its_gradients_know_the_logits_scaling(
    shape: dict[str, Any], tmp_path: Path, tokenizer: Path, ids_BT: torch.Tensor
) -> None:
    folder = tiny.make_weights(tmp_path / "granite", tokenizer, **shape)
    decoder, reference = load_decoder(folder), theirs(folder)
    expected = reference(ids_BT, labels=ids_BT).loss
    expected.backward()

    batch = batch_of(ids_BT)
    loss = next_token_loss(decoder, read(decoder, batch), batch, chunk_tokens=16).total / batch.weights_BT.sum()
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        decoder.embedding.weight.grad, reference.model.embed_tokens.weight.grad, rtol=1e-4, atol=1e-6
    )


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Path:
    """Weights with a load-balance coefficient that is not lost beside the cross-entropy."""
    folder = tmp_path_factory.mktemp("mixture") / "weights"
    return tiny.make_weights(folder, tokenizer, **EXPERTS, router_aux_loss_coef=0.3)


def test_the_loss_with_its_load_balance_is_that_of_transformers(mixture: Path, ids_BT: torch.Tensor) -> None:
    decoder, reference = load_decoder(mixture), theirs(mixture)
    expected = reference(ids_BT, labels=ids_BT, output_router_logits=True)
    expected.loss.backward()

    batch, routers = batch_of(ids_BT), Routers(decoder, 0.0)
    with routers.listening():
        loss = next_token_loss(decoder, read(decoder, batch), batch, chunk_tokens=16).total / batch.weights_BT.sum()
    routing = losses_of(routers, batch.is_text_BT)
    (loss + routing.total).backward()
    torch.testing.assert_close(routing.balance, expected.aux_loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss + routing.total, expected.loss, rtol=1e-5, atol=1e-6)
    theirs_by_layer = [
        parameter.grad for name, parameter in reference.named_parameters() if "router" in name and parameter.dim() == 2
    ]
    ours_by_layer = [block.feed_forward.router.weight.grad for block in decoder.blocks]
    assert len(ours_by_layer) == 2
    torch.testing.assert_close(ours_by_layer, theirs_by_layer, rtol=1e-4, atol=1e-6)


def test_padding_is_in_no_routers_loss(mixture: Path, ids_BT: torch.Tensor) -> None:
    decoder, reference = load_decoder(mixture), theirs(mixture)
    is_text = torch.ones_like(ids_BT, dtype=torch.bool)
    is_text[1, 12:] = is_text[2, 5:] = False
    expected = reference(ids_BT, attention_mask=is_text.long(), output_router_logits=True).aux_loss
    routers = Routers(decoder, 0.0)
    with routers.listening(), torch.no_grad():
        decoder(ids_BT)
    torch.testing.assert_close(losses_of(routers, is_text).balance, expected, rtol=1e-5, atol=1e-6)


def test_the_routers_z_loss_is_its_formula_and_the_load_adds_up(mixture: Path, ids_BT: torch.Tensor) -> None:
    decoder = load_decoder(mixture)
    is_text = torch.ones_like(ids_BT, dtype=torch.bool)
    routers = Routers(decoder, 0.7)
    heard: list[torch.Tensor] = []
    for block in decoder.blocks:
        block.feed_forward.router.register_forward_hook(lambda module, inputs, output: heard.append(output))
    with routers.listening(), torch.no_grad():
        decoder(ids_BT)
    routing = losses_of(routers, is_text)
    expected = torch.cat(heard).logsumexp(dim=-1).square().mean()
    torch.testing.assert_close(routing.squares, expected)
    torch.testing.assert_close(routing.total, 0.3 * routing.balance + 0.7 * expected)
    load = routers.load(routers.counts(is_text))
    for layer, scores in enumerate(heard):
        shares = scores.topk(2).indices.flatten().bincount(minlength=5) / (2 * len(scores))
        assert load[f"router_max_share/{layer}"] == pytest.approx(shares.max().item())
        entropy = torch.distributions.Categorical(shares).entropy().item() / torch.tensor(5.0).log().item()
        assert load[f"router_entropy/{layer}"] == pytest.approx(entropy, rel=1e-5)


def test_a_batch_in_two_passes_has_the_routers_losses_of_one(mixture: Path, ids_BT: torch.Tensor) -> None:
    """Where the choices of both are known: their shares add up. Each by its own choices, it is another balance."""
    decoder = load_decoder(mixture)
    is_text = torch.ones_like(ids_BT, dtype=torch.bool)
    is_text[2, 5:] = False
    routers = Routers(decoder, 0.7)

    def listen(rows: slice) -> torch.Tensor:
        with routers.listening(), torch.no_grad():
            decoder(ids_BT[rows])
        return routers.counts(is_text[rows])

    def share_of(rows: slice, counts_LE: torch.Tensor | None) -> RouterLoss:
        own = listen(rows)
        return routers.loss(is_text[rows], own if counts_LE is None else counts_LE, float(is_text.sum()))

    halves, whole = (slice(1), slice(1, 3)), share_of(slice(3), None)
    counts_LE = sum(listen(rows) for rows in halves)
    for name in ("total", "balance", "squares"):
        torch.testing.assert_close(
            sum(getattr(share_of(rows, counts_LE), name) for rows in halves), getattr(whole, name), rtol=1e-5, atol=1e-6
        )
    apart = sum(share_of(rows, None).balance for rows in halves)
    assert apart.item() != pytest.approx(whole.balance.item(), rel=1e-4)
    assert apart.item() == pytest.approx(whole.balance.item(), rel=0.1)


def test_the_load_balance_is_k_where_all_experts_get_the_same() -> None:
    # Token t prefers the experts t, t+1, … t+7 of 32: every expert is chosen, and preferred, equally often.
    shape = {"hidden_size": 32, "num_heads": 1, "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 4}
    mixture = {"feed_forward": "experts", "num_experts": 32, "experts_per_token": 8}
    decoder = Decoder(DecoderConfiguration(vocab_size=8, num_layers=1, max_positions=8, **shape, **mixture))
    router = decoder.blocks[0].feed_forward.router
    torch.nn.init.eye_(router.weight)
    routers, scores_NE = Routers(decoder, 0.0), torch.zeros(32, 32)
    for token in range(32):
        scores_NE[token, [(token + place) % 32 for place in range(8)]] = 1.0
    is_text = torch.ones(1, 32, dtype=torch.bool)
    with routers.listening():
        router(scores_NE)
    assert losses_of(routers, is_text).balance.item() == pytest.approx(8.0, rel=1e-6)
    scores_NE[:, :8] += 3
    with routers.listening():
        router(scores_NE)
    assert losses_of(routers, is_text).balance.item() > 12


def test_a_router_that_is_not_heard_is_an_error(mixture: Path, ids_BT: torch.Tensor) -> None:
    routers = Routers(load_decoder(mixture), 0.0)
    with pytest.raises(InternalError, match="0 of 2 routers"):
        routers.counts(torch.ones_like(ids_BT, dtype=torch.bool))


def test_a_compiled_block_whose_router_is_heard_is_one_program_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a GPU: on a CPU, experts are multiplied one by one, in a loop that no program holds.
    monkeypatch.setattr(feed_forward, "grouped_product", grouped_as_on_a_gpu)
    shape = {"hidden_size": 32, "num_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 16}
    mixture = {"feed_forward": "experts", "num_experts": 4, "experts_per_token": 2, "router_aux_loss_coef": 0.3}
    decoder = Decoder(DecoderConfiguration(vocab_size=16, num_layers=MANY_LAYERS, max_positions=16, **shape, **mixture))
    decoder.initialise(0)
    routers, programs = Routers(decoder, 0.7), list[torch.fx.GraphModule]()
    ids_BT = torch.randint(16, (2, 12), generator=torch.Generator().manual_seed(6))

    def gradients() -> list[torch.Tensor]:
        decoder.zero_grad()
        with routers.listening():
            hidden_BTD = decoder(ids_BT)
        total = losses_of(routers, torch.ones_like(ids_BT, dtype=torch.bool)).total
        (hidden_BTD.square().sum() + total).backward()
        return [parameter.grad for parameter in decoder.parameters() if parameter.grad is not None]

    def note(program: torch.fx.GraphModule, _given: Any) -> Callable[..., Any]:
        programs.append(program)
        return program.forward

    expected = gradients()
    for block in decoder.blocks:
        block.forward = torch.compile(block.forward, backend=note, fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(gradients(), expected, rtol=0, atol=0)
    assert len(programs) == 1


def grouped_as_on_a_gpu(x_MI: torch.Tensor, weights_EOI: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    weights_EIO = weights_EOI.bfloat16().transpose(-2, -1)
    return torch.nn.functional.grouped_mm(x_MI.bfloat16(), weights_EIO, offs=ends_E).to(x_MI.dtype)
