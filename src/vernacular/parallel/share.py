"""Which part of a micro-batch is a rank's own.

Ranks that differ in `data` read other rows. Context ranks each read a consecutive part of every row; tensor ranks read
the same tokens, but each learns from a consecutive part of them only. So every target is learned from on one rank
exactly, and losses, weights and gradients of all ranks simply add up.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from vernacular.parallel.mesh import Mesh


class Rows(Protocol):
    """Rows of tokens with their targets: a dataclass with at least these fields, such as training's `TensorBatch`."""

    @property
    def ids_BT(self) -> Tensor:
        """Tokens."""
        ...

    @property
    def targets_BT(self) -> Tensor:
        """The token after each."""
        ...

    @property
    def weights_BT(self) -> Tensor:
        """Each target's weight in the loss."""
        ...

    @property
    def positions_BT(self) -> Tensor:
        """Each token's position in its document."""
        ...

    @property
    def mask_B1TT(self) -> Tensor | None:
        """Which token may look at which; None: at all before it."""
        ...


_READ = ("ids_BT", "positions_BT")

AnyRows = TypeVar("AnyRows", bound=Rows)


def share(rows: AnyRows, mesh: Mesh) -> AnyRows:
    """A rank's own part of its rows: what it reads, and what it learns from.

    Args:
        rows: a dataclass with the fields of `Rows`. Others that say something of each token, [B, T], go with the
            targets, for that is where norms, routers and the loss see tokens; all else is kept as it is.
        mesh: tells which part is this rank's.

    Returns:
        The same kind of rows. ids and positions are [B, T / context]; targets and weights
        [B, T / (context · tensor)]; with context ranks there always is a mask, own tokens × all tokens of the row.
    """
    fields = {field.name: getattr(rows, field.name) for field in dataclasses.fields(cast(Any, rows))}
    by_token = {name: value for name, value in fields.items() if getattr(value, "shape", None) == rows.ids_BT.shape}
    return dataclasses.replace(
        cast(Any, rows),
        **{name: learning(value, mesh) for name, value in by_token.items() if name not in _READ},
        **{name: reading(by_token[name], mesh) for name in _READ},
        mask_B1TT=_mask(rows.mask_B1TT, rows.ids_BT, mesh),
    )


def reading(x_BT: Tensor, mesh: Mesh) -> Tensor:
    """The tokens of [B, T] that this rank's decoder is given."""
    return _part(x_BT, mesh.sizes.context, mesh.place("context"), dim=1)


def learning(x_BT: Tensor, mesh: Mesh) -> Tensor:
    """The tokens of [B, T] whose hidden states this rank's decoder returns."""
    return _part(reading(x_BT, mesh), mesh.sizes.tensor, mesh.place("tensor"), dim=1)


def _mask(mask_B1TT: Tensor | None, ids_BT: Tensor, mesh: Mesh) -> Tensor | None:
    if mesh.sizes.context == 1:
        return mask_B1TT
    if mask_B1TT is None:
        length = ids_BT.shape[1]
        mask_B1TT = torch.ones(length, length, dtype=torch.bool, device=ids_BT.device).tril()[None, None]
    return _part(mask_B1TT, mesh.sizes.context, mesh.place("context"), dim=2)


def _part(whole: Tensor, parts: int, number: int, *, dim: int) -> Tensor:
    if parts == 1:
        return whole
    length = whole.shape[dim] // parts
    return whole.narrow(dim, number * length, length)
