"""What a recipe can set about how a model is spread over devices. Sizes count ranks (processes, one to a device)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from vernacular.foundation.configuration import NEUTRAL, Configuration
from vernacular.foundation.errors import UserError
from vernacular.models.configuration import DecoderConfiguration

ActivationCheckpointing = Literal["none", "selective", "full"]


class Sizes(NamedTuple):
    """Ranks along each dimension of the mesh, outermost first; neighbouring ranks differ in `tensor`."""

    pipeline: int
    data_replicate: int
    data_shard: int
    context: int
    tensor: int

    @property
    def data(self) -> int:
        """Ranks that read different rows."""
        return self.data_replicate * self.data_shard

    @property
    def tokens(self) -> int:
        """Ranks, within one replica of one stage, that each see tokens of their own."""
        return self.data_shard * self.context * self.tensor

    @property
    def world(self) -> int:
        """All ranks."""
        return self.pipeline * self.data_replicate * self.tokens


class ParallelConfiguration(Configuration):
    """How a model is spread; the defaults suit one device and plain fully sharded data parallelism on many."""

    data_replicate: int = Field(
        1,
        ge=1,
        description="replicas of the sharded model, each over data_shard ranks (HSDP)",
        json_schema_extra=NEUTRAL,
    )
    data_shard: int | None = Field(
        None,
        ge=1,
        description="ranks that share one replica's weights and read different rows (default: all left over)",
        json_schema_extra=NEUTRAL,
    )
    zero_stage: Literal[1, 2, 3] = Field(
        3,
        description="what is sharded over data_shard: 1 optimiser state, 2 gradients too, 3 weights too between uses",
        json_schema_extra=NEUTRAL,
    )
    tensor: int = Field(
        1,
        ge=1,
        description="ranks that each hold some heads and some inner columns of every block",
        json_schema_extra=NEUTRAL,
    )
    sequence_parallel: bool = Field(
        True,
        description="whether tensor ranks keep only their own tokens between the blocks' products",
        json_schema_extra=NEUTRAL,
    )
    expert: int = Field(
        1, ge=1, description="ranks that a mixture's experts are divided over", json_schema_extra=NEUTRAL
    )
    pipeline: int = Field(1, ge=1, description="stages that the layers are divided over", json_schema_extra=NEUTRAL)
    schedule: Literal["1f1b", "gpipe"] = Field(
        "1f1b",
        description="order of the micro-batches through the pipeline; 1f1b keeps fewer activations",
        json_schema_extra=NEUTRAL,
    )
    context: int = Field(
        1,
        ge=1,
        description="ranks that each read a part of every row, and gather keys and values",
        json_schema_extra=NEUTRAL,
    )
    activation_checkpointing: ActivationCheckpointing = Field(
        "none",
        description="what the backward pass computes again: none, selective (all but products and attention) or full",
        json_schema_extra=NEUTRAL,
    )
    float8: bool = Field(False, description="products of the blocks in float8 through torchao; recent CUDA GPUs only")
    gather_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="precision in which sharded matrices are gathered; bfloat16 needs bfloat16 products, which round "
        "them to that anyway; gradients are summed in float32",
        json_schema_extra=NEUTRAL,
    )
    timeout_seconds: int = Field(
        600, gt=0, description="how long a rank waits for the others before it gives up", json_schema_extra=NEUTRAL
    )

    def sizes(self, world: int) -> Sizes:
        """Ranks along each dimension, for `world` ranks in all.

        Raises:
            UserError: the settings do not make up `world`; says which.
        """
        fixed = self.pipeline * self.data_replicate * self.context * self.tensor
        named = "pipeline × data_replicate × context × tensor"
        if self.data_shard is None:
            if world % fixed:
                raise UserError(
                    f"{named} is {fixed}, which does not divide the {world} ranks started",
                    where="parallel",
                    fix=f"start a multiple of {fixed} processes, or lower one of these settings",
                )
            shard = world // fixed
        else:
            shard = self.data_shard
            if fixed * shard != world:
                raise UserError(
                    f"{named} × data_shard is {fixed * shard}, but {world} ranks were started",
                    where="parallel.data_shard",
                    fix=f"start {fixed * shard} processes, or leave data_shard out to use all ranks",
                )
        sizes = Sizes(self.pipeline, self.data_replicate, shard, self.context, self.tensor)
        if sizes.tokens % self.expert:
            raise UserError(
                f"expert is {self.expert}, which does not divide data_shard × context × tensor = {sizes.tokens}",
                where="parallel.expert",
                fix="choose a divisor: the experts are divided over these ranks",
            )
        return sizes

    def check(self, decoder: DecoderConfiguration, sequence_length: int, *, device: str, compile: bool = False) -> None:
        """Refuse a model that these settings cannot spread; the error names the setting.

        Args:
            decoder: the model's shape.
            sequence_length: tokens in a row.
            device: `cpu` or `cuda`.
            compile: whether each block is compiled.
        """
        if compile and decoder.num_experts and self.activation_checkpointing != "none":
            raise UserError(
                "the blocks of a mixture cannot be compiled and checkpointed at once: PyTorch would compile nothing",
                where="compile, parallel.activation_checkpointing",
                fix="leave one of them out",
            )
        for setting, size, quantity, value in self._divisions(decoder, sequence_length):
            if value % size:
                raise UserError(
                    f"{setting} is {size}, which does not divide the model's {quantity} {value}",
                    where=f"parallel.{setting}",
                    fix=f"choose a divisor of {value}",
                )
        if self.pipeline > 1 and decoder.tie_embeddings:
            raise UserError(
                "the output head is the embedding table (tie_embeddings), which a pipeline keeps on two stages",
                where="parallel.pipeline",
                fix="set pipeline to 1 and spread the model with data_shard or tensor, or untie the head",
            )
        if self.expert > 1 and decoder.num_experts is None:
            raise UserError(
                f"expert is {self.expert}, but the model has no experts", where="parallel.expert", fix="set it to 1"
            )
        if self.float8 and device != "cuda":
            raise UserError(
                f"float8 products need a CUDA GPU; this run is on {device}",
                where="parallel.float8",
                fix="set float8 to false",
            )

    def check_shards(self, decoder: DecoderConfiguration, sizes: Sizes) -> None:
        """Refuse experts that the ranks which hold the same ones cannot share out evenly; the error names the setting.

        Args:
            decoder: the model's shape.
            sizes: as `sizes` returns them.
        """
        ranks = sizes.tokens // self.expert
        uneven = {"hidden_size": decoder.hidden_size, "2 × intermediate_size": 2 * decoder.intermediate_size}
        for quantity, value in uneven.items():
            if self.expert > 1 and value % ranks:
                raise UserError(
                    f"expert is {self.expert}, so {ranks} ranks share out each expert, which does not divide the"
                    f" model's {quantity} {value}",
                    where="parallel.expert",
                    fix="choose expert or data_replicate so that data_shard × context × tensor / expert is a divisor",
                )

    def _divisions(self, decoder: DecoderConfiguration, sequence_length: int) -> list[tuple[str, int, str, int]]:
        """(setting, its size, what it must divide, how large that is)."""
        tensor = [
            ("tensor", self.tensor, "num_heads", decoder.num_heads),
            ("tensor", self.tensor, "num_key_value_heads", decoder.num_key_value_heads),
        ]
        if decoder.num_experts is None:
            tensor.append(("tensor", self.tensor, "intermediate_size", decoder.intermediate_size))
        return [
            *tensor,
            ("expert", self.expert, "num_experts", decoder.num_experts or self.expert),
            ("pipeline", self.pipeline, "num_layers", decoder.num_layers),
            ("context", self.context, "sequence_length", sequence_length),
            ("tensor", self.tensor * self.context, "sequence_length (together with context)", sequence_length),
        ]
