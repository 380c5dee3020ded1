"""Memory of one device in training, by part, in bytes: formulas over a decoder's shape, a recipe's settings, a layout.

They follow what `parallel` and `training` do: weights and gradients in the recipe's precision, sharded as `zero_stage`
says; what stands around the blocks (embedding, last norm, head) whole until the backward pass; logits of one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from vernacular.models.configuration import DecoderConfiguration
from vernacular.parallel.configuration import ParallelConfiguration, Sizes
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.optimisation import EIGHT_BIT_BLOCK

_FLOAT32 = 4
# Bytes a weight for the optimiser's averages. The 8-bit one keeps a float32 scale for each block of both averages.
_AVERAGES = {"adamw": 8.0, "adamw-bf16": 4.0, "adamw-8bit": 2 + 2 * _FLOAT32 / EIGHT_BIT_BLOCK, "muon": 8.0}
_MUON_MATRIX = 4.0


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: its share of the weights, with what `rounding: kahan` keeps.
        gradients: its share, float32; with `zero_stage` 1 also the whole ones that micro-batches add up in.
        optimiser: its share of the averages.
        gathered: what there is for a time beside the shares: whole weights and gradients, copies in bfloat16.
        activations: what the backward pass keeps of all micro-batches under way.
        logits: one chunk's scores and their gradients, float32.
    """

    weights: float
    gradients: float
    optimiser: float
    gathered: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """All parts."""
        return sum(getattr(self, field.name) for field in fields(self))


def training_memory(
    shape: DecoderConfiguration,
    training: TrainingConfiguration,
    parallel: ParallelConfiguration,
    sizes: Sizes,
    micro_rows: int,
) -> Memory:
    """Memory of the fullest device.

    Args:
        shape: the decoder.
        training: precision, optimiser, rows' length, chunk of the loss.
        parallel: how it is spread; one device is `ParallelConfiguration()` with all sizes 1.
        sizes: ranks along each dimension.
        micro_rows: rows of a micro-batch, on each data rank.
    """
    # The ranks that see tokens of their own hold one copy of a stage's weights together, however they are cut.
    share = (shape.num_parameters() - _around(shape)) / sizes.pipeline + _around(shape) / min(2, sizes.pipeline)
    share /= sizes.tokens
    # Stage 1 adds micro-batches' gradients up whole, and shares them out with the last one's.
    added = 0.0
    if parallel.zero_stage == 1 and sizes.tokens > 1:
        added = (_block(shape, parallel) * shape.num_layers / sizes.pipeline + _around(shape)) * _FLOAT32
    return Memory(
        weights=share * weight_size(training),
        gradients=share * _FLOAT32 + added,
        optimiser=share * averages_size(training, shape),
        gathered=_gathered(shape, training, parallel, sizes),
        activations=_activations(shape, training, parallel, sizes, micro_rows),
        logits=_logits(shape, training, sizes, micro_rows),
    )


def _around(shape: DecoderConfiguration) -> int:
    """Weights around the blocks: embedding, head, last norm. A pipeline has about half of them at either end."""
    return shape.embedding_parameters() + shape.hidden_size


def _block(shape: DecoderConfiguration, parallel: ParallelConfiguration) -> float:
    """A block's weights that one rank computes with: `tensor` cuts all but the experts, which `expert` divides."""
    block = (shape.num_parameters() - _around(shape)) / shape.num_layers
    experts = 3 * shape.hidden_size * shape.intermediate_size * (shape.num_experts or 0)
    return (block - experts) / parallel.tensor + experts / parallel.expert


def weight_size(training: TrainingConfiguration) -> float:
    """Bytes of one weight: float32, or bfloat16 with what Kahan's sum keeps in a second one."""
    if training.precision != "bfloat16-pure":
        return _FLOAT32
    return 4.0 if training.rounding == "kahan" else 2.0


