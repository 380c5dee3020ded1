"""What a recipe can set about training. Sizes are in tokens, not in rows, unless the name says otherwise."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from vernacular.foundation.configuration import NEUTRAL, Configuration
from vernacular.foundation.errors import UserError
from vernacular.models.configuration import DecoderConfiguration, ModelShape
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.tokens.configuration import (
    ConversationsConfiguration,
    MixtureConfiguration,
    PhaseConfiguration,
    TokenCacheConfiguration,
)
from vernacular.training.optimisation import OptimiserConfiguration

Precision = Literal["float32", "bfloat16", "bfloat16-pure"]
Overlong = Literal["refuse", "truncate", "drop"]
Normalisation = Literal["openchat", "allamo"]


class WandbConfiguration(Configuration):
    """Weights & Biases, beside the files that are always written."""

    project: str = Field(min_length=1, description="project the run is filed under")
    mode: Literal["online", "offline"] = Field("online", description="offline writes below logs/ and sends nothing")


class SpikeConfiguration(Configuration):
    """A step whose loss or gradient norm exceeds a multiple of its running median, and what is done about it."""

    rule: Literal["skip", "rollback"] = Field(
        description="skip: the batch changes nothing; rollback: go back to the last return point, and past its batches"
    )
    factor: float = Field(3.0, gt=1, description="multiple of the median at which it is a spike")
    window: int = Field(100, gt=0, description="steps that the median is taken over")
    after: int = Field(20, gt=0, description="steps that must have been seen before the rule holds")
    return_every: int = Field(200, gt=0, description="steps between the points that a rollback returns to")
    most: int = Field(20, gt=0, description="spikes in a run after which it stops with an error")

    @model_validator(mode="after")
    def _can_begin(self) -> Self:
        if self.after > self.window:
            message = f"after {self.after} exceeds window {self.window}: the rule would never hold"
            raise ValueError(message, "lower after, or raise window")
        if self.rule == "skip" and self.return_every != type(self).model_fields["return_every"].default:
            raise ValueError("return_every belongs to rule: rollback", "leave it out where spikes are skipped")
        return self


class StopConfiguration(Configuration):
    """When a run that trains weights further ends early: a language it knew is forgotten."""

    probe: str = Field(
        min_length=1, description="the language whose bits per byte on held-out text are watched, every heldout_every"
    )
    rise: float = Field(ge=0, description="share of its bits per byte before the first step by which they may rise")
    patience: int = Field(
        1,
        gt=0,
        description="measurements in a row above the bound that stop the run; the last weights within it stay",
    )


class ProfileConfiguration(Configuration):
    """Steps whose every operation is timed, for chrome://tracing or Perfetto."""

    first: int = Field(gt=0, description="first step of the trace, counted from 1")
    last: int = Field(gt=0, description="last step of the trace")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"last {self.last} is before first {self.first}", "raise last, or lower first")
        return self


