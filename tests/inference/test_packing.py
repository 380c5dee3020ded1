"""Packed layers and kept memory change the speed, not the results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from vernacular.inference.packing import PackedLinear, pack_linears
from vernacular.models.weights import load_decoder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_packed_decoder_gives_the_same_logits(weights_folder: Path, dtype: str, tied: bool) -> None:
    plain, packed = load_decoder(weights_folder, dtype), load_decoder(weights_folder, dtype)
    if tied:
        for decoder in (plain, packed):
            decoder.head.weight = decoder.embedding.weight
    pack_linears(packed)
    ids = torch.randint(0, 420, (3, 17), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = plain.logits(plain(ids)), packed.logits(packed(ids))
    assert torch.allclose(found, expected, atol=1e-4 if dtype == "float32" else 0.5)
    assert found.dtype == torch.float32


def test_every_linear_layer_is_packed_and_its_rows_are_freed(weights_folder: Path) -> None:
    decoder = load_decoder(weights_folder)
    pack_linears(decoder)
    kinds = [type(module) for module in decoder.modules()]
    assert nn.Linear not in kinds
    assert kinds.count(PackedLinear) == 7 * decoder.configuration.num_layers + 1
    assert {name for name, _ in decoder.named_parameters() if "norm" not in name} == {"embedding.weight"}
