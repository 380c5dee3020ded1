"""A tokenizer of byte pairs taken apart into vocabulary and merges, so that pieces can be added or taken out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError
from vernacular.tokens.token_bytes import writing_of
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.tokenizer_files import CONFIG_FILE, TOKENIZER_FILE, build_engine, read_contents, read_settings

_IDS_KEPT_BY = ("TemplateProcessing", "ByteLevel", "Sequence")


class BytePairs:
    """Vocabulary, merges and what surrounds them.

    Attributes:
        tokenizer: the tokenizer itself.
        ids: the id of each token as the vocabulary writes it, special and added ones included.
        merges: pairs of tokens, the first joined first.
        writing: how tokens are written.
    """

    def __init__(self, folder: Path) -> None:
        self._contents = read_contents(folder)
        self._settings = read_settings(self._contents)
        self._engine = build_engine(self._contents, self._settings, str(folder))
        self._description: dict[str, Any] = json.loads(self._engine.to_str())
        self.tokenizer = Tokenizer(self._contents, where=folder)
        self._check(folder / TOKENIZER_FILE)
        self.writing = writing_of(self.tokenizer)
        self.ids: dict[str, int] = self._engine.get_vocab(with_added_tokens=True)
        self.merges = [_pair(merge) for merge in self._description["model"]["merges"]]

    def _check(self, where: Path) -> None:
        """Refuse what does not join pairs in a fixed order, starting from bytes."""
        model = self._description["model"]
        what = None
        if model["type"] != "BPE":
            what = (
                f"it is of the kind {model['type']}, which weighs whole cuts of a text; only BPE joins pairs in order"
            )
        elif model["dropout"]:
            what = f"dropout {model['dropout']}: it cuts a text by chance"
        elif model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
            what = "it marks the inside or the end of words (continuing_subword_prefix, end_of_word_suffix)"
        elif not model["byte_fallback"] and '"ByteLevel"' not in json.dumps(self._description["pre_tokenizer"]):
            what = "it has no bytes to fall back on, so not every text comes back"
        if what:
            raise UserError(
                f"pieces of this tokenizer can be neither added nor taken out: {what}",
                where=where,
                fix="use a byte-level BPE, or a SentencePiece BPE with byte fallback",
            )

    # ------------------------------------------------------------------------------------------------ cutting

    def words(self, text: str) -> Iterator[str]:
        """What the engine joins pairs within, as the vocabulary writes it; at a blank (▁) at the latest."""
        written = self._engine.normalizer.normalize_str(text) if self._engine.normalizer else text
        pre_tokenizer = self._engine.pre_tokenizer
        parts = [part for part, _ in pre_tokenizer.pre_tokenize_str(written)] if pre_tokenizer else [written]
        if self.writing.name == "byte-level":
            yield from parts
            return
        for part in parts:
            first, *others = part.split("\u2581")
            yield from ([first] if first else [])
            yield from (f"\u2581{other}" for other in others)

    def cut(self, word: str) -> list[int]:
        """Ids of a word (or of a token's writing) by itself: what the merges make of it, nothing cut before."""
        return [token.id for token in self._engine.model.tokenize(word)]

    @cached_property
    def byte_ids(self) -> frozenset[int]:
        """The tokens of single bytes; of a byte fallback those like `<0x0A>`."""
        return frozenset(self.ids[written] for written in self._written_bytes if written in self.ids)

    @cached_property
    def _written_bytes(self) -> list[str]:
        contents = [bytes([byte]) for byte in range(256)]
        if self.writing.name == "byte-level":
            return [self.writing.write(content) or "" for content in contents]
        return [f"<0x{content.hex().upper()}>" for content in contents]

    @cached_property
    def added_ids(self) -> frozenset[int]:
        """Special tokens and others that stand beside the merges: found in a text as they are."""
        return frozenset(self._engine.get_added_tokens_decoder())

    @property
    def indispensable_ids(self) -> set[int]:
        """What any text may need: bytes, added tokens, and the unknown token."""
        unknown = self._description["model"]["unk_token"]
        return {*self.byte_ids, *self.added_ids, *([self.ids[unknown]] if unknown in self.ids else [])}

    # ------------------------------------------------------------------------------------------------ rebuilding

    def extended(self, characters: Sequence[str], merges: Sequence[tuple[str, str]]) -> dict[str, bytes]:
        """The files with new tokens after the last id: characters, then what the new merges make, in order.

        The new merges stand after all old ones.
        """
        tokens = [*characters, *(left + right for left, right in merges)]
        first = self.tokenizer.vocab_size
        vocabulary = {**self._vocabulary(), **{token: first + place for place, token in enumerate(tokens)}}
        return self._rebuilt(vocabulary, [*self.merges, *merges], self._description, self._contents[CONFIG_FILE])

    def reduced(self, new_ids: Mapping[int, int]) -> dict[str, bytes]:
        """The files with the tokens of `new_ids` alone, under their new ids, and the merges among them."""
        vocabulary = {token: new_ids[old] for token, old in self._vocabulary().items() if old in new_ids}
        merges = [(left, right) for left, right in self.merges if {left, right, left + right} <= vocabulary.keys()]
        description = {
            **self._description,
            "added_tokens": [{**token, "id": new_ids[token["id"]]} for token in self._description["added_tokens"]],
            "post_processor": _renumbered(self._description["post_processor"], new_ids, self.tokenizer.where),
        }
        config = json.loads(self._contents[CONFIG_FILE])
        if "added_tokens_decoder" in config:
            declared = config["added_tokens_decoder"]
            config["added_tokens_decoder"] = {str(new_ids[int(old)]): token for old, token in declared.items()}
        return self._rebuilt(vocabulary, merges, description, _json(config))

    def _vocabulary(self) -> dict[str, int]:
        """Every token in the model's own vocabulary, so that added ones keep their ids whatever comes after them."""
        return dict(sorted(self.ids.items(), key=lambda pair: pair[1]))

    def _rebuilt(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        description: Mapping[str, Any],
        config: bytes,
    ) -> dict[str, bytes]:
        ordered = dict(sorted(vocabulary.items(), key=lambda pair: pair[1]))
        model = {**description["model"], "vocab": ordered, "merges": [list(pair) for pair in merges]}
        contents = {**self._contents, CONFIG_FILE: config, TOKENIZER_FILE: _json({**description, "model": model})}
        return contents


def merge_scores(tokens: Sequence[str], merges: Sequence[tuple[str, ...]]) -> list[float]:
    """A token's score is the place of the first merge that makes it, counted down; what no merge makes comes last.

    SentencePiece and llama.cpp join the neighbours whose union has the highest score.
    """
    rank: dict[str, int] = {}
    for place, pair in enumerate(merges):
        rank.setdefault("".join(pair), place)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def _renumbered(part: Any, new_ids: Mapping[int, int], where: str) -> Any:
    """A post-processor with the ids it names replaced."""
    if part is None:
        return None
    if part["type"] not in _IDS_KEPT_BY:
        raise UserError(
            f"the post-processor {part['type']} names ids in a way that is not known here",
            where=f"{where}/{TOKENIZER_FILE} (post_processor)",
            fix="write it as a TemplateProcessing",
        )
    if part["type"] == "Sequence":
        return {**part, "processors": [_renumbered(one, new_ids, where) for one in part["processors"]]}
    if part["type"] == "ByteLevel":
        return part
    named = part["special_tokens"].items()
    renumbered = {key: {**token, "ids": [new_ids[old] for old in token["ids"]]} for key, token in named}
    return {**part, "special_tokens": renumbered}


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