class BestConfiguration(Configuration):
    """The checkpoint that is best by a metric stays, and its weights are written to `best/` beside the last ones."""

    metric: str = Field(
        min_length=1, description="a metric of the run, such as heldout_loss; judged wherever it is measured"
    )
    better: Literal["lower", "higher"] = Field("lower", description="which of two values is the better one")

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a value is the best so far."""
        return best is None or (value < best if self.better == "lower" else value > best)


class TrainingConfiguration(Configuration):
    """What all objectives share."""

    steps: int | None = Field(None, gt=0, description="optimiser steps; give this or epochs")
    epochs: float | None = Field(None, gt=0, description="passes over the data; give this or steps")
    sequence_length: int = Field(gt=1, description="tokens per row")
    batch_tokens: int = Field(gt=0, description="tokens per optimiser step; a multiple of sequence_length")
    micro_batch_tokens: int | None = Field(
        None, gt=0, description="tokens per forward pass; smaller saves memory (default: batch_tokens)"
    )
    optimiser: OptimiserConfiguration = Field(description="the optimiser and its rate over the run")
    document_mask: bool = Field(True, description="whether tokens see only their own document within a packed row")
    precision: Precision = Field(
        "float32",
        description="bfloat16: matrix products in bfloat16; weights, gradients and loss stay float32."
        " bfloat16-pure: the weights too are bfloat16; gradients, averages and loss stay float32",
    )
    rounding: Literal["stochastic", "kahan"] | None = Field(
        None,
        description="of bfloat16-pure: how updates below a weight's last bit are kept. stochastic: by chance, right on"
        " average; kahan: in a second bfloat16 tensor",
    )
    z_loss: float = Field(0.0, ge=0, description="weight of the mean of logsumexp² of the next token's scores")
    router_z_loss: float = Field(
        0.0, ge=0, description="weight of the mean of logsumexp² of the routers' scores, where there are experts"
    )
    compile: bool = Field(False, description="torch.compile each block; pays off on long runs")
    kernels: Literal["native", "torch"] | None = Field(
        None,
        description="what computes all but the matrix products: native, the CPU kernels compiled on first use, or torch"
        " (default: native on a CPU, torch with compile or parallel.context)",
    )
    loss_chunk_tokens: int = Field(2048, gt=0, description="tokens whose logits exist at one time")
    load_balance: Literal["batch", "pass"] = Field(
        "batch",
        description="tokens that a mixture's load balance is taken over, on all ranks. batch: the global batch's, which"
        " a batch in several micro-batches pays for with one more forward pass; pass: a forward pass's",
    )
    parallel: ParallelConfiguration = Field(
        default_factory=ParallelConfiguration, description="how the model is spread over the processes of the run"
    )
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="what computes (default: cuda where there is a GPU, else cpu)", json_schema_extra=NEUTRAL
    )
    seed: int = Field(0, ge=0, description="seed of the initial weights and of the data's order")
    threads: int | None = Field(None, gt=0, le=4096, description="CPU threads (default: all usable cores)")
    log_every: int = Field(10, gt=0, description="steps between lines of metrics", json_schema_extra=NEUTRAL)
    heldout_every: int | None = Field(
        None, gt=0, description="steps between held-out losses (default: the end only)", json_schema_extra=NEUTRAL
    )
    heldout_tokens: int = Field(
        65536, gt=0, description="most held-out tokens scored each time", json_schema_extra=NEUTRAL
    )
    checkpoint_every: int = Field(200, gt=0, description="steps between checkpoints", json_schema_extra=NEUTRAL)
    checkpoint_folder: str | None = Field(
        None,
        min_length=1,
        description="where they are written, a path or an address such as s3://bucket/folder (default: the stage's"
        " folder); all processes must see it",
        json_schema_extra=NEUTRAL,
    )
    checkpoint_attempts: int = Field(
        6,
        gt=0,
        description="how often a checkpoint at an address is tried before the run ends with an error, after 1, 2, 4, …"
        " seconds",
        json_schema_extra=NEUTRAL,
    )
    checkpoint_async: bool = Field(
        False, description="train on while a checkpoint is written, from a copy in memory", json_schema_extra=NEUTRAL
    )
    spikes: SpikeConfiguration | None = Field(
        None, description="what to do with a step whose loss or gradient leaps up; null: go on"
    )
    stop: StopConfiguration | None = Field(
        None, description="end early when a language is forgotten; needs heldout_every; null: train to the last step"
    )
    profile: ProfileConfiguration | None = Field(
        None, description="write a trace of some steps to logs/", json_schema_extra=NEUTRAL
    )
    keep_checkpoints: int = Field(
        2, gt=0, description="how many of the latest checkpoints stay", json_schema_extra=NEUTRAL
    )
    keep_every: int | None = Field(
        None, gt=0, description="checkpoints at multiples of so many steps all stay", json_schema_extra=NEUTRAL
    )
    keep_best: BestConfiguration | None = Field(
        None, description="also keep the checkpoint that is best by a metric, and write its weights to best/"
    )
    wandb: WandbConfiguration | None = Field(
        None, description="also log to Weights & Biases", json_schema_extra=NEUTRAL
    )

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if self.batch_tokens % self.sequence_length:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is not a multiple of sequence_length {self.sequence_length}",
                "change one of them",
            )
        if self.micro_batch_tokens is not None and (
            self.micro_batch_tokens % self.sequence_length or self.batch_tokens % self.micro_batch_tokens
        ):
            raise ValueError(
                "micro_batch_tokens must be a multiple of sequence_length and divide batch_tokens",
                f"change micro_batch_tokens {self.micro_batch_tokens}, or leave it out",
            )
        if (self.precision == "bfloat16-pure") != (self.rounding is not None):
            raise ValueError("precision: bfloat16-pure and rounding belong together; give both or neither")
        if self.compile and self.kernels == "native":
            raise ValueError("compile and kernels: native exclude each other; leave one of them out")
        if self.parallel.gather_dtype == "bfloat16" and self.precision == "float32":
            raise ValueError("parallel.gather_dtype: bfloat16 needs bfloat16 products; set precision, or leave it out")
        if self.parallel.gather_dtype == "bfloat16" and self.precision == "bfloat16-pure":
            raise ValueError("with bfloat16-pure weights travel in bfloat16 anyway; leave out parallel.gather_dtype")
        if self.kernels == "native" and self.parallel.context > 1:
            raise ValueError("the native kernels need whole rows; leave out kernels, or parallel.context")
        if self.load_balance == "pass" and self.parallel.pipeline > 1:
            raise ValueError("a pipeline's stages never see one pass at a time; set load_balance: batch")
        if self.stop is not None and self.heldout_every is None:
            raise ValueError("stop judges what is measured every heldout_every steps; set it")
        if self.stop is not None and self.spikes is not None and self.spikes.rule == "rollback":
            raise ValueError("stop and spikes.rule: rollback exclude each other; a rollback may go behind good weights")
        if self.keep_every is not None and self.keep_every % self.checkpoint_every:
            raise ValueError(
                f"keep_every {self.keep_every} is not a multiple of checkpoint_every {self.checkpoint_every};"
                " most of what it is to keep would never be written",
                "change one of them",
            )
        return self

    def decisive_settings(self) -> dict[str, Any]:
        """As of every configuration; where a run may be stopped, how it is measured decides too."""
        found = super().decisive_settings()
        if self.stop is None:
            return found
        return {**found, "heldout_every": self.heldout_every, "heldout_tokens": self.heldout_tokens}

    @property
    def batch_rows(self) -> int:
        """Rows per optimiser step."""
        return self.batch_tokens // self.sequence_length

    @property
    def micro_batch_rows(self) -> int:
        """Rows per forward pass."""
        return (self.micro_batch_tokens or self.batch_tokens) // self.sequence_length

    def require_shares(self, world: int) -> None:
        """Refuse a batch that so many ranks cannot share out.

        Raises:
            UserError: `parallel` does not make up `world`, or the batch does not suit it; names the setting.
        """
        sizes = self.parallel.sizes(world)
        rows, readers = self.batch_rows, sizes.data
        if rows % readers:
            raise UserError(
                f"a batch of {rows} rows cannot be shared out evenly among {readers} ranks that read different rows",
                where="batch_tokens",
                fix=f"make it a multiple of {readers} × sequence_length, use tensor, context or pipeline, or run this"
                " stage with other processes, those before it first by --until",
            )
        passes, rest = divmod(rows // readers, min(self.micro_batch_rows, rows // readers))
        if sizes.pipeline > passes:
            raise UserError(
                f"a step of {passes} micro-batches cannot fill a pipeline of {sizes.pipeline} stages",
                where="parallel.pipeline",
                fix="lower micro_batch_tokens, or pipeline",
            )
        if sizes.pipeline > 1 and rest:
            raise UserError(
                f"{rows // readers} rows a rank cannot be cut into micro-batches of {self.micro_batch_rows} rows,"
                " and those of a pipeline are all of one size",
                where="micro_batch_tokens",
                fix="choose a divisor",
            )

    def counts_ahead(self, passes: int, stages: int) -> bool:
        """Whether a mixture's choices of experts are counted in forward passes of their own: none sees the whole batch.

        Args:
            passes: micro-batches of a step, on a rank.
            stages: of the pipeline.
        """
        return self.load_balance == "batch" and (passes > 1 or stages > 1)

    def compute_natively(self, device: str) -> bool:
        """Whether the CPU kernels compute on this device. Raises `UserError` where they are asked for elsewhere."""
        if self.kernels == "native" and device != "cpu":
            raise UserError(
                f"the native kernels compute on a CPU only; the device is {device}",
                where="kernels",
                fix="leave the setting out, or set kernels: torch",
            )
        can_compute = device == "cpu" and not self.compile and self.parallel.context == 1
        return can_compute and self.kernels != "torch"

    def require_steps(self, steps: int) -> None:
        """Refuse what a run of so many steps never comes to. Raises `UserError`."""
        needed = {
            "optimiser.warmup_steps": self.optimiser.warmup_steps,
            "profile.first": 0 if self.profile is None else self.profile.first,
        }
        fix = "lower it, or train for more steps"
        for key, least in needed.items():
            if least > steps:
                raise UserError(f"{key} {least} exceeds the run's {steps} steps", where=key, fix=fix)
        warmup, final = self.optimiser.warmup_steps, self.optimiser.final_learning_rate
        if steps - warmup < (1 if self.optimiser.decay is not None else 2 if final else 0):
            message = (
                f"{warmup} steps of warm-up leave the rate none of {steps} to fall to final_learning_rate {final:g}"
            )
            raise UserError(message, where="optimiser.warmup_steps", fix=fix)

    def require_model(self, decoder: DecoderConfiguration) -> None:
        """Refuse rows that the model cannot read, and settings of experts where it has none. Raises `UserError`."""
        if self.sequence_length > decoder.max_positions:
            raise UserError(
                f"sequence_length {self.sequence_length} exceeds the weights' limit of {decoder.max_positions}",
                where="sequence_length",
                fix="lower it",
            )
        for key, is_given in {
            "router_z_loss": self.router_z_loss > 0,
            "load_balance": self.load_balance != "batch",
        }.items():
            if is_given and decoder.num_experts is None:
                raise UserError(
                    f"{key} is of a mixture's routers, and the model has no experts", where=key, fix="leave it out"
                )

    def num_steps(self, num_rows: int) -> int:
        """Optimiser steps for a dataset of `num_rows` rows. Raises `UserError` where they fill no batch."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        steps = round(self.epochs * num_rows / self.batch_rows)
        if steps == 0:
            raise UserError(
                f"{num_rows} rows, read {self.epochs:g} times, fill no batch of {self.batch_rows} rows",
                where="epochs",
                fix="raise it, lower batch_tokens, or set steps",
            )
        return steps


