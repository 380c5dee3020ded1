"""The decoder: one definition for training and for inference, on one device, knowing nothing of either.

Shapes: B batch, T tokens, S keys, D hidden, C head width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from vernacular.models.attention import Attend, Attention, Cache, DenseAttend, Heads, heads_of
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.feed_forward import FEED_FORWARDS
from vernacular.models.norm import NORMS
from vernacular.models.position import RotaryPosition

# What adds to the residual stream.
_WRITES_RESIDUAL = ("attention.output.weight", "feed_forward.down.weight", "feed_forward.experts.output")


class Block(nn.Module):
    """`x += r · attention(norm x); x += r · feed_forward(norm x)`; r is 1 in all families but Granite's."""

    def __init__(self, configuration: DecoderConfiguration, layer: int) -> None:
        super().__init__()
        norm = NORMS[configuration.norm]
        self.layer = layer
        self.residual_multiplier = configuration.residual_multiplier
        self.add: Callable[[Tensor, Tensor, float], Tensor] = add
        self.attention_norm = norm(configuration.hidden_size, configuration.norm_epsilon)
        self.attention = Attention(configuration)
        self.feed_forward_norm = norm(configuration.hidden_size, configuration.norm_epsilon)
        self.feed_forward = FEED_FORWARDS[configuration.feed_forward](configuration)

    def forward(self, x_BTD: Tensor, angles: tuple[Tensor, Tensor] | None, attend: Attend, heads: Heads) -> Tensor:
        """The residual stream after this block, [B, T, D]."""
        update_BTD = self.attention(self.attention_norm(x_BTD), angles, attend, self.layer, heads)
        x_BTD = self.add(x_BTD, update_BTD, self.residual_multiplier)
        return self.add(x_BTD, self.feed_forward(self.feed_forward_norm(x_BTD)), self.residual_multiplier)


def add(x_BTD: Tensor, update_BTD: Tensor, factor: float) -> Tensor:
    """`x + factor · update`."""
    return x_BTD + update_BTD if factor == 1 else x_BTD + update_BTD * factor


class Decoder(nn.Module):
    """Tokens to hidden states; `logits` turns hidden states into scores of the next token."""

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        self.configuration = configuration
        self.embedding = nn.Embedding(configuration.vocab_size, configuration.hidden_size)
        self.blocks = nn.ModuleList(Block(configuration, layer) for layer in range(configuration.num_layers))
        self.final_norm = NORMS[configuration.norm](configuration.hidden_size, configuration.norm_epsilon)
        self.head = nn.Linear(configuration.hidden_size, configuration.vocab_size, bias=False)
        if configuration.tie_embeddings:
            self.head.weight = self.embedding.weight
        is_rotary = configuration.position == "rotary"
        self.rotary = RotaryPosition(configuration.head_dim, configuration.rope_theta) if is_rotary else None
        self.heads = heads_of(configuration)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw every weight from `seed`."""
        for parameter, (_, value) in zip(self.parameters(), self.draw(seed), strict=True):
            parameter.copy_(value)

    def draw(self, seed: int) -> Iterator[tuple[str, Tensor]]:
        """New values of all weights, by name, one after the other, float32: normal; norms 1.

        What writes to the residual stream is scaled by 1/√(2L) (GPT-2). The weights' shapes alone are read, and now:
        the decoder may be on the meta device, and may be spread over ranks before the values are asked for.
        """
        return self._draw(seed, {name: parameter.shape for name, parameter in self.named_parameters()})

    def _draw(self, seed: int, shapes: Mapping[str, torch.Size]) -> Iterator[tuple[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        deviation = self.configuration.initializer_range
        residual = deviation / math.sqrt(2 * self.configuration.num_layers)
        for name, shape in shapes.items():
            std = residual if name.endswith(_WRITES_RESIDUAL) else deviation
            is_norm = len(shape) == 1
            yield name, torch.ones(shape) if is_norm else torch.empty(shape).normal_(std=std, generator=generator)

    def forward(
        self,
        ids_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        mask_B1TS: Tensor | None = None,
        cache: Cache | None = None,
        attend: Attend | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [B, T, D].

        Args:
            ids_BT: token ids, int64.
            positions_BT: each token's position, int64; default 0 … T-1 (without a cache only).
            mask_B1TS: bool, True where a token may look at a key; default causal. Needed with a cache when T > 1
                and earlier tokens are cached, or when rows are padded.
            cache: keys and values of earlier tokens; extended in place.
            attend: how queries meet keys, where it is neither the batch nor a cache; the three above but the
                positions are then its own business.
        """
        if positions_BT is None:
            positions_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT)
        attend = attend or DenseAttend(positions_BT, mask_B1TS, cache)
        x_BTD = self.embed(ids_BT)
        angles = self.angles(positions_BT, x_BTD.dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD, angles, attend, self.heads)
        return self.final_norm(x_BTD)

    def embed(self, ids_BT: Tensor) -> Tensor:
        """What the first block reads, [B, T, D]."""
        x_BTD = self.embedding(ids_BT)
        multiplier = self.configuration.embedding_multiplier
        return x_BTD if multiplier == 1 else x_BTD * multiplier

    def angles(self, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """What each block rotates queries and keys by, [B, 1, T, C] each; None where positions are not rotary."""
        if self.rotary is None:
            return None
        cosine_B1TC, sine_B1TC = self.rotary.angles(positions_BT)
        return cosine_B1TC.to(dtype), sine_B1TC.to(dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, float32 [..., V], from hidden states [..., D]."""
        scores: Tensor = self.head(hidden)
        scaling = self.configuration.logits_scaling
        return scores.float() if scaling == 1 else scores.float() / scaling
