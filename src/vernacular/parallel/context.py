"""Context parallelism: each rank reads a part of every row, and gathers the keys and values of the whole row.

To the decoder the gathered keys are a cache, so document masks, positions, ALiBi and windows work unchanged
(all-gather of keys and values: Llama 3, arXiv 2407.21783, section 3.3.2).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from vernacular.foundation.errors import UserError
from vernacular.models.decoder import Decoder
from vernacular.parallel.mesh import Mesh


class GatheredKeys:
    """All context ranks' keys and values, in the row's order, as a decoder's `Cache`."""

    def __init__(self, ranks: DeviceMesh) -> None:
        self._ranks = ranks
        self._positions: Tensor | None = None

    @property
    def positions_BS(self) -> Tensor:
        """Position of every token of the rows."""
        assert self._positions is not None
        return self._positions

    def place(self, positions_BT: Tensor) -> None:
        """Gather the positions of the whole rows."""
        self._positions = _gather(positions_BT, self._ranks, dim=1)

    def extend(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the whole rows, each [B, K, S, C]; their gradients return to the ranks they came from."""
        return _gather(keys_BKTC, self._ranks, dim=2), _gather(values_BKTC, self._ranks, dim=2)


def apply_context(decoder: Decoder, mesh: Mesh) -> None:
    """Give every pass through `decoder` the keys of the whole rows, in place."""
    if mesh.sizes.context > 1:
        decoder.register_forward_pre_hook(partial(_hand_in, mesh.cut("rows", "context")), with_kwargs=True)


def _hand_in(
    ranks: DeviceMesh, decoder: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for name in ("attend", "cache"):
        if named.get(name) is not None:
            raise UserError(
                f"context parallelism gathers keys itself and cannot be given a pass with its own {name}",
                where="parallel.context",
                fix="set context to 1, or train with masks",
            )
    for name in ("positions_BT", "mask_B1TS"):
        if named.get(name) is None:
            raise UserError(
                f"with context parallelism the decoder needs {name}: a part of a row does not tell where it stands",
                where="parallel.context",
                fix="give the decoder what vernacular.parallel.share returns",
            )
    return arguments, {**named, "cache": GatheredKeys(ranks)}


def _gather(part: Tensor, ranks: DeviceMesh, *, dim: int) -> Tensor:
    whole = DTensor.from_local(part.contiguous(), ranks, [Shard(dim)], run_check=False)
    return whole.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])