class PretrainConfiguration(TrainingConfiguration):
    """From token shards to weights: a new decoder, or further training of given weights."""

    model: ModelShape | None = Field(None, description="shape of a new decoder; leave out where weights are given")
    mixture: MixtureConfiguration | None = Field(
        None, description="how much of each language, source or token stage is read; null: every row alike"
    )
    curriculum: tuple[PhaseConfiguration, ...] | None = Field(
        None, min_length=1, description="instead of mixture: phases one after the other, each with its own"
    )
    shuffle_shards: int | None = Field(
        None,
        gt=0,
        description="shards of each cell whose rows are shuffled together, so that few are read at a time; a row then"
        " ends with its shard. Null: an epoch is shuffled as a whole, and reads all shards all the time",
    )
    token_cache: TokenCacheConfiguration = Field(
        default_factory=TokenCacheConfiguration,
        description="of tokens at an address such as s3://bucket/tokens: where they are kept while they are read",
        json_schema_extra=NEUTRAL,
    )

    def require_beginning(self, weights: object | None) -> None:
        """Refuse to begin from both weights and a shape, or from neither.

        Args:
            weights: what is trained further; None for a new decoder.
        """
        if (weights is None) == (self.model is None):
            raise UserError(
                "give either weights to begin with or the shape of a new model, not both or neither",
                where="model",
                fix="add `weights` or `model`" if weights is None else "remove `weights` or `model`",
            )

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.mixture is not None and self.curriculum is not None:
            raise ValueError("mixture and curriculum exclude each other; leave one of them out")
        ends = [phase.until for phase in self.phases]
        if ends and (ends != sorted(set(ends)) or ends[-1] != 1):
            raise ValueError(f"the phases of a curriculum end one after the other, the last at 1; they end at {ends}")
        if len({phase.mixture.by for phase in self.phases}) > 1:
            raise ValueError("the phases of a curriculum mix by the same: language, source or tokens")
        return self

    @property
    def phases(self) -> tuple[PhaseConfiguration, ...]:
        """The curriculum; a mixture alone is one phase, and without either there is none."""
        if self.mixture is not None:
            return (PhaseConfiguration(until=1.0, mixture=self.mixture),)
        return self.curriculum or ()


class SftConfiguration(TrainingConfiguration):
    """From weights and conversations to weights that answer: the loss falls on the assistant's text alone."""

    conversation_settings: ConversationsConfiguration = Field(
        default_factory=lambda: ConversationsConfiguration(heldout_fraction=0.02),
        description="how the conversations become tokens: share held out, malformed lines",
    )
    overlong: Overlong = Field("refuse", description="what to do with a conversation longer than sequence_length")
    normalisation: Normalisation = Field(
        "openchat",
        description="what the weighted losses' sum is divided by: the sum of the weights (openchat) or the number of"
        " tokens that have one (allamo); the same where all conversations weigh 1",
    )
