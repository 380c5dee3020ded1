"""The shape of a decoder. Blocks are named by what they are; which family combines them is data (`families/*.yaml`)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from vernacular.foundation.configuration import Configuration


class DecoderConfiguration(Configuration):
    """Everything `Decoder` is built from; no field is derived from the family's name."""

    family: str = Field("llama", description="whose published layout the weights folder takes: a file in families/")
    vocab_size: int = Field(gt=0, description="rows of the embedding table")
    hidden_size: int = Field(gt=0, description="width of the residual stream")
    num_layers: int = Field(gt=0, description="number of blocks")
    num_heads: int = Field(gt=0, description="query heads")
    num_key_value_heads: int = Field(gt=0, description="key and value heads; divides num_heads")
    head_dim: int = Field(gt=0, description="width of one head")
    intermediate_size: int = Field(gt=0, description="inner width of the feed-forward")
    max_positions: int = Field(gt=0, description="longest sequence, in tokens")
    norm: Literal["rms"] = Field("rms", description="normalisation block")
    norm_epsilon: float = Field(1e-5, gt=0, description="added under the root of the norm")
    feed_forward: Literal["gated"] = Field("gated", description="feed-forward block: gated = down(act(gate x) · up x)")
    activation: Literal["silu"] = Field("silu", description="activation inside the feed-forward")
    position: Literal["rotary"] = Field("rotary", description="how positions enter: rotary = rotate-half RoPE")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary wavelengths")
    tie_embeddings: bool = Field(False, description="whether the output head is the embedding table")
    initializer_range: float = Field(0.02, gt=0, description="standard deviation of the initial weights")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_key_value_heads {self.num_key_value_heads} does not divide num_heads {self.num_heads}; "
                "choose a divisor"
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_dim}")
        return self

    def num_parameters(self) -> int:
        """Weights in the decoder: `V·h·(1 or 2) + L(2·h·H·d + 2·h·K·d + 3·h·ff + 2h) + h`."""
        h, q, kv = self.hidden_size, self.num_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        block = 2 * h * q + 2 * h * kv + 3 * h * self.intermediate_size + 2 * h
        return self.embedding_parameters() + self.num_layers * block + h

    def embedding_parameters(self) -> int:
        """Weights in the embedding table and, where it is not tied, the output head."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)

    def forward_flops_per_token(self, context_length: int) -> float:
        """Multiply-adds of one token's forward pass, counted as two operations each.

        `2·(matrix weights) + 4·L·H·d·(context/2)`: the matrices include the output head but not the embedding
        look-up; causal attention sees half of the context on average.
        """
        matrices = self.num_parameters() - self.embedding_parameters() + self.vocab_size * self.hidden_size
        attention = 4 * self.num_layers * self.num_heads * self.head_dim * context_length / 2
        return 2 * matrices + attention

    def cache_bytes_per_token(self, bytes_per_value: int) -> int:
        """Bytes that one token's keys and values take in the cache."""
        return 2 * self.num_layers * self.num_key_value_heads * self.head_dim * bytes_per_value


class ModelShape(Configuration):
    """The shape a recipe asks for; the vocabulary and the defaults that follow from the width are filled in."""

    hidden_size: int = Field(gt=0, description="width of the residual stream")
    num_layers: int = Field(gt=0, description="number of blocks")
    num_heads: int = Field(gt=0, description="query heads")
    num_key_value_heads: int | None = Field(None, gt=0, description="key and value heads (default: num_heads)")
    head_dim: int | None = Field(None, gt=0, description="width of one head (default: hidden_size / num_heads)")
    intermediate_size: int = Field(gt=0, description="inner width of the feed-forward")
    family: str = Field("llama", description="whose published layout the weights take")
    norm_epsilon: float = Field(1e-5, gt=0, description="added under the root of the norm")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary wavelengths")
    tie_embeddings: bool = Field(False, description="whether the output head is the embedding table")
    initializer_range: float = Field(0.02, gt=0, description="standard deviation of the initial weights")

    @model_validator(mode="after")
    def _head_dim_known(self) -> Self:
        if self.head_dim is None and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}; "
                "change one of them or set head_dim"
            )
        return self

    def decoder(self, vocab_size: int, max_positions: int) -> DecoderConfiguration:
        """The decoder of this shape for a vocabulary and a longest sequence."""
        return DecoderConfiguration(
            **self.model_dump(exclude={"num_key_value_heads", "head_dim"}),
            num_key_value_heads=self.num_key_value_heads or self.num_heads,
            head_dim=self.head_dim or self.hidden_size // self.num_heads,
            vocab_size=vocab_size,
            max_positions=max_positions,
        )
