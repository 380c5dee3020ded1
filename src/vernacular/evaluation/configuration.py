"""What a recipe can set about evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vernacular.foundation.configuration import NEUTRAL, Configuration
from vernacular.foundation.errors import UserError


class EvaluateConfiguration(Configuration):
    """Which tasks are scored, how they are put to the model, and how sure the numbers are."""

    only: tuple[str, ...] = Field((), description="names of the tasks to run, * and ? allowed (default: all)")
    limit: int | None = Field(None, gt=0, description="most items per task, the first ones; for trying things out")
    num_fewshot: int | None = Field(None, ge=0, description="examples before each question (default: as the task says)")
    template: Literal["auto", "always", "never"] = Field(
        "auto", description="chat template; auto = for instruct weights yes, for base weights no; the record says which"
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="precision of the model's arithmetic")
    heldout_bytes: int = Field(
        200_000, gt=0, description="most bytes of held-out text per language for bits per byte; whole documents"
    )
    yardstick_training_bytes: int = Field(
        8 << 20, ge=0, description="most bytes of training text per language shown to xz beforehand; 0 leaves it out"
    )
    task_code: bool = Field(
        False, description="whether tasks may bring their own Python (`!function`, `class`); it runs unprotected"
    )
    allow_code_execution: bool = Field(
        False,
        json_schema_extra=NEUTRAL,
        description="whether programs that the model writes may be run, in a sandbox or not at all",
    )
    samples: int | None = Field(
        None, gt=0, description="answers to each item of tasks whose answers are run (default: as the task says)"
    )
    judge: str | None = Field(
        None,
        description="OpenAI-compatible server whose model grades answers, up to and with /v1, e.g. https://HOST/v1",
    )
    judge_model: str | None = Field(None, min_length=1, description="the grading model's name at that server")
    judge_key_from: str | None = Field(
        None,
        min_length=1,
        json_schema_extra=NEUTRAL,
        description="environment variable that holds the server's key; it is written nowhere",
    )
    judge_runs: int = Field(1, gt=0, le=100, description="grades of each answer, whose mean counts")
    judge_against: Path | None = Field(
        None, description="an evaluation of another model, whose answers are compared with ours, in both orders"
    )
    judge_tokens: int | None = Field(
        None,
        gt=0,
        json_schema_extra=NEUTRAL,
        description="most tokens of a run's questions to the judge and its answers (default: no bound)",
    )
    judge_missing: float = Field(
        0.05,
        ge=0,
        lt=1,
        json_schema_extra=NEUTRAL,
        description="share of verdicts that may be missing; with more there is no score",
    )
    bert_score: Path | None = Field(
        None, description="transformers folder of the encoder that BERTScore compares with; its hash is in the record"
    )
    bert_score_layer: int | None = Field(None, ge=0, description="layer of that encoder; 1 is the first block's output")
    bert_score_idf: bool = Field(False, description="whether BERTScore counts rare tokens more")
    resamples: int = Field(1000, ge=100, description="bootstrap resamples where an interval has no closed form")
    seed: int = Field(0, ge=0, description="seed of few-shot choice, sampled answers and the bootstrap")


def require_anything(*sources: object) -> None:
    """Refuse an evaluation of nothing. Raises `UserError`.

    Args:
        sources: the suite, the tasks, the held-out text; None where it was not given.
    """
    if all(source is None for source in sources):
        raise UserError("there is nothing to evaluate", where="tasks", fix="set suite or tasks, heldout, or both")
