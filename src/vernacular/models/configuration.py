"""The shape of a decoder. Blocks are named by what they are; which family combines them is data (`families/*.yaml`)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from vernacular.foundation.configuration import Configuration

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]


class Architecture(Configuration):
    """What a recipe's shape and a finished decoder's configuration have in common."""

    family: str = Field("llama", description="whose published layout the weights folder takes: a file in families/")
    hidden_size: int = Field(gt=0, description="width of the residual stream")
    num_layers: int = Field(gt=0, description="number of blocks")
    num_heads: int = Field(gt=0, description="query heads")
    intermediate_size: int = Field(gt=0, description="inner width of the feed-forward, or of each expert")
    num_experts: int | None = Field(None, gt=0, description="experts of a mixture; null where there is none")
    experts_per_token: int | None = Field(None, gt=0, description="experts that read each token")
    norm_epsilon: float = Field(1e-5, gt=0, description="added under the root of the norm")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary wavelengths")
    alibi_bias_max: int = Field(8, gt=0, description="exponent of the steepest ALiBi slope")
    window: int | None = Field(None, gt=0, description="keys a token may look at, itself included; null: all before it")
    clip_qkv: float | None = Field(None, gt=0, description="bound on queries, keys and values; null: none")
    embedding_multiplier: float = Field(1.0, gt=0, description="multiplies what is read from the embedding table")
    attention_multiplier: float | None = Field(
        None, gt=0, description="multiplies query·key; null: 1 / the root of head_dim"
    )
    residual_multiplier: float = Field(1.0, gt=0, description="multiplies what a block adds to the residual stream")
    logits_scaling: float = Field(1.0, gt=0, description="divides the scores of the next token")
    router_aux_loss_coef: float = Field(0.001, ge=0, description="weight of the load-balance loss in training")
    tie_embeddings: bool = Field(False, description="whether the output head is the embedding table")
    initializer_range: float = Field(0.02, gt=0, description="standard deviation of the initial weights")


class DecoderConfiguration(Architecture):
    """Everything `Decoder` is built from; no field is derived from the family's name."""

    vocab_size: int = Field(gt=0, description="rows of the embedding table")
    num_key_value_heads: int = Field(gt=0, description="key and value heads; divides num_heads")
    head_dim: int = Field(gt=0, description="width of one head")
    max_positions: int = Field(gt=0, description="longest sequence, in tokens")
    norm: Literal["rms", "layer"] = Field("rms", description="normalisation block; layer: LayerNorm without bias")
    feed_forward: Literal["gated", "plain", "experts"] = Field(
        "gated",
        description="gated: down(act(gate x) · up x); plain: down(act(up x)); experts: gated ones chosen by a router",
    )
    activation: Activation = Field("silu", description="activation inside the feed-forward; gelu is the exact one")
    position: Literal["rotary", "alibi"] = Field(
        "rotary", description="rotary: rotate-half RoPE; alibi: a bias that grows with distance"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_key_value_heads {self.num_key_value_heads} does not divide num_heads {self.num_heads}; "
                "choose a divisor"
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"rotary positions need an even head_dim, not {self.head_dim}", "change num_heads, or set head_dim"
            )
        if self.feed_forward == "experts":
            if self.num_experts is None or self.experts_per_token is None:
                raise ValueError("a mixture of experts needs num_experts and experts_per_token", "add what is missing")
            if self.experts_per_token > self.num_experts:
                raise ValueError(
                    f"experts_per_token {self.experts_per_token} exceeds num_experts {self.num_experts}",
                    "change one of them",
                )
        elif self.num_experts is not None:
            raise ValueError(
                f"num_experts is {self.num_experts}, but the feed-forward is {self.feed_forward}",
                "leave num_experts out, or choose a family of experts, such as granitemoe",
            )
        return self

    def num_parameters(self) -> int:
        """Weights in the decoder, all experts counted.

        `V·h·(1 or 2) + L(2·h·H·d + 2·h·K·d + feed-forward + 2h) + h`, the feed-forward being `3·h·ff` (gated),
        `2·h·ff` (plain) or `E·(3·h·ff + h)` (experts and their router).
        """
        return self._parameters(self.num_experts)

    def num_active_parameters(self) -> int:
        """Weights that one token is multiplied with or read from: of the experts only those chosen for it."""
        return self._parameters(self.experts_per_token)

    def embedding_parameters(self) -> int:
        """Weights in the embedding table and, where it is not tied, the output head."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)

    def forward_flops_per_token(self, context_length: int) -> float:
        """Multiply-adds of one token's forward pass, counted as two operations each.

        `2·(active matrix weights) + 4·L·H·d·(context/2)`: the matrices include the output head but not the embedding
        look-up; causal attention sees half of the context on average, and no more than the window.
        """
        matrices = self.num_active_parameters() - self.embedding_parameters() + self.vocab_size * self.hidden_size
        seen = context_length / 2
        if self.window is not None and self.window < context_length:
            # The first tokens see up to the window, a triangle; all others a full window.
            seen = self.window * (1 - self.window / (2 * context_length))
        return 2 * matrices + 4 * self.num_layers * self.num_heads * self.head_dim * seen

    def cache_bytes_per_token(self, bytes_per_value: int) -> int:
        """Bytes that one token's keys and values take in the cache."""
        return 2 * self.num_layers * self.num_key_value_heads * self.head_dim * bytes_per_value

    def _parameters(self, experts: int | None) -> int:
        h, q, kv = self.hidden_size, self.num_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        matrices = 2 if self.feed_forward == "plain" else 3
        feed_forward = matrices * h * self.intermediate_size * (experts or 1) + h * (self.num_experts or 0)
        block = 2 * h * q + 2 * h * kv + feed_forward + 2 * h
        return self.embedding_parameters() + self.num_layers * block + h


