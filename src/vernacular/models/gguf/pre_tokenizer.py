"""Which of llama.cpp's ways of cutting text is the tokenizer's, and the proof that both give the same tokens."""

from __future__ import annotations

import importlib.util
import json
import logging
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
import yaml
from tokenizers import pre_tokenizers

from vernacular.foundation.errors import InternalError
from vernacular.tokens.tokenizer import Tokenizer

Encode = Callable[[str], list[int]]
_TOKENS_PER_LINE, _LINES = 5, 1000
# Of the ways to cut that do best by their patterns, so many are run through llama.cpp.
_MEASURED = 3


class Agreement(NamedTuple):
    """How llama.cpp's tokens compare with ours on the probe texts."""

    pre_tokenizer: str
    """llama.cpp's name of the way to cut."""
    probes: int
    differing: tuple[str, ...]
    """Texts that come out as other tokens."""
    is_measured: bool
    """By llama.cpp itself; else by its published patterns."""

    @property
    def sentence(self) -> str:
        """For the file's metadata and for people."""
        if self.probes == 0:
            return "not compared with the original: llama.cpp is not installed here"
        how = "measured with llama.cpp" if self.is_measured else "by llama.cpp's patterns; llama.cpp itself was not run"
        if not self.differing:
            return f"the same tokens as the original on {self.probes} probe texts ({how})"
        return f"other tokens than the original on {len(self.differing)} of {self.probes} probe texts ({how})"


class Pattern(NamedTuple):
    """One of llama.cpp's ways to cut."""

    name: str
    patterns: tuple[str, ...]
    ignore_merges: bool


@cache
def known_patterns() -> tuple[Pattern, ...]:
    """All that are known here."""
    table = _table()
    return tuple(
        Pattern(name, tuple(map(_filled, entry["patterns"])), entry.get("ignore_merges", False))
        for name, entry in table["names"].items()
    )


class Probes(NamedTuple):
    """Texts to compare, and the ids that they have.

    They are sentences of many scripts, and the vocabulary itself, shuffled and strung together: that puts tokens beside
    each other that no sentence would, so that a cut in another place shows.
    """

    texts: list[str]
    ids: list[list[int]]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Probes:
        """Those for this tokenizer."""
        words = [tokenizer.decode([token_id]) for token_id in range(tokenizer.vocab_size)]
        words = [word for word in words if word and "\ufffd" not in word]  # No special tokens, no parts of characters.
        random.Random(0).shuffle(words)
        starts = range(0, min(len(words), _TOKENS_PER_LINE * _LINES), _TOKENS_PER_LINE)
        strung = ["".join(words[start : start + _TOKENS_PER_LINE]) for start in starts]
        texts = [*_table()["probes"], *strung]
        return cls(texts, tokenizer.encode_batch(texts))

    def compare(self, name: str, encode: Encode, *, is_measured: bool) -> Agreement:
        """How an encoder does on them."""
        differing = tuple(text for text, ids in zip(self.texts, self.ids, strict=True) if encode(text) != ids)
        return Agreement(name, len(self.texts), differing, is_measured)


@cache
def _table() -> dict[str, Any]:
    text = (files("vernacular.models.gguf") / "pre_tokenizers.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


def _filled(pattern: str) -> str:
    for _ in range(2):  # A class may name another.
        for name, members in _table()["classes"].items():
            pattern = pattern.replace(f"{{{name}}}", members)
    return pattern


def choose(tokenizer: Tokenizer, contents: dict[str, Any], write_vocabulary: Callable[[Path, str], None]) -> Agreement:
    """The way to cut that gives the most probe texts the tokens they have, by llama.cpp itself where it is installed.

    Among several, the one that cuts the most texts in the same places.

    Args:
        tokenizer: ours.
        contents: its `tokenizer.json`, a byte-level BPE.
        write_vocabulary: writes a file with the tokenizer alone, cut the way of the name given.
    """
    probes = Probes.of(tokenizer)
    by_rule = sorted(_by_rule(probes, contents), key=lambda found: (len(found[0].differing), found[1]))
    if not has_llama_cpp():
        return by_rule[0][0]
    measured = [_measure(probes, found.pre_tokenizer, write_vocabulary) for found, _ in by_rule[:_MEASURED]]
    return min(measured, key=lambda agreement: len(agreement.differing))


def measure(tokenizer: Tokenizer, name: str, write_vocabulary: Callable[[Path, str], None]) -> Agreement:
    """What llama.cpp itself makes of the probe texts, cut the way of this name."""
    return _measure(Probes.of(tokenizer), name, write_vocabulary)


def _measure(probes: Probes, name: str, write_vocabulary: Callable[[Path, str], None]) -> Agreement:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_vocabulary(path, name)
        with _llama_cpp(path) as encode:
            return probes.compare(name, encode, is_measured=True)


def has_llama_cpp() -> bool:
    """Whether llama-cpp-python is installed (extra `[llama-cpp]`)."""
    return importlib.util.find_spec("llama_cpp") is not None


def _by_rule(probes: Probes, contents: dict[str, Any]) -> Iterator[tuple[Agreement, int]]:
    """How the tokenizer does with each of llama.cpp's cuts in place of its own; how many texts are cut otherwise."""
    engine = tokenizers.Tokenizer.from_str(json.dumps(contents))
    engine.encode_special_tokens = True
    own_cuts = [_cuts(engine, text) for text in probes.texts]
    engine.normalizer = None  # llama.cpp knows none for this kind.
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for pattern in known_patterns():
        splits = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in pattern.patterns]
        engine.pre_tokenizer = pre_tokenizers.Sequence([*splits, letters])
        engine.model.ignore_merges = pattern.ignore_merges
        cut_otherwise = sum(_cuts(engine, text) != cuts for text, cuts in zip(probes.texts, own_cuts, strict=True))
        yield probes.compare(pattern.name, _encoder(engine), is_measured=False), cut_otherwise


def _encoder(engine: tokenizers.Tokenizer) -> Encode:
    return lambda text: list(engine.encode(text, add_special_tokens=False).ids)


def _cuts(engine: tokenizers.Tokenizer, text: str) -> list[str]:
    return [piece for piece, _ in engine.pre_tokenizer.pre_tokenize_str(text)]


@contextmanager
def _llama_cpp(path: Path) -> Iterator[Encode]:
    """llama.cpp's own tokenizer, of a file that may hold nothing else."""
    import llama_cpp

    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # It prints every setting of the file otherwise.
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise InternalError("llama.cpp does not read the tokenizer that was written for it", where=path)
    vocabulary = llama_cpp.llama_model_get_vocab(model)

    def encode(text: str) -> list[int]:
        content = text.encode("utf-8")
        room = (llama_cpp.llama_token * (len(content) + 8))()
        count = llama_cpp.llama_tokenize(vocabulary, content, len(content), room, len(room), False, False)
        return list(room[:count])

    try:
        yield encode
    finally:
        llama_cpp.llama_model_free(model)
