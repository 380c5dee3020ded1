"""The chat template: one object writes conversations for training, evaluation, serving and export.

It is a Jinja template with the surroundings that transformers gives it, so that both write the same text. It is not
trusted: what the messages say is followed through the rendering with a placeholder for each message, so that text of
a user never turns into a control token, and the loss mask is proven on each conversation, or the template is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import jinja2

from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import read_json, sha256_bytes, write_text
from vernacular.tokens.jinja import template_environment
from vernacular.tokens.tokenizer import CONFIG_FILE, Tokenizer

TEMPLATE_FILE = "chat_template.jinja"
ROLES = ("system", "user", "assistant", "tool")
Message = Mapping[str, str]

# Private-use characters round a number: no template writes them by itself, and trimming leaves them alone.
_PLACEHOLDER = "\ue000{}\ue001"
_PLACEHOLDERS = re.compile("\ue000([0-9]+)\ue001")


class ConversationError(UserError):
    """A conversation is at fault, not the template: a run may set it aside and go on."""


class Piece(NamedTuple):
    """A stretch of a rendered conversation: a control token, or text that is encoded by itself.

    `weight` is the loss weight of its tokens as targets.
    """

    text: str
    is_control: bool
    weight: float


class _Rendered(NamedTuple):
    """A rendered conversation and where each message's text stands in it, in characters."""

    text: str
    spans: list[tuple[int, int]]


class ChatTemplate:
    """A chat template and the special tokens it may name (`bos_token`, …)."""

    def __init__(self, source: str, *, special_names: Mapping[str, str] | None = None, name: str = "template") -> None:
        self.source = source
        self.name = name
        self._special_names = dict(special_names or {})
        try:
            self._template = template_environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"not a Jinja template: {error.message}", where=f"{name}:{error.lineno}") from error

    @classmethod
    def default(cls) -> ChatTemplate:
        """`<|begin|>`, then `<|role|>TEXT<|end|>` for each message; `<|assistant|>` invites the answer."""
        source = (files("vernacular.tokens") / "data" / "default.jinja").read_text(encoding="utf-8")
        return cls(source, name="the default template")

    @classmethod
    def load(cls, folder: str | Path) -> ChatTemplate:
        """Read a folder's template: `chat_template.jinja`, or `chat_template` in its `tokenizer_config.json`."""
        folder = Path(folder)
        config = read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
        special_names = {
            key: value["content"] if isinstance(value, dict) else value
            for key, value in config.items()
            if key.endswith("_token") and isinstance(value, str | dict)
        }
        path = folder / TEMPLATE_FILE
        if path.is_file():
            return cls(path.read_text(encoding="utf-8"), special_names=special_names, name=str(path))
        if isinstance(config.get("chat_template"), str):
            name = f"{folder / CONFIG_FILE} (chat_template)"
            return cls(config["chat_template"], special_names=special_names, name=name)
        raise UserError(
            f"no chat template: neither {TEMPLATE_FILE} nor the key chat_template in {CONFIG_FILE} is there",
            where=folder,
            fix=f"put a {TEMPLATE_FILE} beside the tokenizer",
        )

    def save(self, folder: str | Path) -> None:
        """Write `chat_template.jinja`."""
        write_text(Path(folder) / TEMPLATE_FILE, self.source)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the template's source."""
        return sha256_bytes(self.source.encode("utf-8"))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """The conversation as text, control tokens written out. For reading and hashing; `encode` gives the ids.

        Raises:
            UserError: a message is malformed, its role unknown, or the template refuses the conversation.
        """
        check_messages(messages)
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_names,
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise ConversationError(f"the template refuses the conversation: {error}", where=self.name) from error

    def encode(
        self, tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = False
    ) -> list[int]:
        """Ids of the rendered conversation. Control tokens come from the template, never from a message's text."""
        rendered = self._follow(messages, add_generation_prompt)
        return encode_pieces(tokenizer, [list(self._pieces(tokenizer, rendered, messages))])[0][0]

    def encode_for_training(self, tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[float]]:
        """Ids of a conversation and the loss weight of each as a target.

        The weight is 1 on each assistant message's text and on the end token after it, 0 elsewhere.

        Raises:
            UserError: the conversation does not end with an assistant's message, one of them is empty, or the
                template cannot be masked (see `training_pieces`).
        """
        return encode_pieces(tokenizer, [self.training_pieces(tokenizer, messages)])[0]

    def training_pieces(self, tokenizer: Tokenizer, messages: Sequence[Message]) -> list[Piece]:
        """The conversation in pieces with their loss weights, proven to be what generation will see.

        For each assistant message, the prompt (the messages before it, rendered with the generation prompt) must be
        how the whole conversation begins; the message's text must follow at once, and the end token after it.
        """
        rendered = self._follow(messages, add_generation_prompt=False)
        if not messages or messages[-1]["role"] != "assistant":
            raise ConversationError(
                "the conversation does not end with a message of the assistant", fix="drop the messages after its last"
            )
        for number, (message, (start, stop)) in enumerate(zip(messages, rendered.spans, strict=True)):
            if message["role"] != "assistant":
                continue
            if start == stop:
                raise ConversationError(
                    f"message {number + 1}, of the assistant, is empty", fix="give it text, or leave it out"
                )
            prompt = self.render(messages[:number], add_generation_prompt=True)
            if rendered.text[:start] != prompt:
                raise self._unmaskable(
                    f"the prompt for message {number + 1} ({_tail(prompt)}) is not how the conversation begins before"
                    f" that message ({_tail(rendered.text[:start])})"
                )
            if not rendered.text.startswith(tokenizer.end_token, stop):
                after = rendered.text[stop : stop + 20]
                raise self._unmaskable(f"message {number + 1} is followed by {after!r}, not by {tokenizer.end_token}")
        return list(self._pieces(tokenizer, rendered, messages))

    def _unmaskable(self, reason: str) -> UserError:
        return UserError(
            f"the template cannot be masked: {reason}",
            where=self.name,
            fix="write the template so that the generation prompt is exactly what stands before an assistant's text,"
            " and the end token exactly what follows it",
        )

    def _follow(self, messages: Sequence[Message], add_generation_prompt: bool) -> _Rendered:
        """Render, and find each message's text by rendering once more with placeholders in place of the texts."""
        text = self.render(messages, add_generation_prompt)
        stand_ins = [{**message, "content": _PLACEHOLDER.format(n)} for n, message in enumerate(messages)]
        literals = _PLACEHOLDERS.split(self.render(stand_ins, add_generation_prompt))
        if literals[1::2] != [str(number) for number in range(len(messages))]:
            raise UserError(
                "the template does not write each message's text once, in order, so its text cannot be followed",
                where=self.name,
                fix="write every message's content exactly once",
            )
        spans: list[tuple[int, int]] = []
        position = 0
        for number, (literal, message) in enumerate(zip(literals[0:-1:2], messages, strict=True)):
            start = position + len(literal)
            following = literals[2 * number + 2]
            for written in (message["content"], message["content"].strip()):
                if text.startswith(literal + written + following, position):
                    break
            else:
                raise UserError(
                    f"the template alters the text of message {number + 1} by more than trimming its ends",
                    where=self.name,
                    fix="write the content as it is",
                )
            position = start + len(written)
            spans.append((start, position))
        if len(text) != position + len(literals[-1]):
            raise UserError("the template writes more for these texts than for others", where=self.name)
        return _Rendered(text, spans)

    def _pieces(self, tokenizer: Tokenizer, rendered: _Rendered, messages: Sequence[Message]) -> Iterator[Piece]:
        """Cut at control tokens written by the template, and where an assistant's text begins and ends.

        The latter cut makes the prompt's ids the same in training as in generation, whatever the template writes
        before the text. Other texts are encoded together with the template's words round them, as transformers does.
        """
        pending, position, weight = "", 0, 0.0
        for message, (start, stop) in zip([*messages, None], [*rendered.spans, (len(rendered.text),) * 2], strict=True):
            for part, is_control in _cut_at_controls(tokenizer, rendered.text[position:start]):
                if not is_control:
                    pending += part
                    continue
                if pending:
                    yield Piece(pending, False, 0.0)
                yield Piece(part, True, weight)
                pending, weight = "", 0.0
            position = stop
            if message is not None and message["role"] == "assistant":
                if pending:
                    yield Piece(pending, False, 0.0)
                pending, weight = "", 1.0
                yield Piece(rendered.text[start:stop], False, 1.0)
            else:
                pending += rendered.text[start:stop]
        if pending:
            yield Piece(pending, False, 0.0)


