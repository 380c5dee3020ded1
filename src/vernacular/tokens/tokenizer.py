"""The tokenizer: text to token ids and back, exactly. A folder in Hugging Face layout holds it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from vernacular.foundation.errors import UserError, nearest
from vernacular.foundation.files import read_json, sha256_bytes, write_bytes

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
MAP_FILE = "special_tokens_map.json"
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_COPIED_FILES = (TOKENIZER_FILE, CONFIG_FILE, MAP_FILE)


@dataclass(frozen=True)
class ControlToken:
    """A special token: its text, its id, and whether it swallows the blanks beside it."""

    text: str
    id: int
    swallows_blanks: bool


class Tokenizer:
    """Text to ids and back.

    Special tokens written in a text are text, not commands: `encode` cuts them into ordinary tokens, unless it is
    told `special=True`. Only templates and stored prompts, whose control tokens are ours, may be read that way.
    """

    def __init__(self, contents: dict[str, bytes], *, where: str | Path = "tokenizer") -> None:
        """Build from the files' contents by name; `tokenizer.json` and `tokenizer_config.json` must be among them."""
        self._contents = contents
        self.where = str(where)
        self._config = json.loads(contents[CONFIG_FILE])
        if MAP_FILE in contents:
            self._config = {**json.loads(contents[MAP_FILE]), **self._config}
        self._plain = self._engine()
        self._plain.encode_special_tokens = True

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a folder: `tokenizer.json`, `tokenizer_config.json` and, if there, `special_tokens_map.json`."""
        folder = Path(folder)
        for name in (TOKENIZER_FILE, CONFIG_FILE):
            if not (folder / name).is_file():
                raise UserError(
                    f"no tokenizer: {name} is missing",
                    where=folder,
                    fix="name the folder that a stage `tokenizer` wrote, or put the tokenizer's files there",
                )
        present = [name for name in _COPIED_FILES if (folder / name).is_file()]
        for name in present:
            read_json(folder / name)  # refuses what is not JSON, naming the line
        return cls({name: (folder / name).read_bytes() for name in present}, where=folder)

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files, byte for byte as they were read."""
        for name, content in self._contents.items():
            write_bytes(Path(folder) / name, content)

    def _engine(self) -> tokenizers.Tokenizer:
        try:
            engine = tokenizers.Tokenizer.from_str(self._contents[TOKENIZER_FILE].decode("utf-8"))
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise UserError(f"not a tokenizer of the tokenizers library: {error}", where=self.where) from error
        engine.no_truncation()
        engine.no_padding()
        return engine

    @cached_property
    def _reading_special(self) -> tokenizers.Tokenizer:
        return self._engine()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `tokenizer.json`."""
        return sha256_bytes(self._contents[TOKENIZER_FILE])

    @cached_property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included; every id is below it."""
        vocabulary = self._plain.get_vocab(with_added_tokens=True)
        return max(vocabulary.values()) + 1

    @cached_property
    def control_tokens(self) -> dict[str, ControlToken]:
        """The special tokens by their text."""
        return {
            added.content: ControlToken(added.content, token_id, bool(added.lstrip or added.rstrip))
            for token_id, added in self._plain.get_added_tokens_decoder().items()
            if added.special
        }

    @cached_property
    def special_names(self) -> dict[str, str]:
        """`bos_token`, `eos_token`, `pad_token`, … as the folder's configuration names them."""
        return {
            key: value["content"] if isinstance(value, dict) else value
            for key, value in self._config.items()
            if key.endswith("_token") and isinstance(value, str | dict)
        }

    @property
    def begin_token(self) -> str:
        """Text of the token that begins every document and prompt."""
        return self._named("bos_token")

    @property
    def end_token(self) -> str:
        """Text of the token that ends every document and every turn."""
        return self._named("eos_token")

    @cached_property
    def begin_id(self) -> int:
        """Id of the token that begins every document and prompt."""
        return self.token_id(self.begin_token)

    @cached_property
    def end_id(self) -> int:
        """Id of the token that ends every document and every turn."""
        return self.token_id(self.end_token)

    @cached_property
    def pad_id(self) -> int:
        """Id that fills rows up: the pad token, or the end token where none is named. Padding is masked everywhere."""
        return self.token_id(self.special_names.get("pad_token", self.end_token))

    def _named(self, key: str) -> str:
        if key not in self.special_names:
            raise UserError(
                f"the tokenizer names no {key}",
                where=f"{self.where}/{CONFIG_FILE} ({key})",
                fix=f"set {key} to one of its special tokens: {', '.join(self.control_tokens) or 'it has none'}",
            )
        return self.special_names[key]

    def token_id(self, token: str) -> int:
        """Id of a token by its text; one that is not in the vocabulary is refused, naming the nearest special token."""
        found = self._plain.token_to_id(token)
        if found is None:
            close = nearest(token, self.control_tokens)
            fix = f"did you mean '{close}'?" if close else None
            raise UserError(f"the token '{token}' is not in the vocabulary", where=self.where, fix=fix)
        return int(found)

    def encode(self, text: str, *, begin: bool = False, end: bool = False, special: bool = False) -> list[int]:
        """As `encode_batch`, for one text."""
        return self.encode_batch([text], begin=begin, end=end, special=special)[0]

    def encode_batch(
        self, texts: Sequence[str], *, begin: bool = False, end: bool = False, special: bool = False
    ) -> list[list[int]]:
        """Ids of each text, on all cores.

        Args:
            texts: any Unicode.
            begin: put the begin token first, unless the ids already start with it.
            end: put the end token last.
            special: read special tokens written in the text as such. Never for text from outside.

        Raises:
            UserError: a text holds a lone surrogate, which is no character and has no UTF-8 form.
        """
        engine = self._reading_special if special else self._plain
        try:
            encodings = engine.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError as error:  # what the library makes of a string without a UTF-8 form
            if not any(_HALF_PAIR.search(text) for text in texts):
                raise
            raise UserError(
                "the text holds half a surrogate pair, which is not a character", fix="repair the text's encoding"
            ) from error
        batch: list[list[int]] = [encoding.ids for encoding in encodings]
        if begin:
            batch = [ids if ids[:1] == [self.begin_id] else [self.begin_id, *ids] for ids in batch]
        if end:
            batch = [[*ids, self.end_id] for ids in batch]
        return batch

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of `ids`; special tokens are left out, or written out. Bytes that are no UTF-8 become U+FFFD."""
        return str(self._plain.decode(list(ids), skip_special_tokens=skip_special))

    def token_text(self, token_id: int) -> str | None:
        """The token as the vocabulary writes it (bytes in byte-level form), None for an id that stands for none."""
        found: Any = self._plain.id_to_token(token_id)
        return found
