"""The decoder: one definition for training and for inference, on one device, knowing nothing of either.

Shapes: B batch, T tokens, S keys, D hidden, H query heads, K key/value heads, C head width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vernacular.models.configuration import DecoderConfiguration


class Cache(Protocol):
    """Keys and values of the tokens seen before, per layer."""

    def extend(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Add the new tokens' keys and values; return all of them, each [B, K, S, C]."""
        ...


class RmsNorm(nn.Module):
    """`x / sqrt(mean(x²) + ε) · weight`, the mean in float32 (arXiv 1910.07467)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise each token's vector."""
        return functional.rms_norm(x_BTD, self.weight.shape, self.weight, self.epsilon)


class RotaryPosition:
    """Rotate-half rotary embedding (arXiv 2104.09864), its angles in float32."""

    def __init__(self, head_dim: int, theta: float) -> None:
        # On the CPU by name: a decoder is built on the meta device before its weights are read.
        exponent = torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim
        self.frequencies = (1.0 / theta**exponent).float()

    def angles(self, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine, and sine with the sign it takes in `rotate`; each float32 [B, 1, T, C]."""
        angles_BTC = positions_BT[..., None].float() * self.frequencies.to(positions_BT.device)
        sine_BTC = angles_BTC.sin()
        cosine_BTC = angles_BTC.cos()
        return torch.cat((cosine_BTC, cosine_BTC), dim=-1)[:, None], torch.cat((-sine_BTC, sine_BTC), dim=-1)[:, None]

    @staticmethod
    def rotate(x_BHTC: Tensor, cosine_B1TC: Tensor, sine_B1TC: Tensor) -> Tensor:
        """Rotate each pair (c, c + C/2) by its position's angle."""
        swapped_BHTC = x_BHTC.roll(x_BHTC.shape[-1] // 2, dims=-1)
        return torch.addcmul(x_BHTC * cosine_B1TC, swapped_BHTC, sine_B1TC)


class Attention(nn.Module):
    """Grouped-query attention; query head h reads key/value head h // (H / K)."""

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        width, head_dim = configuration.hidden_size, configuration.head_dim
        self.num_heads, self.num_key_value_heads = configuration.num_heads, configuration.num_key_value_heads
        self.head_dim = head_dim
        self.scale = 1.0 / math.sqrt(head_dim)
        self.query = nn.Linear(width, self.num_heads * head_dim, bias=False)
        self.key = nn.Linear(width, self.num_key_value_heads * head_dim, bias=False)
        self.value = nn.Linear(width, self.num_key_value_heads * head_dim, bias=False)
        self.output = nn.Linear(self.num_heads * head_dim, width, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        angles: tuple[Tensor, Tensor],
        mask_B1TS: Tensor | None,
        cache: Cache | None,
        layer: int,
    ) -> Tensor:
        """What each token gathers from those it may look at, [B, T, D]."""
        batch, num_tokens, _ = x_BTD.shape
        q_BHTC = self.query(x_BTD).view(batch, num_tokens, self.num_heads, self.head_dim).transpose(1, 2)
        k_BKTC = self.key(x_BTD).view(batch, num_tokens, self.num_key_value_heads, self.head_dim).transpose(1, 2)
        v_BKTC = self.value(x_BTD).view(batch, num_tokens, self.num_key_value_heads, self.head_dim).transpose(1, 2)
        # The rotation is in float32; keys return to the precision of the product they enter.
        q_BHTC = RotaryPosition.rotate(q_BHTC, *angles).to(v_BKTC.dtype)
        k_BKTC = RotaryPosition.rotate(k_BKTC, *angles).to(v_BKTC.dtype)
        if cache is not None:
            k_BKTC, v_BKTC = cache.extend(layer, k_BKTC, v_BKTC)
        if num_tokens == 1:
            # One token looks at everything: the query heads of a key head stand for its tokens, so no key is copied.
            q_BHTC = q_BHTC.view(batch, self.num_key_value_heads, -1, self.head_dim)
        out_BHTC = functional.scaled_dot_product_attention(
            q_BHTC,
            k_BKTC,
            v_BKTC,
            attn_mask=mask_B1TS,
            is_causal=mask_B1TS is None and num_tokens > 1,
            scale=self.scale,
            enable_gqa=num_tokens > 1 and self.num_heads != self.num_key_value_heads,
        )
        out_BHTC = out_BHTC.reshape(batch, self.num_heads, num_tokens, self.head_dim)
        return self.output(out_BHTC.transpose(1, 2).reshape(batch, num_tokens, -1))


class GatedFeedForward(nn.Module):
    """`down(silu(gate x) · up x)` (arXiv 2002.05202)."""

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        width, inner = configuration.hidden_size, configuration.intermediate_size
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Each token's own update, [B, T, D]."""
        return self.down(functional.silu(self.gate(x_BTD)) * self.up(x_BTD))


NORMS = {"rms": RmsNorm}
FEED_FORWARDS = {"gated": GatedFeedForward}
POSITIONS = {"rotary": RotaryPosition}


class Block(nn.Module):
    """`x += attention(norm x); x += feed_forward(norm x)`."""

    def __init__(self, configuration: DecoderConfiguration, layer: int) -> None:
        super().__init__()
        norm = NORMS[configuration.norm]
        self.layer = layer
        self.attention_norm = norm(configuration.hidden_size, configuration.norm_epsilon)
        self.attention = Attention(configuration)
        self.feed_forward_norm = norm(configuration.hidden_size, configuration.norm_epsilon)
        self.feed_forward = FEED_FORWARDS[configuration.feed_forward](configuration)

    def forward(
        self, x_BTD: Tensor, angles: tuple[Tensor, Tensor], mask_B1TS: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """The residual stream after this block, [B, T, D]."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), angles, mask_B1TS, cache, self.layer)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


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
        self.position = POSITIONS[configuration.position](configuration.head_dim, configuration.rope_theta)

    def initialise(self, seed: int) -> None:
        """Draw every weight from `seed`: normal; what writes to the residual stream scaled by 1/√(2L) (GPT-2)."""
        generator = torch.Generator().manual_seed(seed)
        deviation = self.configuration.initializer_range
        residual = deviation / math.sqrt(2 * self.configuration.num_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.ones_(parameter)
            else:
                writes_residual = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                nn.init.normal_(parameter, std=residual if writes_residual else deviation, generator=generator)

    def forward(
        self,
        ids_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        mask_B1TS: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [B, T, D].

        Args:
            ids_BT: token ids, int64.
            positions_BT: each token's position, int64; default 0 … T-1 (without a cache only).
            mask_B1TS: bool, True where a token may look at a key; default causal. Needed with a cache when T > 1
                and earlier tokens are cached, or when rows are padded.
            cache: keys and values of earlier tokens; extended in place.
        """
        if positions_BT is None:
            positions_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT)
        angles = self.position.angles(positions_BT)
        x_BTD = self.embedding(ids_BT)
        angles = (angles[0].to(x_BTD.dtype), angles[1].to(x_BTD.dtype))
        for block in self.blocks:
            x_BTD = block(x_BTD, angles, mask_B1TS, cache)
        return self.final_norm(x_BTD)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, float32 [..., V], from hidden states [..., D]."""
        return self.head(hidden).float()
