"""Keys and values of earlier tokens, one contiguous buffer per layer."""

from __future__ import annotations

import torch
from torch import Tensor

from vernacular.models.configuration import DecoderConfiguration


class ContiguousCache:
    """A buffer of `capacity` tokens for each of `batch_size` rows; all rows have the same length.

    Rows of unequal length are padded by the caller, who masks the padding and numbers the positions.
    """

    def __init__(
        self,
        configuration: DecoderConfiguration,
        batch_size: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (
            configuration.num_layers,
            2,
            batch_size,
            configuration.num_key_value_heads,
            capacity,
            configuration.head_dim,
        )
        self._values = torch.empty(shape, dtype=dtype, device=device)
        self._lengths = [0] * configuration.num_layers
        self._positions = torch.empty((batch_size, capacity), dtype=torch.int64, device=device)
        self._placed = 0
        self.capacity = capacity

    @property
    def length(self) -> int:
        """Tokens held per row."""
        return self._lengths[-1]

    @property
    def positions_BS(self) -> Tensor:
        """Position of every key held, int64."""
        return self._positions[:, : self._placed]

    def place(self, positions_BT: Tensor) -> None:
        """Note the positions of the tokens that every layer is about to add."""
        end = self._placed + positions_BT.shape[1]
        self._check(end)
        self._positions[:, self._placed : end] = positions_BT
        self._placed = end

    def extend(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new tokens' keys and values; return all of them, each [B, K, S, C], as views."""
        start = self._lengths[layer]
        end = start + keys_BKTC.shape[2]
        self._check(end)
        buffer = self._values[layer]
        buffer[0, :, :, start:end] = keys_BKTC
        buffer[1, :, :, start:end] = values_BKTC
        self._lengths[layer] = end
        return buffer[0, :, :, :end], buffer[1, :, :, :end]

    def keep(self, rows: list[int]) -> None:
        """Keep the given rows, in this order, in the memory there is.

        A row that comes into another's place must come from beyond the last place kept, as when holes are filled
        from the end: then no row is written over before it is read.
        """
        for place, row in enumerate(rows):
            if place != row:
                length = self.length
                self._values[:, :, place, :, :length] = self._values[:, :, row, :, :length]
                self._positions[place] = self._positions[row]
        self._values, self._positions = self._values[:, :, : len(rows)], self._positions[: len(rows)]

    def _check(self, length: int) -> None:
        if length > self.capacity:
            raise IndexError(f"the cache holds {self.capacity} tokens; {length} are asked of it")
