"""`train-tokenizer`: documents give a tokenizer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.lifecycle.stage import Reads, Stage, Workplace
from vernacular.tokens.configuration import TokenizerConfiguration


class TrainTokenizer(Stage, TokenizerConfiguration):
    """Train a byte-level BPE on the curated documents."""

    do: Literal["train-tokenizer"]
    documents: Annotated[str, Reads("curated documents", made_by=("curate",))] = Field(
        description="a curate stage, or its folder"
    )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Train, and write the tokenizer."""
        from vernacular.tokens.training import train_tokenizer

        return train_tokenizer(self, workplace.inputs["documents"], workplace.folder)
