"""Settings that do not fit each other, the processes or the model are refused by name, before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

from tiny_parallel import MODELS, SEQUENCE, make_decoder
from vernacular.foundation.errors import UserError
from vernacular.parallel.configuration import ParallelConfiguration, Sizes


def test_ranks_left_over_share_the_weights() -> None:
    sizes = ParallelConfiguration(tensor=2, pipeline=2, data_replicate=2).sizes(64)
    assert sizes == Sizes(pipeline=2, data_replicate=2, data_shard=8, context=1, tensor=2)
    assert (sizes.world, sizes.data, sizes.tokens) == (64, 16, 16)


@pytest.mark.parametrize(
    ("settings", "world", "named"),
    [
        ({"tensor": 3}, 4, "tensor"),
        ({"data_shard": 2, "tensor": 4}, 4, "data_shard"),
        ({"expert": 3}, 4, "expert"),
        ({"context": 8}, 4, "context"),
    ],
)
def test_sizes_that_do_not_make_up_the_ranks_are_refused(settings: dict[str, Any], world: int, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        ParallelConfiguration(**settings).sizes(world)
    assert str(world) in str(caught.value)
    assert caught.value.fix


def test_experts_that_their_ranks_cannot_share_out_are_refused() -> None:
    mixture = make_decoder("mixture").configuration
    settings = ParallelConfiguration(expert=2)
    settings.check_shards(mixture, settings.sizes(4))
    with pytest.raises(UserError, match=r"3 ranks share out each expert.*hidden_size 32") as caught:
        settings.check_shards(mixture, settings.sizes(6))
    assert caught.value.where == "parallel.expert"
    replicated = ParallelConfiguration(expert=2, data_replicate=3)
    replicated.check_shards(mixture, replicated.sizes(6))


@pytest.mark.parametrize(
    ("model", "settings", "where", "quantity"),
    [
        ("dense", {"tensor": 3}, "parallel.tensor", "num_heads"),
        ("few keys", {"tensor": 4}, "parallel.tensor", "num_key_value_heads"),
        ("dense", {"pipeline": 3}, "parallel.pipeline", "num_layers"),
        ("mixture", {"expert": 3}, "parallel.expert", "num_experts"),
        ("dense", {"expert": 2}, "parallel.expert", "no experts"),
        ("dense", {"context": 3}, "parallel.context", "sequence_length"),
        ("dense", {"context": 16, "tensor": 2}, "parallel.tensor", "sequence_length"),
        ("tied", {"pipeline": 2}, "parallel.pipeline", "tie_embeddings"),
        ("dense", {"float8": True}, "parallel.float8", "CUDA"),
    ],
)
def test_models_that_cannot_be_spread_so_are_refused(
    model: str, settings: dict[str, Any], where: str, quantity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "few keys", {"num_key_value_heads": 2})
    decoder = make_decoder(model).configuration
    with pytest.raises(UserError, match=quantity) as caught:
        ParallelConfiguration(**settings).check(decoder, SEQUENCE, device="cpu")
    assert caught.value.where == where
    assert caught.value.fix
