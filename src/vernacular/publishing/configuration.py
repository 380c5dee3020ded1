"""What a recipe can set about a release: the words that no record can supply."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, model_validator

from vernacular.foundation.configuration import Configuration

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_ONE_LINE = ("title", "licence", "contact", "repository")
_NEEDED = ("title", "licence", "description", "intended_use", "limitations")


class PublishConfiguration(Configuration):
    """The author's part of a model card. Numbers are never written here: they come from the records."""

    title: str = Field(description="the model's name, the card's heading")
    licence: str = Field(description="licence of the weights: an SPDX identifier (apache-2.0) or a name")
    description: str = Field(description="what the model is and whom it is for, in a few sentences (Markdown)")
    intended_use: str = Field(description="what it may be used for, and what not (Markdown)")
    limitations: str = Field(description="what it cannot do, where it goes wrong (Markdown)")
    authors: tuple[str, ...] = Field((), description="who made it")
    contact: str | None = Field(None, description="where questions go: an address or a URL")
    repository: str | None = Field(
        None, description="its name on a hub (owner/name), for the usage example (default: the folder itself)"
    )
    languages: tuple[str, ...] | None = Field(
        None, description="ISO 639 codes (default: the languages of the training data)"
    )
    example: str | None = Field(
        None, description="the prompt of the usage example (default: one in the model's first language)"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        for key in _NEEDED:
            if not getattr(self, key).strip():
                raise ValueError(f"{key} is empty; a card without it helps nobody")
        for key in _ONE_LINE:
            if "\n" in (getattr(self, key) or ""):
                raise ValueError(f"{key} has several lines; make it one")
        for code in self.languages or ():
            if not _LANGUAGE.fullmatch(code):
                raise ValueError(f"'{code}' is not an ISO 639 code; write for example hi, pl or mai")
        if self.languages == ():
            raise ValueError("languages is empty; leave it out to take them from the training data")
        return self
