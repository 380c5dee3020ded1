"""Answers that are bound to a form: a JSON schema or a grammar says which tokens may come next.

The grammar itself is llguidance's (extra `[grammar]`): JSON Schema as it reads it, or its dialect of Lark. White space
in JSON is what `json.dumps` writes, one blank after a comma and a colon, so that an answer cannot run on in blanks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vernacular.foundation.errors import UserError, missing_extra
from vernacular.models.language_model import Sampling
from vernacular.tokens.token_bytes import token_bytes
from vernacular.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    import llguidance

_LONGEST_REASON = 300
_JSON_STYLE: dict[str, Any] = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}


class Constraint(Protocol):
    """What may come next in one answer. It follows the answer token by token."""

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token may come next: bool [V], V the weights' vocabulary. The end tokens are among them."""
        ...

    def accept(self, token: int) -> None:
        """Take the token that was chosen. One that is not allowed becomes the `problem`."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether nothing but an end token may come any more."""
        ...

    @property
    def problem(self) -> str | None:
        """Why the form could not be followed to its end (it grew too complex); None while all is well.

        From then on only end tokens are allowed. Who asked for the answer is to be told, and nobody else.
        """
        ...


def make_constraint(
    tokenizer: Tokenizer,
    sampling: Sampling,
    *,
    vocab_size: int | None = None,
    end_ids: Iterable[int] | None = None,
) -> Constraint | None:
    """The constraint that `sampling` asks for, or None.

    Args:
        tokenizer: of the weights that answer.
        sampling: its `json_schema` or its `grammar` is read.
        vocab_size: V, where the weights have more rows than the tokenizer has tokens.
        end_ids: tokens that end an answer; by default the tokenizer's end token.

    Raises:
        UserError: both are given, the schema or the grammar is wrong, or the tokenizer and its end tokens are not what
            a form can be followed with; says why.
        MachineError: llguidance is not installed.
    """
    if sampling.json_schema is None and sampling.grammar is None:
        return None
    if sampling.json_schema is not None and sampling.grammar is not None:
        raise UserError("an answer follows a schema or a grammar, not both", where="json_schema, grammar")
    guidance = _library()
    if sampling.json_schema is not None:
        where, grammar = "json_schema", _schema_grammar(sampling.json_schema)
    else:
        where, grammar = "grammar", guidance.LLMatcher.grammar_from_lark(sampling.grammar or "")
    num_tokens = vocab_size or tokenizer.vocab_size
    ends = _checked_ends(list(end_ids or ()) or [tokenizer.end_id], num_tokens)
    vocabulary = _vocabulary(tokenizer, num_tokens, ends)
    problem = guidance.LLMatcher.validate_grammar(grammar, vocabulary)
    if problem and not problem.startswith("WARNING"):
        raise UserError(f"cannot be followed: {_one_line(problem)}", where=where)
    limits = guidance.LLParserLimits(verbose_errors=False)
    return _Guided(guidance.LLMatcher(vocabulary, grammar, log_level=0, limits=limits), ends, vocabulary.vocab_size)


class _Guided:
    """A `Constraint` that llguidance keeps."""

    def __init__(self, matcher: llguidance.LLMatcher, ends: tuple[int, ...], vocab_size: int) -> None:
        self._matcher = matcher
        self._ends = ends
        self._vocab_size = vocab_size

    def allowed(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            only_ends = np.zeros(self._vocab_size, dtype=np.bool_)
            only_ends[list(self._ends)] = True
            return only_ends
        return np.unpackbits(bits, count=self._vocab_size, bitorder="little").astype(np.bool_)

    def accept(self, token: int) -> None:
        # What fails here shows as `problem`: an exception would end every other answer of the engine as well.
        if not (token in self._ends and self._matcher.is_stopped()):
            self._matcher.consume_token(token)

    @property
    def is_finished(self) -> bool:
        return bool(self._matcher.is_stopped())

    @property
    def problem(self) -> str | None:
        return _one_line(self._matcher.get_error()) if self._matcher.is_error() else None


def _schema_grammar(schema: str) -> str:
    try:
        value = json.loads(schema)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not valid JSON: {error.msg}", where=f"json_schema:{error.lineno}:{error.colno}", fix="give a JSON object"
        ) from error
    except RecursionError as error:
        raise UserError("the JSON is nested too deeply", where="json_schema") from error
    if not isinstance(value, dict):
        raise UserError("a JSON schema is an object", where="json_schema", fix='write it like {"type": "object"}')
    try:
        return str(_library().LLMatcher.grammar_from_json_schema(value, overrides=_JSON_STYLE))
    except ValueError as error:
        raise UserError(f"cannot be followed: {_one_line(str(error))}", where="json_schema") from error


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Tokenizer, vocab_size: int, ends: tuple[int, ...]) -> llguidance.LLTokenizer:
    """The vocabulary as a tree of bytes: takes a moment, so it is kept."""
    guidance = _library()
    described: Any = _Described(tokenizer, vocab_size, ends[0])
    try:
        return guidance.LLTokenizer(guidance.TokenizerWrapper(described), eos_token=list(ends))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"no schema or grammar can be followed with this tokenizer: {_one_line(str(error))}", where=tokenizer.where
        ) from error


def _checked_ends(end_ids: Sequence[int], vocab_size: int) -> tuple[int, ...]:
    """Each end token once, in order; refused where one is none of the weights' tokens."""
    for token in end_ids:
        if not isinstance(token, int) or not 0 <= token < vocab_size:
            raise UserError(
                f"the end token {token!r} is none of the {vocab_size} tokens",
                where="eos_token_id",
                fix="repair it in the folder's generation_config.json or config.json",
            )
    return tuple(sorted(set(end_ids)))


class _Described:
    """A tokenizer as llguidance wants it described."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_id: int) -> None:
        by_id = {token.id: text for text, token in tokenizer.control_tokens.items()}
        self.eos_token_id = end_id
        self.bos_token_id = None
        self.special_token_ids = sorted(by_id)
        contents = token_bytes(tokenizer)
        self.tokens = [
            by_id[token_id].encode("utf-8") if token_id in by_id else content
            for token_id, content in enumerate((*contents, *[b""] * (vocab_size - len(contents))))
        ]
        self._tokenizer = tokenizer

    def __call__(self, content: bytes) -> list[int]:
        return self._tokenizer.encode(content.decode("utf-8", errors="replace"))


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise missing_extra("llguidance", "grammar", "an answer in the form of a schema or grammar") from error
    return llguidance


def _one_line(text: str) -> str:
    joined = " ".join(text.replace("<non-verbose/>", "").split())
    return joined if len(joined) <= _LONGEST_REASON else joined[: _LONGEST_REASON - 1] + "…"