def encode_pieces(
    tokenizer: Tokenizer, conversations: Sequence[Sequence[Piece]]
) -> list[tuple[list[int], list[float]]]:
    """Ids and loss weights of conversations in pieces, all texts encoded in one batch on all cores."""
    texts = [piece.text for pieces in conversations for piece in pieces if not piece.is_control]
    encoded = iter(tokenizer.encode_batch(texts))
    result = []
    for pieces in conversations:
        ids: list[int] = []
        weights: list[float] = []
        for piece in pieces:
            piece_ids = [tokenizer.control_tokens[piece.text].id] if piece.is_control else next(encoded)
            ids += piece_ids
            weights += [piece.weight] * len(piece_ids)
        result.append((ids, weights))
    return result


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse messages that are not {"role", "content"} with a known role and real text."""
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping):
            raise ConversationError(f"message {number} is not a mapping with role and content")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise ConversationError(f"message {number} has no text under '{key}'", fix=f'give it a "{key}"')
        if message["role"] not in ROLES:
            problem = unknown_name("role", message["role"], ROLES)
            raise ConversationError(f"{problem.message} in message {number}", fix=problem.fix)
        try:
            message["content"].encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConversationError(
                f"message {number} holds half a surrogate pair, which is not a character",
                fix="repair the text's encoding",
            ) from error


def _cut_at_controls(tokenizer: Tokenizer, literal: str) -> Iterator[tuple[str, bool]]:
    controls = tokenizer.control_tokens
    longest_first = sorted(controls, key=len, reverse=True)
    cut = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", literal) if controls else [literal]
    for number, part in enumerate(cut):
        is_control = number % 2 == 1
        if is_control and controls[part].swallows_blanks:
            raise UserError(
                f"the special token {part} swallows the blanks beside it, so the text round it would not come back",
                where=f"{tokenizer.where}/tokenizer.json (added_tokens)",
                fix="set lstrip and rstrip of the token to false",
            )
        if part:
            yield part, is_control


def _tail(text: str) -> str:
    return repr(text[-40:]) if len(text) <= 40 else "…" + repr(text[-40:])
