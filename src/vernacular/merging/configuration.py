"""What a merge is told: its method, and how much each model counts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from vernacular.foundation.configuration import Configuration
from vernacular.foundation.errors import UserError

Method = Literal["linear", "slerp", "task-arithmetic", "ties", "dare", "dare-ties"]
USED_BY: dict[str, tuple[Method, ...]] = {
    "position": ("slerp",),
    "scale": ("task-arithmetic", "ties", "dare", "dare-ties"),
    "density": ("ties", "dare", "dare-ties"),
    "seed": ("dare", "dare-ties"),
}
"""The settings that only some methods read."""
NEEDS_BASE = USED_BY["scale"]
"""The methods that merge what models have learned since a common base."""
ANY_SHARES: tuple[Method, ...] = ("task-arithmetic", "dare")
"""The methods that add changes up, and so can take some away."""


class MergeConfiguration(Configuration):
    """How several models of one shape and one tokenizer become one."""

    method: Method = Field(
        "linear",
        description="linear: the weighted mean; slerp: two models, along the arc between them; task-arithmetic: the"
        " base, plus what each has learned since; ties: of that the largest part, where signs agree; dare: a part by"
        " chance, scaled up; dare-ties: a part by chance, where signs agree",
    )
    shares: tuple[float, ...] | None = Field(
        None, description="how much each model counts, in the order of `weights` (default: 1 each; not for slerp)"
    )
    position: float | None = Field(
        None, ge=0, le=1, description="slerp: 0 is the first model, 1 the second (default: 0.5)"
    )
    scale: float | None = Field(
        None, description="what the merged change is multiplied by before it is added to the base (default: 1)"
    )
    density: float | None = Field(
        None, gt=0, le=1, description="part of each tensor's changes that is kept; needed by ties, dare and dare-ties"
    )
    seed: int | None = Field(None, ge=0, description="dare, dare-ties: seed of the chance (default: 0)")
    dtype: Literal["float32", "bfloat16"] | None = Field(
        None, description="precision of the merged tensors (default: the first model's); sums are in float32"
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        for key, methods in USED_BY.items():
            if getattr(self, key) is not None and self.method not in methods:
                raise ValueError(
                    f"{key} is a setting of {', '.join(methods)}, and the method is {self.method}",
                    "leave it out, or change the method",
                )
        if self.method in USED_BY["density"] and self.density is None:
            raise ValueError(
                f"{self.method} needs a density: the part of each tensor's changes that is kept", "give one, e.g. 0.2"
            )
        if self.shares is not None and self.method == "slerp":
            raise ValueError("slerp has a position instead of shares", "leave shares out")
        if self.shares is not None and self.method not in ANY_SHARES and min(self.shares, default=1) <= 0:
            raise ValueError(
                f"the shares of {self.method} are above 0",
                f"leave such a model out; {' and '.join(ANY_SHARES)} take any",
            )
        return self

    def require_models(self, count: int, *, has_base: bool) -> None:
        """Refuse models that are too few or too many for the method, and a base that is missing or not looked at.

        Raises:
            UserError: its place is the setting's key.
        """
        if self.method == "slerp" and count != 2:
            raise UserError(
                f"slerp merges two models; there are {count}", where="weights", fix="give two, or change the method"
            )
        if count < 2 and self.method not in NEEDS_BASE:
            raise UserError("one model alone is not merged", where="weights", fix="give two or more")
        if self.shares is not None and len(self.shares) != count:
            raise UserError(f"{len(self.shares)} shares for {count} models", where="shares", fix="give each model one")
        if self.method in NEEDS_BASE and not has_base:
            raise UserError(
                f"{self.method} merges what models have learned since a base, and there is none",
                where="base",
                fix="set base to the weights that all of them began with, or change the method to linear",
            )
        if self.method not in NEEDS_BASE and has_base:
            raise UserError(
                f"{self.method} does not look at a base", where="base", fix=f"leave it out, or take {NEEDS_BASE[0]}"
            )
