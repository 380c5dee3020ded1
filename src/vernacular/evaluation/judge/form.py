"""A task whose answers a judge grades: its YAML's `judge`, and what a run is asked to do."""

from __future__ import annotations

from pydantic import Field

from vernacular.foundation.configuration import Configuration


class JudgeForm(Configuration):
    """Where a conversation's parts are in an item."""

    turns: str = Field("turns", description="the field with the user's questions, one or two")
    category: str = Field("category", description="the field with the category, which decides the temperature")
    identifier: str = Field("question_id", description="the field that references name a question by")
    references: str = Field("reference", description="the split with reference answers, as identifier and turns")
