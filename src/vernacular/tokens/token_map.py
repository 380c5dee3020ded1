"""Which old tokens a new token stands for, where one tokenizer takes the place of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import write_json
from vernacular.tokens.byte_pairs import BytePairs
from vernacular.tokens.token_bytes import Writing, token_bytes, writing_of
from vernacular.tokens.tokenizer import Tokenizer

FILE = "token_map.json"
_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class TokenMap:
    """What each id of a new tokenizer was in the old one.

    Attributes:
        old_hash: SHA-256 of the old `tokenizer.json`.
        new_hash: of the new one.
        old_size: ids of the old tokenizer.
        new_size: ids of the new one; an id that stands for no token is in neither mapping.
        kept: the old id of each token that both have, by its new id.
        pieces: the old ids that spell each token that only the new one has, by its new id.
    """

    old_hash: str
    new_hash: str
    old_size: int
    new_size: int
    kept: Mapping[int, int]
    pieces: Mapping[int, tuple[int, ...]]

    def save(self, folder: Path) -> None:
        """Write `token_map.json`: hashes, sizes, and for each new id its old one or the list of its old pieces."""
        ids: dict[int, int | list[int]] = {**self.kept, **{new: list(old) for new, old in self.pieces.items()}}
        record: dict[str, Any] = {
            "old": {"tokenizer_hash": self.old_hash, "vocab_size": self.old_size},
            "new": {"tokenizer_hash": self.new_hash, "vocab_size": self.new_size},
            "ids": {str(new): ids[new] for new in sorted(ids)},
        }
        write_json(folder / FILE, record)

    def renumbered(self, old_id: int) -> int | None:
        """The new id of a token that was kept; None if it was not."""
        return self._new_ids.get(old_id)

    @cached_property
    def _new_ids(self) -> dict[int, int]:
        return {old: new for new, old in self.kept.items()}


def map_tokens(old: BytePairs, new: Tokenizer) -> TokenMap:
    """Compare two tokenizers: a token is kept if the old one has it too; else it is spelt by the old one's pieces.

    Tokens are told by the bytes they stand for; special ones by their text, then by their part (begin, end, padding,
    unknown). What the old merges make of a token's bytes alone is how it is spelt.

    Raises:
        UserError: a new token cannot be spelt.
    """
    controls = _controls(old.tokenizer, new)
    by_bytes = _ids_by_bytes(old.tokenizer)
    writing = writing_of(new)
    contents = token_bytes(new)
    kept: dict[int, int] = {}
    pieces: dict[int, tuple[int, ...]] = {}
    for new_id in range(new.vocab_size):
        written = new.token_text(new_id)
        if written is None:
            continue
        if written in new.control_tokens:
            if written in controls:
                kept[new_id] = controls[written]
            else:
                pieces[new_id] = _spell(old, written.encode("utf-8"))
            continue
        if writing.name == old.writing.name and written in old.ids:
            kept[new_id] = old.ids[written]
        elif writing.name != old.writing.name and contents[new_id] in by_bytes:
            kept[new_id] = by_bytes[contents[new_id]]
        else:
            pieces[new_id] = _spell(old, contents[new_id])
    return TokenMap(old.tokenizer.hash, new.hash, old.tokenizer.vocab_size, new.vocab_size, kept, pieces)


def _controls(old: Tokenizer, new: Tokenizer) -> dict[str, int]:
    """The old id of each special token of the new tokenizer that has a counterpart."""
    found = {text: old.control_tokens[text].id for text in new.control_tokens if text in old.control_tokens}
    for role in _ROLES:
        text, counterpart = new.special_names.get(role), old.named_id(role)
        if text is not None and counterpart is not None:
            found.setdefault(text, counterpart)
    return found


def _ids_by_bytes(tokenizer: Tokenizer) -> dict[bytes, int]:
    """Ordinary tokens by their bytes; of two with the same, the one that text becomes, not a fallback's."""
    writing: Writing = writing_of(tokenizer)
    found: dict[bytes, int] = {}
    for token_id, content in enumerate(token_bytes(tokenizer)):
        text = tokenizer.token_text(token_id)
        if content and text is not None and (content not in found or writing.write(content) == text):
            found[content] = token_id
    return found


def _spell(old: BytePairs, content: bytes) -> tuple[int, ...]:
    written = old.writing.write(content)
    if written is None:
        return tuple(old.ids[f"<0x{byte:02X}>"] for byte in content)
    ids = tuple(old.cut(written))
    if not ids:
        raise UserError(f"the old tokenizer spells {content!r} with nothing", where=old.tokenizer.where)
    return ids
