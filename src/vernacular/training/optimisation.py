"""What a recipe can set about the way weights change: the optimiser, its rate over the run, μP."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from vernacular.foundation.configuration import Configuration

# Values of a row, at most, that share a scale among the averages of adamw-8bit.
EIGHT_BIT_BLOCK = 256


class DecayConfiguration(Configuration):
    """The fall to `final_learning_rate` at the end of warm-up–stable–decay and of the power schedule."""

    fraction: float = Field(0.1, gt=0, le=1, description="share of all steps, the last ones, over which the rate falls")
    form: Literal["linear", "1-sqrt", "exponential"] = Field(
        "exponential", description="shape of the fall; exponential needs a final_learning_rate above 0"
    )


class PowerConfiguration(Configuration):
    """The power schedule (arXiv 2408.13359): `batch rows · amplitude · tokens^exponent`, at most `learning_rate`."""

    amplitude: float = Field(4.0, gt=0, description="a of the paper, for a batch of one row")
    exponent: float = Field(-0.51, lt=0, description="b of the paper, the power of the tokens seen")


class MuonConfiguration(Configuration):
    """Muon for the matrices inside the blocks; embeddings, head, routers and norms stay on AdamW."""

    learning_rate: float | None = Field(
        None, gt=0, description="peak rate of Muon's matrices; the schedule is the same (default: learning_rate)"
    )
    adjust: Literal["match-rms-adamw", "original"] = Field(
        "match-rms-adamw",
        description="factor of the rate by shape: 0.2·√max(rows, columns), which makes AdamW's rates right for it,"
        " or √max(1, rows/columns)",
    )
    momentum: float = Field(0.95, ge=0, lt=1, description="decay of the gradients' sum (Nesterov)")
    newton_schulz_steps: int = Field(5, gt=0, lt=100, description="iterations of the orthogonalisation")


class MupConfiguration(Configuration):
    """Maximal update parametrisation (arXiv 2203.03466): rates found at one width hold at another.

    Matrices inside the blocks: initial deviation `initializer_range / √m`, rate `learning_rate / m`, where m is
    `hidden_size / base_width`. The multipliers of the forward pass are the model's own: `attention_multiplier` of
    1 / head_dim, `logits_scaling` of m.
    """

    base_width: int = Field(256, gt=0, description="hidden_size at which the rates were found")


class OptimiserConfiguration(Configuration):
    """How weights change: AdamW (arXiv 1711.05101) or Muon, and the rate over the run."""

    name: Literal["adamw", "adamw-8bit", "adamw-bf16", "muon"] = Field(
        "adamw",
        description="adamw-8bit keeps its two averages in 8 bits, adamw-bf16 in 16;"
        " muon orthogonalises the update of the blocks' matrices",
    )
    learning_rate: float = Field(gt=0, description="peak learning rate")
    warmup_steps: int = Field(0, ge=0, description="steps over which the rate rises linearly to its peak")
    warmup_from: float = Field(
        0.0, ge=0, description="rate that the warm-up rises from: the floor of the run before, to warm it up again"
    )
    final_learning_rate: float = Field(0.0, ge=0, description="rate at the last step of a schedule that falls to one")
    schedule: Literal["cosine", "linear", "constant", "inverse-sqrt", "warmup-stable-decay", "power"] = Field(
        "cosine", description="the rate after the warm-up: see training/schedule.py"
    )
    decay: DecayConfiguration | None = Field(
        None, description="how warmup-stable-decay and power end; power may go without, to be trained on from there"
    )
    power: PowerConfiguration = Field(default_factory=PowerConfiguration, description="constants of schedule: power")
    adaptive: bool = Field(
        False, description="multiply the rate by √(the batch's loss-bearing tokens / batch_tokens) (Bielik)"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the gradient's mean")
    beta2: float = Field(0.95, ge=0, lt=1, description="decay of the squared gradient's mean")
    epsilon: float = Field(1e-8, gt=0, description="added to the root of the squared gradient's mean")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay of the matrices; norms never decay")
    decay_embeddings: bool = Field(True, description="whether the embedding table and the output head decay too")
    clip: float | None = Field(1.0, gt=0, description="largest global gradient norm; null = no clipping")
    muon: MuonConfiguration = Field(default_factory=MuonConfiguration, description="settings of name: muon")
    mup: MupConfiguration | None = Field(None, description="μP; null: rates and initial weights do not know the width")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError("final_learning_rate is above learning_rate; lower it")
        if self.warmup_from > self.learning_rate:
            raise ValueError("warmup_from is above learning_rate; lower it")
        if self.warmup_from and not self.warmup_steps:
            raise ValueError("warmup_from is the rate a warm-up rises from; set warmup_steps, or leave it out")
        if self.decay is not None and self.schedule not in ("warmup-stable-decay", "power"):
            raise ValueError(f"decay belongs to warmup-stable-decay and power; the schedule is {self.schedule}")
        if self.schedule == "warmup-stable-decay" and self.decay is None:
            raise ValueError("warmup-stable-decay needs decay; without one the schedule is called constant")
        if self.final_learning_rate and self.decay is None and self.schedule not in ("cosine", "linear"):
            raise ValueError(
                f"the schedule {self.schedule} never reaches final_learning_rate; leave it out, or set decay"
            )
        if self.decay is not None and self.decay.form == "exponential" and not self.final_learning_rate:
            raise ValueError("an exponential never falls to 0: set final_learning_rate, or decay.form to linear")
        if self.power != PowerConfiguration() and self.schedule != "power":
            raise ValueError(f"power belongs to schedule: power; the schedule is {self.schedule}", "leave power out")
        if self.muon != MuonConfiguration() and self.name != "muon":
            raise ValueError(f"muon belongs to name: muon; the optimiser is {self.name}", "leave muon out")
        if self.mup is not None and self.name == "muon":
            raise ValueError("mup divides AdamW's rates by the width; Muon's need no such division: remove mup")
        return self
