"""What the synthetic corpus is made of: seed, languages, amounts, and the share of each kind of noise."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from vernacular.foundation.configuration import Configuration

Language = Literal["hi", "pl", "en"]


class NoiseShares(Configuration):
    """Shares of all documents, per kind of noise. All but `repairable` are to be removed by curation."""

    repairable: float = Field(0.02, ge=0, le=0.5, description="mojibake that ftfy turns back into the exact original")
    broken_encoding: float = Field(0.03, ge=0, le=0.5, description="text damaged beyond repair")
    boilerplate: float = Field(0.03, ge=0, le=0.5, description="menus, cookie banners, terms of use")
    spam: float = Field(0.03, ge=0, le=0.5, description="stuffed keywords, repeated lines, lists of links")
    near_duplicate: float = Field(0.03, ge=0, le=0.5, description="slightly shortened copies of clean documents")
    exact_duplicate: float = Field(0.03, ge=0, le=0.5, description="copies that differ at most in white space")
    wrong_language: float = Field(0.03, ge=0, le=0.5, description="good text in a language that was not asked for")

    @model_validator(mode="after")
    def _originals_remain(self) -> Self:
        total = sum(getattr(self, name) for name in type(self).model_fields)
        if total > 0.5:
            raise ValueError(f"the shares add up to {total:.2f}; at least half of the documents must be clean (≤ 0.5)")
        return self


class SyntheticConfiguration(Configuration):
    """The synthetic source. Equal configurations give equal bytes, on every run and in every process."""

    seed: int = Field(1, ge=0, description="decides everything that is drawn")
    languages: tuple[Language, ...] = Field(("hi", "pl", "en"), min_length=1, description="ISO 639-1 codes")
    documents: int = Field(6000, ge=60, description="documents of all languages together, noise included")
    conversations: int = Field(6000, ge=30, description="conversations of all languages together")
    weights: tuple[Literal["high", "medium", "low"], ...] = Field(
        (), description="what conversations weigh in the loss, one after the other; without it, all weigh 1"
    )
    items: int = Field(200, ge=1, le=200, description="held-out items of each task")
    noise: NoiseShares = Field(NoiseShares(), description="shares of the kinds of noise")

    @model_validator(mode="after")
    def _languages_differ(self) -> Self:
        if len(set(self.languages)) < len(self.languages):
            raise ValueError("a language is named twice")
        return self
