"""The decoder's own promises: caches and masks change nothing, seeds decide everything."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder


def make_decoder(**changes: Any) -> Decoder:
    values: dict[str, Any] = {
        "vocab_size": 101,
        "hidden_size": 48,
        "num_layers": 2,
        "num_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 10,
        "intermediate_size": 72,
        "max_positions": 64,
        "initializer_range": 0.2,
        **changes,
    }
    decoder = Decoder(DecoderConfiguration(**values))
    decoder.initialise(seed=3)
    return decoder.eval()


class GrowingCache:
    """The plainest `Cache`: what came before, and what comes now."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.positions_BS = torch.empty(0)

    def place(self, positions_BT: torch.Tensor) -> None:
        before = [self.positions_BS] if self.layers else []
        self.positions_BS = torch.cat([*before, positions_BT], dim=1)

    def extend(
        self, layer: int, keys_BKTC: torch.Tensor, values_BKTC: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.layers.get(layer, (keys_BKTC[:, :, :0], values_BKTC[:, :, :0]))
        self.layers[layer] = torch.cat((keys, keys_BKTC), dim=2), torch.cat((values, values_BKTC), dim=2)
        return self.layers[layer]


def random_ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, 101, shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("shape", [{}, {"window": 5}, {"position": "alibi"}])
@torch.no_grad()
def test_a_cache_changes_nothing(shape: dict[str, Any]) -> None:
    decoder, ids = make_decoder(**shape), random_ids(3, 20)
    whole = decoder(ids)
    cache = GrowingCache()
    pieces = [decoder(ids[:, :12], cache=cache)]
    for token in range(12, 20):
        positions = torch.full((3, 1), token)
        pieces.append(decoder(ids[:, token : token + 1], positions_BT=positions, cache=cache))
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=2e-5)


@torch.no_grad()
def test_documents_in_one_row_do_not_see_each_other() -> None:
    decoder, first, second = make_decoder(), random_ids(1, 9), random_ids(1, 14)[:, 3:]
    row = torch.cat((first, second), dim=1)
    documents = torch.tensor([0] * first.shape[1] + [1] * second.shape[1])
    positions = torch.cat((torch.arange(first.shape[1]), torch.arange(second.shape[1])))[None]
    causal = torch.ones(len(documents), len(documents), dtype=torch.bool).tril()
    mask = ((documents[:, None] == documents[None]) & causal)[None, None]
    packed = decoder(row, positions_BT=positions, mask_B1TS=mask)
    apart = torch.cat((decoder(first), decoder(second)), dim=1)
    torch.testing.assert_close(packed, apart, rtol=0, atol=2e-5)
    unmasked = decoder(row)
    assert (unmasked - apart).abs().max() > 1e-2, "without the mask they would"


def test_the_seed_decides_the_weights() -> None:
    first, again, other = make_decoder(), make_decoder(), make_decoder()
    other.initialise(seed=4)
    for (name, one), two, three in zip(first.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert one.dim() == 1 or not torch.equal(one, three), name


def test_parameters_are_counted_as_the_published_systems_are() -> None:
    bielik = DecoderConfiguration(
        vocab_size=32000,
        hidden_size=4096,
        num_layers=32,
        num_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=14336,
        max_positions=8192,
    )
    assert bielik.num_parameters() == 7_241_732_096
    param = DecoderConfiguration(
        vocab_size=256000,
        hidden_size=2048,
        num_layers=32,
        num_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=7168,
        max_positions=2048,
    )
    assert param.num_parameters() == 2_860_648_448
    assert bielik.cache_bytes_per_token(bytes_per_value=2) == 2 * 32 * 8 * 128 * 2
