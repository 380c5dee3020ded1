"""`extend-tokenizer`: a tokenizer gets pieces for a new language; old text keeps its ids."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.lifecycle.stage import TOKENIZERS, Reads, Stage, Workplace
from vernacular.tokens.configuration import ExtendTokenizerConfiguration


class ExtendTokenizer(Stage, ExtendTokenizerConfiguration):
    """Learn new pieces on the curated documents and put them behind the old ones."""

    do: Literal["extend-tokenizer"]
    tokenizer: Annotated[str, Reads("a tokenizer", made_by=TOKENIZERS)] = Field(
        description="the tokenizer to extend: a stage that makes one, or a folder with tokenizer.json"
    )
    documents: Annotated[str, Reads("curated documents", made_by=("curate",))] = Field(
        description="a curate stage, or its folder, with text of the new language"
    )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Learn, and write the extended tokenizer."""
        from vernacular.tokens.extension import extend_tokenizer

        inputs = workplace.inputs
        return extend_tokenizer(self, inputs["tokenizer"], inputs["documents"], workplace.folder)
