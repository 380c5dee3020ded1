"""`tokenize`: documents become token shards."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.lifecycle.stage import TOKENIZERS, Reads, Stage, Workplace
from vernacular.tokens.configuration import TokenizeConfiguration

TOKENIZER = "tokenizer"
"""Where, below its folder, a tokens artifact keeps the tokenizer it was made with."""


class Tokenize(Stage, TokenizeConfiguration):
    """Encode the curated documents; the shards carry the tokenizer they were made with."""

    do: Literal["tokenize"]
    documents: Annotated[str, Reads("curated documents", made_by=("curate",))] = Field(
        description="a curate stage, or its folder"
    )
    tokenizer: Annotated[str, Reads("a tokenizer", made_by=TOKENIZERS)] = Field(
        description="a stage that makes a tokenizer, or a folder with tokenizer.json"
    )

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Write the shards, and the tokenizer beside them."""
        from vernacular.tokens.template import ChatTemplate
        from vernacular.tokens.tokenization import tokenize_documents
        from vernacular.tokens.tokenizer import Tokenizer

        source, copy = workplace.inputs["tokenizer"], workplace.folder / TOKENIZER
        summary = tokenize_documents(self, workplace.inputs["documents"], source, workplace.folder)
        Tokenizer.load(source).save(copy)
        template = ChatTemplate.find(source)
        if template is not None:  # A base model's tokenizer may come without; conversations are refused then.
            template.save(copy)
        return summary
