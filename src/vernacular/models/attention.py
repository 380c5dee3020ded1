"""Attention: what each token gathers from those it may look at.

The projections are here, once. How queries meet keys is handed in as an `Attend`: over the tokens of the batch and an
optional cache (`DenseAttend`: training and scoring), or over the pages of the inference engine.

Shapes: B batch, T tokens, S keys, D hidden, H query heads, K key/value heads, C head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.position import RotaryPosition, alibi_slopes


class Heads(NamedTuple):
    """What all layers' attention has in common."""

    scale: float
    window: int | None
    """Keys a token may look at, itself included."""
    slopes_H: Tensor | None
    """ALiBi slopes, float32; None where positions are rotary."""


class Attend(Protocol):
    """How one layer's queries meet its keys."""

    def __call__(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, heads: Heads) -> Tensor:
        """The gathered values, [B, H, T, C]; query head h reads key/value head h // (H / K)."""
        ...


class Cache(Protocol):
    """Keys and values of the tokens seen before, per layer."""

    @property
    def positions_BS(self) -> Tensor:
        """Position of every key held, int64."""
        ...

    def place(self, positions_BT: Tensor) -> None:
        """Note the positions of the tokens that every layer is about to add."""
        ...

    def extend(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new tokens' keys and values; return all of them, each [B, K, S, C]."""
        ...


class DenseAttend:
    """Attention over the batch's own tokens and, with a cache, those before them.

    Args:
        positions_BT: position of each token, int64.
        mask_B1TS: bool, True where a token may look at a key; default causal.
        cache: keys and values of earlier tokens; extended in place.
    """

    def __init__(self, positions_BT: Tensor, mask_B1TS: Tensor | None, cache: Cache | None) -> None:
        self._positions_BT, self._mask_B1TS, self._cache = positions_BT, mask_B1TS, cache
        self._full: Tensor | None = None
        if cache is not None:
            cache.place(positions_BT)

    def __call__(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, heads: Heads) -> Tensor:
        """As `Attend`."""
        batch, num_heads, num_tokens, head_dim = q_BHTC.shape
        num_key_value_heads = k_BKTC.shape[1]
        if self._cache is not None:
            k_BKTC, v_BKTC = self._cache.extend(layer, k_BKTC, v_BKTC)
        mask = self._mask(heads, q_BHTC.dtype)
        if num_tokens == 1 and heads.slopes_H is None:
            # One token looks at everything: the query heads of a key head stand for its tokens, so no key is copied.
            q_BHTC = q_BHTC.view(batch, num_key_value_heads, -1, head_dim)
        gathered = functional.scaled_dot_product_attention(
            q_BHTC,
            k_BKTC,
            v_BKTC,
            attn_mask=mask,
            is_causal=mask is None and num_tokens > 1,
            scale=heads.scale,
            enable_gqa=q_BHTC.shape[1] != num_key_value_heads,
        )
        return gathered.reshape(batch, num_heads, num_tokens, head_dim)

    def _mask(self, heads: Heads, dtype: torch.dtype) -> Tensor | None:
        """What SDPA is to be told: nothing, a bool mask, or a float bias. Every layer's is the same."""
        if heads.slopes_H is None and (heads.window is None or not self._reaches_past(heads.window)):
            return self._mask_B1TS
        if self._full is None:
            self._full = self._bias(heads, dtype)
        return self._full

    def _reaches_past(self, window: int) -> bool:
        """Whether some token stands so late that the window hides a key from it."""
        if self._cache is None and self._positions_BT.shape[1] <= window:
            return False  # known without asking the positions, which on a GPU means to wait for it
        return bool(self._positions_BT.max() >= window)

    def _bias(self, heads: Heads, dtype: torch.dtype) -> Tensor:
        queries_BT = self._positions_BT
        keys_BS = queries_BT if self._cache is None else self._cache.positions_BS
        distance_B1TS = (keys_BS[:, None, :] - queries_BT[:, :, None])[:, None]
        seen_B1TS = self._mask_B1TS
        if seen_B1TS is None:
            seen_B1TS = torch.ones_like(distance_B1TS, dtype=torch.bool)
            if queries_BT.shape[1] > 1:
                seen_B1TS = seen_B1TS.tril(keys_BS.shape[1] - queries_BT.shape[1])
        if heads.window is not None:
            seen_B1TS = seen_B1TS & (distance_B1TS > -heads.window)
        if heads.slopes_H is None:
            return seen_B1TS
        bias_BHTS = heads.slopes_H.to(distance_B1TS.device)[None, :, None, None] * distance_B1TS
        return bias_BHTS.masked_fill(~seen_B1TS, -torch.inf).to(dtype)


class FanOut(nn.ModuleDict):
    """Linear layers, by name, that read the same input: the one place where they may be multiplied as one."""

    def __init__(self, in_features: int, out_features: Iterable[tuple[str, int]]) -> None:
        super().__init__({name: nn.Linear(in_features, width, bias=False) for name, width in out_features})

    def linears(self) -> list[nn.Linear]:
        """The layers, in their order."""
        return [module for module in self.values() if isinstance(module, nn.Linear)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Each layer's output, in their order."""
        return tuple(linear(x) for linear in self.values())


class Attention(nn.Module):
    """Grouped-query attention without biases."""

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        width, head_dim = configuration.hidden_size, configuration.head_dim
        queries, keys = configuration.num_heads * head_dim, configuration.num_key_value_heads * head_dim
        self.head_dim = head_dim
        self.clip = configuration.clip_qkv
        self.rotate: Callable[[Tensor, Tensor, Tensor], Tensor] = RotaryPosition.rotate
        self.project = FanOut(width, (("query", queries), ("key", keys), ("value", keys)))
        self.output = nn.Linear(queries, width, bias=False)

    def forward(
        self, x_BTD: Tensor, angles: tuple[Tensor, Tensor] | None, attend: Attend, layer: int, heads: Heads
    ) -> Tensor:
        """What each token gathers, [B, T, D]; `angles` are those of rotary positions."""
        q_BHTC, k_BKTC, v_BKTC = (self._by_head(projected) for projected in self.project(x_BTD))
        if angles is not None:
            # The rotation is in the angles' precision; keys return to that of the product they enter.
            q_BHTC = self.rotate(q_BHTC, *angles).to(v_BKTC.dtype)
            k_BKTC = self.rotate(k_BKTC, *angles).to(v_BKTC.dtype)
        gathered_BHTC = attend(layer, q_BHTC, k_BKTC, v_BKTC, heads)
        return self.output(gathered_BHTC.transpose(1, 2).flatten(2))

    def _by_head(self, x_BTN: Tensor) -> Tensor:
        if self.clip is not None:
            x_BTN = x_BTN.clamp(-self.clip, self.clip)
        return x_BTN.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def heads_of(configuration: DecoderConfiguration) -> Heads:
    """What the configuration says of every layer's attention."""
    scale = configuration.attention_multiplier or 1.0 / math.sqrt(configuration.head_dim)
    uses_alibi = configuration.position == "alibi"
    slopes_H = alibi_slopes(configuration.num_heads, configuration.alibi_bias_max) if uses_alibi else None
    return Heads(scale, configuration.window, slopes_H)