def averages_size(training: TrainingConfiguration, shape: DecoderConfiguration) -> float:
    """Bytes of averages for one weight, over all of them; Muon keeps one average for the blocks' matrices."""
    size = _AVERAGES[training.optimiser.name]
    if training.optimiser.name != "muon":
        return size
    routers = shape.num_layers * shape.hidden_size * (shape.num_experts or 0)
    norms = (2 * shape.num_layers + 1) * shape.hidden_size
    matrices = shape.num_parameters() - shape.embedding_parameters() - routers - norms
    return size + (_MUON_MATRIX - size) * matrices / shape.num_parameters()


def _gathered(
    shape: DecoderConfiguration, training: TrainingConfiguration, parallel: ParallelConfiguration, sizes: Sizes
) -> float:
    """Weights beside the shares. Stages 1 and 2 hold all from the forward to the backward pass, 3 two blocks' at once.

    Blocks travel in `gather_dtype`, what is around them in its own precision; stages 2 and 3 hold a block's gradients.
    One device alone holds the bfloat16 copies that its products made, where weights are float32.
    """
    if sizes.tokens == 1:
        return 2.0 * shape.num_parameters() / sizes.pipeline if training.precision == "bfloat16" else 0.0
    around = _around(shape) / min(2, sizes.pipeline)
    block = _block(shape, parallel)
    blocks = 2 if parallel.zero_stage == 3 else shape.num_layers / sizes.pipeline
    travelling = 2.0 if parallel.gather_dtype == "bfloat16" else weight_size(training)
    gradients = (block + around) * _FLOAT32 if parallel.zero_stage >= 2 else 0.0
    return blocks * block * travelling + around * weight_size(training) + gradients


def _activations(
    shape: DecoderConfiguration,
    training: TrainingConfiguration,
    parallel: ParallelConfiguration,
    sizes: Sizes,
    micro_rows: int,
) -> float:
    """With sequence parallelism; and with 1f1b, where the first stage has as many micro-batches under way as stages."""
    tokens = micro_rows * training.sequence_length / (sizes.context * sizes.tensor)
    kept = block_activations(shape, training, parallel.activation_checkpointing)
    is_again = parallel.activation_checkpointing != "none"
    working = block_activations(shape, training, "none") if is_again else 0.0
    return tokens * (kept * shape.num_layers + working)


def block_activations(shape: DecoderConfiguration, training: TrainingConfiguration, checkpointing: str) -> float:
    """Bytes for each token that one block keeps for its backward pass.

    With h the width, q and k the widths of all query and of all key heads, i the inner width (of all chosen experts
    together), s bytes of the residual stream and b of a product's result:
    none: `2·s·h` (what both norms read) + `c·b·h` (what they return, a copy for each of the c products that read it
    where these are bfloat16 and the stream is not; else c = 2) + `b·(2q + 2k)` (queries, keys, values, answer)
    + `b·m·i` (m = 4 gated: gate, up, activation, product; 2 plain) + with experts `2·b·h` for each chosen one (its
    copy of the token, its answer). selective: `s·h` + the products' results. full: `s·h`.
    """
    stream = 2 if training.precision == "bfloat16-pure" else _FLOAT32
    value = _FLOAT32 if training.precision == "float32" else 2
    h, q, k = shape.hidden_size, shape.num_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    chosen = shape.experts_per_token or 1
    inner = shape.intermediate_size * chosen
    rows = 2 * h * chosen if shape.num_experts else 0
    is_gated = shape.feed_forward == "gated"
    is_plain = shape.feed_forward == "plain"
    if checkpointing == "full":
        return stream * h
    if checkpointing == "selective":
        answers = h * (chosen if shape.num_experts else 1)
        return stream * h + value * (2 * q + 2 * k + h + (1 if is_plain else 2) * inner + answers)
    # Queries, keys and values; then gate and up, or up alone, or the router.
    copies = (3 + (2 if is_gated else 1)) if stream != value else 2
    return 2 * stream * h + value * (copies * h + 2 * q + 2 * k + (2 if is_plain else 4) * inner + rows)


def _logits(shape: DecoderConfiguration, training: TrainingConfiguration, sizes: Sizes, micro_rows: int) -> float:
    tokens = micro_rows * training.sequence_length / (sizes.context * sizes.tensor)
    return min(tokens, training.loss_chunk_tokens) * shape.vocab_size * 2 * _FLOAT32
