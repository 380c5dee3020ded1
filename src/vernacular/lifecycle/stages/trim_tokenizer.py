"""`trim-tokenizer`: a tokenizer loses the pieces that the documents do not use."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.lifecycle.stage import TOKENIZERS, Reads, Stage, Workplace
from vernacular.tokens.configuration import TrimTokenizerConfiguration


class TrimTokenizer(Stage, TrimTokenizerConfiguration):
    """Keep the pieces that the curated documents use, and what these are made of."""

    do: Literal["trim-tokenizer"]
    tokenizer: Annotated[str, Reads("a tokenizer", made_by=TOKENIZERS)] = Field(
        description="the tokenizer to trim: a stage that makes one, or a folder with tokenizer.json"
    )
    documents: Annotated[str, Reads("curated documents", made_by=("curate",))] = Field(
        description="a curate stage, or its folder, with text of the languages that stay"
    )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Count, and write the smaller tokenizer."""
        from vernacular.tokens.trimming import trim_tokenizer

        inputs = workplace.inputs
        return trim_tokenizer(self, inputs["tokenizer"], inputs["documents"], workplace.folder)
