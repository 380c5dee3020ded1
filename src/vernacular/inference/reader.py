"""Text to tokens and back for a program that knows only token ids: a weights folder without its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError, no_folder
from vernacular.foundation.files import read_json_object
from vernacular.inference.encoding import TokenPair, encode_pairs, encode_prompts
from vernacular.models.language_model import Message
from vernacular.models.weights import check_has_tokenizer, stated_end_ids
from vernacular.tokens.template import TEMPLATE_FILE, ChatTemplate
from vernacular.tokens.tokenizer import CONFIG_FILE, Tokenizer


class Reader:
    """Tokenizer, chat template and end tokens of a weights folder; its tensors are not looked at.

    Attributes:
        tokenizer: the tokenizer.
        template: the chat template; None where the folder has none.
        end_ids: tokens that end an answer: the tokenizer's end token, and those that the folder names.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise no_folder("the weights folder does not exist", folder)
        check_has_tokenizer(folder)
        self.folder = folder
        self.tokenizer = Tokenizer.load(folder)
        has_template = (folder / TEMPLATE_FILE).is_file() or read_json_object(folder / CONFIG_FILE).get("chat_template")
        self.template = ChatTemplate.load(folder) if has_template else None
        self.end_ids = frozenset({self.tokenizer.end_id, *stated_end_ids(folder)})

    @property
    def template_hash(self) -> str:
        """Hash of the chat template, or "none"."""
        return self.template.hash if self.template is not None else "none"

    @property
    def _openings(self) -> Sequence[str]:
        """How a rendered chat begins, where the template's tags are plain text."""
        return () if self.template is None else self.template.openings

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each prompt, as our own engine reads it."""
        return encode_prompts(self.tokenizer, texts, openings=self._openings)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[TokenPair]:
        """Tokens of each context and continuation, as our own engine reads them."""
        return encode_pairs(self.tokenizer, pairs, openings=self._openings)

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Tokens of a conversation up to the answer; what the messages say is never read as a control token."""
        return self.need_template().encode(
            self.tokenizer, messages, tools=tools, documents=documents, add_generation_prompt=True
        )

    def need_template(self) -> ChatTemplate:
        """The chat template; refused where there is none."""
        if self.template is None:
            raise UserError(
                "these weights have no chat template (chat_template.jinja), so they cannot chat",
                where=self.folder,
                fix="use `generate`, or take the weights of a fine-tuning stage",
            )
        return self.template
