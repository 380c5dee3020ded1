"""Settings of the quality classifier: the keys below `do: train-quality`, and `quality:` below `do: curate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vernacular.foundation.configuration import Configuration

Grade = Literal["HIGH", "MEDIUM", "LOW"]
GRADES: tuple[Grade, ...] = ("HIGH", "MEDIUM", "LOW")


class Damage(Configuration):
    """Weak labels: documents as they are (HIGH), and copies damaged on purpose."""

    kinds: tuple[str, ...] | None = Field(None, description="kinds of damage by name; null: all of them")
    copies: int = Field(3, ge=1, le=40, description="damaged copies of each document, each of another kind")
    light: tuple[float, float] | None = Field(
        (0.15, 0.35), description="share of a text that is spoilt for MEDIUM, from and to; null: no MEDIUM"
    )
    heavy: tuple[float, float] = Field((0.6, 1.0), description="share of a text that is spoilt for LOW, from and to")


class Outliers(Configuration):
    """Rows of features that no sound document has, made up so that unknown kinds of damage are noticed."""

    share: float = Field(0.5, ge=0, le=5, description="how many, for each sound document; 0 for none")
    weight: float = Field(0.5, gt=0, le=1, description="what each counts, beside a weak label's mean of 1")


class Trees(Configuration):
    """Gradient-boosted trees (XGBoost)."""

    rounds: int = Field(150, ge=1, le=5000, description="trees of each grade")
    depth: int = Field(6, ge=1, le=16, description="most splits from root to leaf")
    learning_rate: float = Field(0.12, gt=0, le=1, description="step of each tree")
    rows: float = Field(0.8, gt=0, le=1, description="share of the documents each tree sees")
    columns: float = Field(0.3, gt=0, le=1, description="share of the features each tree sees")
    threads: int = Field(
        1, ge=1, description="threads; the model may differ in its last digits with another number of them"
    )


class TrainQualityConfiguration(Configuration):
    """Settings of the stage `train-quality`: labelled documents in, a classifier and a report out."""

    damage: Damage | None = Field(Damage(), description="weak labels by damage; null: only those of `labels`")
    lexicons: tuple[str, ...] = Field(
        (), description="languages whose lexicon is read; its features are null in every other language"
    )
    trees: Trees = Field(Trees(), description="the classifier")
    outliers: Outliers = Field(
        Outliers(), description="made-up rows that no sound document has; used where there is `damage`"
    )
    folds: int = Field(
        5,
        ge=2,
        le=20,
        description="parts, each judged by a classifier that saw none of its documents or kinds of damage",
    )
    calibration: Literal["isotonic", "temperature"] = Field(
        "isotonic", description="how scores become probabilities, fitted on what the folds' classifiers did not see"
    )
    keep: Grade = Field("HIGH", description="the grade that the report's threshold curve and pages are about")
    probability: float = Field(0.90, ge=0, lt=1, description="the threshold that the report marks")
    minimum_documents: int = Field(
        20,
        ge=2,
        description="of a language, without damage; one with fewer is left out, and its documents get no grade",
    )
    maximum_documents: int = Field(
        20000, ge=10, description="undamaged documents at most, chosen by their ids; those with labels always"
    )
    seed: int = Field(0, ge=0, description="decides damage, folds and what the trees see")


class QualityFilter(Configuration):
    """Documents are graded, and those whose probability of the grade is not above the threshold are removed."""

    model: str = Field(description="a train-quality stage, or its folder")
    keep: Grade = Field("HIGH", description="the grade to keep")
    probability: float = Field(0.90, ge=0, lt=1, description="a document stays where its probability is higher")
