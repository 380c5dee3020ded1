"""The chat template: one object writes conversations for training, evaluation, serving and export.

It is a Jinja template with the surroundings that transformers gives it, so that both write the same text. It is not
trusted: what the messages say is followed through the rendering with placeholders, so that text of a user never turns
into a control token, and the loss mask is proven on each conversation, or the template is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import jinja2
import yaml
from jinja2 import meta

from vernacular.foundation.errors import UserError, unknown_name
from vernacular.foundation.files import read_text, sha256_bytes, write_text
from vernacular.tokens.dialect import Dialect
from vernacular.tokens.following import Rendering, follow
from vernacular.tokens.jinja import template_environment
from vernacular.tokens.messages import ASSISTANT, ConversationError, Message, check_messages, said
from vernacular.tokens.pieces import Piece, cut_pieces, encode_pieces
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.tokenizer_files import CONFIG_FILE, folder_settings, special_names

TEMPLATE_FILE = "chat_template.jinja"
TOOLS_TEMPLATE_FILE = "additional_chat_templates/tool_use.jinja"


class ChatTemplate:
    """A chat template and the special tokens it may name (`bos_token`, …).

    Args:
        source: the Jinja template.
        special_names: the special tokens by the names templates give them.
        name: where it comes from, for errors.
        tool_use: another template, for conversations with tools; some folders have two.
    """

    def __init__(
        self,
        source: str,
        *,
        special_names: Mapping[str, str] | None = None,
        name: str = "template",
        tool_use: str | None = None,
    ) -> None:
        self.source = source
        self.name = name
        self.tool_use = tool_use
        self._special_names = dict(special_names or {})
        self._template = _compiled(source, name)
        self._template_with_tools = (
            _compiled(tool_use, f"{name} (tool_use)") if tool_use is not None else self._template
        )

    @classmethod
    def default(cls) -> ChatTemplate:
        """`<|begin|>`, then `<|role|>TEXT<|end|>` for each message; `<|assistant|>` invites the answer."""
        return cls.named("default")

    @staticmethod
    def known() -> dict[str, dict[str, str]]:
        """The published special tokens of each template that has a name, by the name."""
        text = (files("vernacular.tokens") / "templates" / "special_tokens.yaml").read_text(encoding="utf-8")
        return cast(dict[str, dict[str, str]], yaml.safe_load(text))

    @classmethod
    def named(cls, name: str, special_names: Mapping[str, str] | None = None) -> ChatTemplate:
        """A template of a published model: `granite-3.0`, `krutrim-1`, `krutrim-2`, `bielik-instruct`; or `default`.

        Param-1's is not public: its folder must bring its own.

        Args:
            name: the name.
            special_names: the special tokens of the tokenizer it is for (`Tokenizer.special_names`), where they are
                not the published ones. Krutrim-1's card does not say its end token, so there it is needed.
        """
        folder, known = files("vernacular.tokens") / "templates", cls.known()
        if name not in known:
            raise unknown_name("chat template", name, known)
        names = {**known[name], **(special_names or {})}
        source = (folder / f"{name}.jinja").read_text(encoding="utf-8")
        needed = meta.find_undeclared_variables(template_environment().parse(source)) & {"bos_token", "eos_token"}
        for missing in sorted(needed - names.keys()):
            raise UserError(
                f"the chat template '{name}' writes the tokenizer's {missing}, which is not given",
                where=f"chat template '{name}'",
                fix=f"give special_names of the tokenizer, with its {missing}",
            )
        return cls(source, special_names=names, name=f"the chat template '{name}'")

    @classmethod
    def load(cls, folder: str | Path) -> ChatTemplate:
        """Read a folder's template: `chat_template.jinja`, or `chat_template` in its `tokenizer_config.json`.

        The latter is a text, or a list of {"name", "template"} with a `default` and perhaps a `tool_use`. Beside
        `chat_template.jinja`, a second one for tools is `additional_chat_templates/tool_use.jinja`.
        """
        found = cls.find(folder)
        if found is None:
            raise UserError(
                f"no chat template: neither {TEMPLATE_FILE} nor the key chat_template in {CONFIG_FILE} is there",
                where=folder,
                fix=f"put a {TEMPLATE_FILE} beside the tokenizer",
            )
        return found

    @classmethod
    def find(cls, folder: str | Path) -> ChatTemplate | None:
        """As `load`; None where the folder has no template, as those of base models often have none."""
        folder = Path(folder)
        settings = folder_settings(folder)
        names = special_names(settings)
        path, tools_path = folder / TEMPLATE_FILE, folder / TOOLS_TEMPLATE_FILE
        if path.is_file():
            tool_use = read_text(tools_path) if tools_path.is_file() else None
            return cls(read_text(path), special_names=names, name=str(path), tool_use=tool_use)
        where = f"{folder / CONFIG_FILE} (chat_template)"
        found = _templates_by_name(settings.get("chat_template"), where)
        if found and "default" not in found:
            raise UserError(f"none of the chat templates ({', '.join(found)}) is named 'default'", where=where)
        if not found:
            return None
        return cls(found["default"], special_names=names, name=where, tool_use=found.get("tool_use"))

    def save(self, folder: str | Path) -> None:
        """Write `chat_template.jinja` and, if there is one for tools, that one too."""
        write_text(Path(folder) / TEMPLATE_FILE, self.source)
        if self.tool_use is not None:
            write_text(Path(folder) / TOOLS_TEMPLATE_FILE, self.tool_use)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the template's source; of both sources, one after the other, where there are two."""
        sources = self.source if self.tool_use is None else f"{self.source}\0{self.tool_use}"
        return sha256_bytes(sources.encode("utf-8"))

    # ------------------------------------------------------------------------------------------ how it writes

    @property
    def openings(self) -> tuple[str, ...]:
        """How a rendered conversation starts, up to its first message's text: with a system message, and without."""
        return self._dialect.openings

    @property
    def tool_call_marker(self) -> str | None:
        """What the assistant writes before the JSON of its tool calls; None where the template knows none."""
        return self._dialect.tool_call_marker

    @cached_property
    def _dialect(self) -> Dialect:
        return Dialect(lambda messages, prompt: self._write(messages, None, None, prompt))

    def _write(self, messages: list[dict[str, Any]], tools: Any, documents: Any, add_generation_prompt: bool) -> str:
        template = self._template_with_tools if tools is not None else self._template
        try:
            return template.render(
                messages=messages,
                tools=tools,
                documents=documents,
                add_generation_prompt=add_generation_prompt,
                **self._special_names,
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise ConversationError(f"the template refuses the conversation: {error}", where=self.name) from error

    # ------------------------------------------------------------------------------------------ conversations

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The conversation as text, control tokens written out. For reading and hashing; `encode` gives the ids.

        Args:
            messages: {"role", "content"}, or an assistant's with `tool_calls` in OpenAI's shape.
            add_generation_prompt: end with what invites the assistant's answer.
            tools: the tools that may be called, as JSON schemas.
            documents: what the answer shall rest on; each {"text", …}.

        Raises:
            UserError: a message is malformed, its role unknown, the template refuses the conversation, or it has no
                place for tools, tool calls or documents that are given.
        """
        asked, tools, documents = self._prepared(messages, tools, documents)
        return self._write(asked, tools, documents, add_generation_prompt)

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Ids of the rendered conversation. Control tokens come from the template, never from a given text."""
        asked, tools, documents = self._prepared(messages, tools, documents)
        rendered = self._follow(asked, tools, documents, add_generation_prompt)
        return encode_pieces(tokenizer, [list(cut_pieces(tokenizer, rendered, asked, self._dialect.lead))])[0][0]

    def encode_for_training(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> tuple[list[int], list[float]]:
        """Ids of a conversation and the loss weight of each as a target.

        The weight is 1 on each assistant message's text and on the end token after it, 0 elsewhere.

        Raises:
            UserError: the conversation does not end with an assistant's message, one of them is empty, or the
                template cannot be masked (see `training_pieces`).
        """
        return encode_pieces(tokenizer, [self.training_pieces(tokenizer, messages, tools=tools, documents=documents)])[
            0
        ]

    def training_pieces(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Piece]:
        """The conversation in pieces with their loss weights, proven to be what generation will see.

        For each assistant message, the prompt (the messages before it, rendered with the generation prompt) must be
        how the whole conversation begins; the message's text must follow at once, and the end token after it. Between
        prompt and text only a blank or, for tool calls, their marker may stand; it is trained on like the text.
        """
        asked, tools, documents = self._prepared(messages, tools, documents)
        rendered = self._follow(asked, tools, documents, add_generation_prompt=False)
        if not asked or asked[-1]["role"] not in ASSISTANT:
            raise ConversationError(
                "the conversation does not end with a message of the assistant", fix="drop the messages after its last"
            )
        for start, stop, number in rendered.spans:
            if number is None or asked[number]["role"] not in ASSISTANT:
                continue
            if start == stop:
                raise ConversationError(
                    f"message {number + 1}, of the assistant, is empty", fix="give it text, or leave it out"
                )
            begun = rendered.text[: start - len(self._dialect.lead(asked[number]))]
            prompt = self._write(asked[:number], tools, documents, add_generation_prompt=True)
            if begun != prompt:
                raise self._unmaskable(
                    f"the prompt for message {number + 1} ({_tail(prompt)}) is not how the conversation begins before"
                    f" that message ({_tail(begun)})"
                )
            if not rendered.text.startswith(tokenizer.end_token, stop):
                after = rendered.text[stop : stop + 20]
                raise self._unmaskable(f"message {number + 1} is followed by {after!r}, not by {tokenizer.end_token}")
        return list(cut_pieces(tokenizer, rendered, asked, self._dialect.lead))

    def _unmaskable(self, reason: str) -> UserError:
        return UserError(
            f"the template cannot be masked: {reason}",
            where=self.name,
            fix="write the template so that the generation prompt is exactly what stands before an assistant's text,"
            " and the end token exactly what follows it",
        )

    # ------------------------------------------------------------------------------------------ within

    def _prepared(
        self, messages: Sequence[Message], tools: Any, documents: Any
    ) -> tuple[list[dict[str, Any]], Any, Any]:
        """Messages in the roles that this template knows, with their texts as content; all the rest as JSON data."""
        check_messages(messages)
        asked = [self._in_its_words(message, number) for number, message in enumerate(messages, start=1)]
        tools, documents = _as_data(tools, "tools"), _as_data(documents, "documents")
        if tools is not None and not self._depends_on(asked, (tools, documents), (None, documents)):
            raise self._no_place("tools")
        if documents is not None and not self._depends_on(asked, (tools, documents), (tools, None)):
            raise self._no_place("documents")
        return asked, tools, documents

    def _depends_on(self, asked: list[dict[str, Any]], given: tuple[Any, Any], less: tuple[Any, Any]) -> bool:
        try:
            without = self._write(asked, *less, False)
        except ConversationError:
            return True
        return self._write(asked, *given, False) != without

    def _no_place(self, what: str) -> UserError:
        return UserError(
            f"the template has no place for {what}",
            where=self.name,
            fix=f"leave {what} out, or use a model whose template writes them",
        )

    def _in_its_words(self, message: Message, number: int) -> dict[str, Any]:
        rest = {
            key: _as_data(value, f"message {number}")
            for key, value in message.items()
            if key not in ("role", "content", "tool_calls")
        }
        role = message["role"]
        if message.get("tool_calls"):
            role = "assistant_tool_call"
        if role == "assistant_tool_call" and self.tool_call_marker is None:
            raise ConversationError(
                f"the template has no place for the tool calls of message {number}",
                where=self.name,
                fix="leave them out, or use a model whose template writes tool calls",
            )
        if role == "tool" and self._dialect.tool_role is not None:
            role = self._dialect.tool_role
        return {**rest, "role": role, "content": said(message, number)}

    def _follow(self, asked: Sequence[Message], tools: Any, documents: Any, add_generation_prompt: bool) -> Rendering:
        def write(messages: list[dict[str, Any]], tools: Any, documents: Any) -> str:
            return self._write(messages, tools, documents, add_generation_prompt)

        return follow(write, asked, tools, documents, self.name)


def _compiled(source: str, name: str) -> jinja2.Template:
    try:
        return template_environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"not a Jinja template: {error.message}", where=f"{name}:{error.lineno}") from error


def _templates_by_name(written: Any, where: str) -> dict[str, str]:
    """The key `chat_template`: a text, a list of {"name", "template"}, or nothing."""
    if written is None:
        return {}
    if isinstance(written, str):
        return {"default": written}
    try:
        return {str(one["name"]): str(one["template"]) for one in written}
    except (TypeError, KeyError) as error:
        raise UserError(
            "chat_template is neither a text nor a list of named ones",
            where=where,
            fix='write a text, or [{"name": "default", "template": …}, …]',
        ) from error


def _as_data(given: Any, what: str) -> Any:
    """JSON data, and nothing else, goes to the template; an empty list counts as none."""
    try:
        data = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConversationError(
            f"{what}: not JSON data: {error}", fix="give lists, mappings, texts and numbers"
        ) from error
    return None if data == [] else data


def _tail(text: str) -> str:
    return repr(text[-40:]) if len(text) <= 40 else "…" + repr(text[-40:])
