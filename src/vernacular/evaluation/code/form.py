"""How a benchmark's items become programs to try: its YAML's `code`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from vernacular.evaluation.code.trial import Question
from vernacular.evaluation.library.expressions import evaluated
from vernacular.foundation.configuration import Configuration

_BLOCK = re.compile(r"```[^\n]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_PARTS = ("program", "test", "entry_point", "helpers", "setup")


class FirstStep(Configuration):
    """What the model is asked beforehand; its answer becomes a field of the item."""

    field: str = Field(description="the new field's name")
    config: dict[str, Any] = Field(description="the harness's keys that differ from the task's")
    most_letters: str | None = Field(None, description="an expression: the answer is cut after so many characters")


class CodeForm(Configuration):
    """The parts of a trial, as expressions over the item's fields and `answer`, the model's code."""

    language: str = Field(description="a language of code/languages.yaml, or python")
    program: str = Field("answer", description="all that is built")
    test: str = Field(description="the tests")
    entry_point: str = Field(description="the function that is tested")
    helpers: str = Field("''", description="the benchmark's own code that the tests use")
    setup: str = Field("''", description="what stands before the tests in their file")
    answer: Literal["whole", "block"] = Field(
        "whole", description="the model's code: its whole answer, or the first fenced block in it, if there is one"
    )
    samples: int = Field(1, gt=0, description="answers to each item")
    first: FirstStep | None = Field(None, description="what is asked before")

    def code_of(self, response: str) -> str:
        """The code in an answer."""
        found = _BLOCK.search(response) if self.answer == "block" else None
        return response if found is None else found[1]

    def question(self, item: Mapping[str, Any], code: str) -> Question:
        """The trial of a model's code.

        Raises:
            ValueError: an expression does not fit the item; it is named.
        """
        parts = evaluated({name: getattr(self, name) for name in _PARTS}, {**item, "answer": code})
        return Question(**{name: str(value) for name, value in parts.items()})
