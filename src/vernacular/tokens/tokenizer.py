"""The tokenizer: text to token ids and back, exactly. A folder in Hugging Face layout holds it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any, Literal

import tokenizers
import tokenizers.models

from vernacular.foundation.errors import UserError, nearest
from vernacular.foundation.files import sha256_bytes, write_bytes
from vernacular.tokens.sections import Scheme, falls_back_to_bytes, prefix_scheme, sealed, without_prefix
from vernacular.tokens.tokenizer_files import (
    CONFIG_FILE as CONFIG_FILE,  # it belongs to the surface of this module
)
from vernacular.tokens.tokenizer_files import (
    TOKENIZER_FILE,
    build_engine,
    read_contents,
    read_settings,
    special_names,
)

Follows = Literal["nothing", "control", "text"]
_HALF_PAIR = re.compile("[\ud800-\udfff]")


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
        self._settings = read_settings(contents)
        self._engine = build_engine(contents, self._settings, self.where)
        self._engine.encode_special_tokens = True

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a folder: `tokenizer.json`, `tokenizer_config.json` and, if there, `special_tokens_map.json`.

        A SentencePiece `tokenizer.model` stands in for a missing `tokenizer.json`; see `tokens.sentencepiece`.
        """
        return cls(read_contents(Path(folder)), where=folder)

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files, byte for byte as they were read (or made of a SentencePiece model)."""
        for name, content in self._contents.items():
            write_bytes(Path(folder) / name, content)

    @cached_property
    def _reading_special(self) -> tokenizers.Tokenizer:
        return build_engine(self._contents, self._settings, self.where)

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """Reads any text as text. The unknown token stays within reach: it is what unknown characters become."""
        model = self._engine.model
        of_unigram = self.special_names.get("unk_token") if isinstance(model, tokenizers.models.Unigram) else None
        unknown = getattr(model, "unk_token", of_unigram)
        return sealed(self._engine, {text: token.id for text, token in self.control_tokens.items() if text != unknown})

    @cached_property
    def _prefix_scheme(self) -> Scheme:
        return prefix_scheme(self._engine)

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        return without_prefix(self._plain)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `tokenizer.json`."""
        return sha256_bytes(self._contents[TOKENIZER_FILE])

    @cached_property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included; every id is below it."""
        vocabulary = self._engine.get_vocab(with_added_tokens=True)
        return max(vocabulary.values()) + 1

    # ------------------------------------------------------------------------------------------ special tokens

    @cached_property
    def control_tokens(self) -> dict[str, ControlToken]:
        """The special tokens by their text."""
        return {
            added.content: ControlToken(added.content, token_id, bool(added.lstrip or added.rstrip))
            for token_id, added in self._engine.get_added_tokens_decoder().items()
            if added.special
        }

    @cached_property
    def control_pattern(self) -> re.Pattern[str] | None:
        """Matches any control token's text, the longest first, as one group; None where there are none."""
        longest_first = sorted(self.control_tokens, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

    @cached_property
    def special_names(self) -> dict[str, str]:
        """`bos_token`, `eos_token`, `pad_token`, … as the folder's configuration names them."""
        return special_names(self._settings)

    @cached_property
    def begin_ids(self) -> tuple[int, ...]:
        """What is put before every document and prompt: what a plain `tokenizer(text)` of transformers puts first.

        Empty where nothing is (Granite). The post-processor of `tokenizer.json` decides; like transformers, we do not
        look at the settings `add_bos_token` and `add_eos_token` where there is that file.
        """
        encodings = (self._engine.encode(text) for text in "a0 ")
        encoding = next((one for one in encodings if 0 in one.special_tokens_mask), None)
        if encoding is None:
            return ()
        marked = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return tuple(token_id for token_id, _ in takewhile(lambda pair: pair[1], marked))

    @property
    def begin_token(self) -> str:
        """Text of the token with `begin_id`."""
        return self._named("bos_token" if "bos_token" in self.special_names else "eos_token")

    @property
    def end_token(self) -> str:
        """Text of the token that ends every document and every turn."""
        return self._named("eos_token")

    @cached_property
    def begin_id(self) -> int:
        """Id of the token that stands for an empty context: the begin token, or the end token where none is named.

        It is lm-evaluation-harness's prefix token. `encode(begin=True)` puts `begin_ids`, which may be empty.
        """
        return self.token_id(self.begin_token)

    @cached_property
    def end_id(self) -> int:
        """Id of the token that ends every document and every turn."""
        return self.token_id(self.end_token)

    @cached_property
    def pad_id(self) -> int:
        """Id that fills rows up: the pad token, or the end token where none is named. Padding is masked everywhere."""
        return self.token_id(self.special_names.get("pad_token", self.end_token))

    def named_id(self, key: str) -> int | None:
        """Id of `bos_token`, `eos_token`, `pad_token`, …; None where the tokenizer names none."""
        return self.token_id(self.special_names[key]) if key in self.special_names else None

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
        found = self._engine.token_to_id(token)
        if found is None:
            close = nearest(token, self.control_tokens)
            fix = f"did you mean '{close}'?" if close else None
            raise UserError(f"the token '{token}' is not in the vocabulary", where=self.where, fix=fix)
        return int(found)

    def token_text(self, token_id: int) -> str | None:
        """The token as the vocabulary writes it (bytes in byte-level form), None for an id that stands for none."""
        found: Any = self._engine.id_to_token(token_id)
        return found

    # ------------------------------------------------------------------------------------------ there and back

    def encode(self, text: str, *, begin: bool = False, end: bool = False, special: bool = False) -> list[int]:
        """As `encode_batch`, for one text."""
        return self.encode_batch([text], begin=begin, end=end, special=special)[0]

    def encode_batch(
        self, texts: Sequence[str], *, begin: bool = False, end: bool = False, special: bool = False
    ) -> list[list[int]]:
        """Ids of each text, on all cores.

        Args:
            texts: any Unicode.
            begin: put `begin_ids` first, unless the ids already start with them.
            end: put the end token last.
            special: read special tokens written in the text as such. Never for text from outside.

        Raises:
            UserError: a text holds a lone surrogate, which is no character and has no UTF-8 form.
        """
        batch = _encode(self._reading_special if special else self._plain, texts)
        if begin and self.begin_ids:
            first = list(self.begin_ids)
            for ids in batch:
                if ids[: len(first)] != first:
                    ids[:0] = first
        if end:
            for ids in batch:
                ids.append(self.end_id)
        return batch

    def encode_parts(self, texts: Sequence[str], follows: Sequence[Follows]) -> list[list[int]]:
        """Ids of texts that are parts of greater ones.

        Args:
            texts: any Unicode; special tokens in them are text.
            follows: what stands before each: `nothing`, a `control` token, or other `text`. A tokenizer that puts a
                blank before a text (SentencePiece's dummy prefix) puts it as it would in the whole.
        """
        if self._prefix_scheme == "none":
            return _encode(self._plain, texts)
        with_prefix = ("nothing", "control") if self._prefix_scheme == "always" else ("nothing",)
        starts = [before in with_prefix for before in follows]
        encoded = {
            start: iter(_encode(engine, [text for text, own in zip(texts, starts, strict=True) if own is start]))
            for start, engine in ((True, self._plain), (False, self._continuing))
        }
        return [next(encoded[start]) for start in starts]

    def cuts(self, text: str) -> tuple[str, frozenset[int]]:
        """The text as the normaliser writes it, and where the pre-tokenizer cuts it: no token reaches across a cut."""
        written = self._engine.normalizer.normalize_str(text) if self._engine.normalizer else text
        if self._engine.pre_tokenizer is None:
            return written, frozenset()
        pieces = self._engine.pre_tokenizer.pre_tokenize_str(written)
        return written, frozenset(start for _, (start, _) in pieces)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of `ids`; special tokens are left out, or written out. Bytes that are no UTF-8 become U+FFFD.

        Byte tokens of a byte fallback are read as SentencePiece reads them: whole characters among broken bytes stay
        characters, so that what was streamed never has to be taken back. (The library gives up on all of their run.)
        """
        text = str(self._engine.decode(list(ids), skip_special_tokens=skip_special))
        if not self._byte_tokens:
            return text
        left_out = {token.id for token in self.control_tokens.values()} if skip_special else set()
        first = next((token_id for token_id in ids if token_id not in left_out), None)
        # A blank that is a byte is not the one that SentencePiece puts before a text: it stays.
        keeps_blank = first is not None and self._byte_tokens.get(self.token_text(first) or "") == ord(" ")
        if "\ufffd" not in text and not keeps_blank:
            return text
        tokens = [self.token_text(token_id) or "" for token_id in ids if token_id not in left_out]
        joined: list[str] = []
        for is_bytes, run in groupby(tokens, key=self._byte_tokens.__contains__):
            texts = list(run)
            joined += [_characters(bytes(map(self._byte_tokens.__getitem__, texts)))] if is_bytes else texts
        before = ["|"] if keeps_blank else []
        return str(self._engine.decoder.decode([*before, *joined]))[len(before) :]

    @cached_property
    def _byte_tokens(self) -> dict[str, int]:
        """The byte of each token of a byte fallback; none where the tokenizer has no such thing."""
        written = {f"<0x{byte:02X}>": byte for byte in range(256)}
        return written if falls_back_to_bytes(self._engine) else {}


def _characters(content: bytes) -> str:
    """UTF-8 as text, U+FFFD for each byte that is none."""
    return _HALF_PAIR.sub("\ufffd", content.decode("utf-8", errors="surrogateescape"))


def _encode(engine: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    try:
        encodings = engine.encode_batch_fast(list(texts), add_special_tokens=False)
    except TypeError as error:  # what the library makes of a string without a UTF-8 form
        if not any(_HALF_PAIR.search(text) for text in texts):
            raise
        raise UserError(
            "the text holds half a surrogate pair, which is not a character", fix="repair the text's encoding"
        ) from error
    return [encoding.ids for encoding in encodings]
