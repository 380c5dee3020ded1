"""`change-tokenizer`: weights get another tokenizer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vernacular.lifecycle.stage import TOKENIZERS, WEIGHTS, Reads, Stage, Workplace
from vernacular.models.configuration import ChangeTokenizerConfiguration


class ChangeTokenizer(Stage, ChangeTokenizerConfiguration):
    """Keep the rows of the tokens that both tokenizers have, and make rows for new ones."""

    do: Literal["change-tokenizer"]
    weights: Annotated[str, Reads("weights", made_by=WEIGHTS)] = Field(
        description="a stage that makes weights, or a weights folder"
    )
    tokenizer: Annotated[str, Reads("a tokenizer", made_by=TOKENIZERS)] = Field(
        description="the new tokenizer: a stage that makes one, or a folder with tokenizer.json"
    )

    def outside_files(self) -> list[str]:
        """The files that new rows come from."""
        return [path for path in (self.vectors, self.rows) if path is not None]

    def execute(self, workplace: Workplace) -> dict[str, Any]:
        """Write the weights."""
        from vernacular.models.tokenizer_change import change_tokenizer

        return change_tokenizer(self, workplace.inputs["weights"], workplace.inputs["tokenizer"], workplace.folder)