class ModelShape(Architecture):
    """The shape a recipe asks for; the blocks are the family's, and what follows from the width is filled in.

    `vernacular.models.family.configure` makes the decoder's configuration of it.
    """

    num_key_value_heads: int | None = Field(None, gt=0, description="key and value heads (default: num_heads)")
    head_dim: int | None = Field(None, gt=0, description="width of one head (default: hidden_size / num_heads)")
    activation: Activation | None = Field(None, description="activation of the feed-forward (default: the family's)")

    @model_validator(mode="after")
    def _head_dim_known(self) -> Self:
        if self.head_dim is None and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}; "
                "change one of them or set head_dim"
            )
        return self


class ChangeTokenizerConfiguration(Configuration):
    """Which rows of the embedding table and of the head the tokens get that only a new tokenizer has."""

    new_tokens: Literal["pieces", "pieces-by-bytes", "mean", "vectors", "file"] = Field(
        "pieces",
        description="pieces: the mean of the rows of the old tokens that spell it; pieces-by-bytes: each weighted by"
        " its bytes; mean: of all rows; vectors: of the rows of the tokens most like it in the space of `vectors`, and"
        " of its pieces where it has no vector; file: as `rows` says",
    )
    noise: float = Field(
        0.0, ge=0, description="of new_tokens: mean; the rows' own covariance times its square is drawn on top of it"
    )
    vectors: str | None = Field(
        None,
        description="of new_tokens: vectors; a text file of word vectors in one space, a line a word",
    )
    rows: str | None = Field(
        None,
        description="of new_tokens: file; a safetensors file with `ids` int64 [N], `embedding` [N, D] and, where it is"
        " not tied, `head` [N, D]",
    )
    multiple_of: int = Field(
        1, gt=0, description="the table gets as many rows as the next multiple; rows of no token are the mean"
    )
    seed: int = Field(0, ge=0, description="seed of the noise")

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        for key, method in (("vectors", "vectors"), ("rows", "file")):
            if (getattr(self, key) is not None) != (self.new_tokens == method):
                raise ValueError(f"{key} and new_tokens: {method} belong together; give both or neither")
        if self.noise and self.new_tokens != "mean":
            raise ValueError("noise belongs to new_tokens: mean; leave it out")
        return self
