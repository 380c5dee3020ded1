"""The one protocol where inference, which implements it, and evaluation, which uses it, meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import Field

from vernacular.foundation.configuration import Configuration

Message = Mapping[str, Any]
Report = Callable[[int], None]

GREEDY_BELOW = 1e-6
"""Temperatures below this take the best-scored token: the scores divided by them would leave float32."""


class Sampling(Configuration):
    """How the next token is chosen.

    Order, as in transformers: repetition penalty, temperature, top-k, top-p, min-p, softmax, draw.
    """

    max_new_tokens: int = Field(128, gt=0, strict=True, description="most tokens to add to the prompt")
    temperature: float = Field(
        0.0,
        ge=0,
        le=100,
        strict=True,
        allow_inf_nan=False,
        description="0 = greedy, as is anything below 0.000001; else the scores are divided by it; 100 at most",
    )
    top_k: int | None = Field(None, gt=0, strict=True, description="keep the k most probable tokens")
    top_p: float | None = Field(
        None, gt=0, le=1, strict=True, description="keep the fewest tokens whose probabilities reach p"
    )
    min_p: float | None = Field(
        None, ge=0, le=1, strict=True, description="drop tokens less probable than p times the most probable one"
    )
    repetition_penalty: float = Field(
        1.0,
        ge=0.01,
        le=100,
        strict=True,
        allow_inf_nan=False,
        description="makes tokens of the prompt and the answer less likely: positive scores are divided by it, "
        "negative ones multiplied; 0.01 to 100",
    )
    seed: int = Field(
        0,
        ge=0,
        strict=True,
        description="seed of the draws; the same seed gives the same text whatever else is in the batch",
    )
    stop: tuple[str, ...] = Field((), description="strings that end the answer; they are not part of it")
    log_probabilities: int | None = Field(
        None,
        ge=0,
        strict=True,
        description="give each token's log-probability, and those of the n most probable ones in its place",
    )
    json_schema: str | None = Field(None, description="JSON schema, as JSON text, that the answer is to follow")
    grammar: str | None = Field(None, description="grammar that the answer is to follow, in llguidance's Lark")

    @property
    def is_greedy(self) -> bool:
        """Whether the best-scored token is taken each time."""
        return self.temperature < GREEDY_BELOW


class Likelihood(NamedTuple):
    """Log-probability in nats of a continuation, and whether greedy decoding would have produced it.

    `num_tokens` is how many tokens it was read as; None where the back-end does not say. For `num_cut` tokens at the
    left of its context there was no room.
    """

    log_probability: float
    is_greedy: bool
    num_tokens: int | None = None
    num_cut: int = 0


class TextLikelihood(NamedTuple):
    """Log-probability in nats of a whole text after the begin token, and the number of tokens it was read as."""

    log_probability: float
    num_tokens: int


class TokenLogProbability(NamedTuple):
    """A token of an answer, and what the model, before any setting, made of its place.

    Attributes:
        token: its id.
        text: what it decodes to by itself; U+FFFD for a part of a character.
        log_probability: natural logarithm of its probability.
        best: the most probable tokens in its place: id, text, log-probability.
    """

    token: int
    text: str
    log_probability: float
    best: tuple[tuple[int, str, float], ...]


StoppedBy = Literal["end", "stop", "length", "cancelled"]


class Generation(NamedTuple):
    """An answer: its text, its tokens, and why it ended."""

    text: str
    ids: tuple[int, ...]
    stopped_by: StoppedBy
    log_probabilities: tuple[TokenLogProbability, ...] | None = None


@runtime_checkable
class LanguageModel(Protocol):
    """A model as text sees it. Every back-end is one."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What answers: back-end, dtype, and hashes of weights, tokenizer and template ("none" where there is none).

        Beside them whatever else decides what it answers, as far as the back-end knows it.
        """
        ...

    @property
    def max_positions(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""
        ...

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, report: Report | None = None) -> list[Likelihood]:
        """Log-probability of each continuation given its context; `report(n)` is told of n more pairs done."""
        ...

    def text_loglikelihood(self, texts: Sequence[str], *, report: Report | None = None) -> list[TextLikelihood]:
        """Log-probability of each whole text, in windows of `max_positions`, each token predicted exactly once."""
        ...

    def complete(
        self, prompts: Sequence[str], samplings: Sequence[Sampling], *, report: Report | None = None
    ) -> list[Generation]:
        """Continue each prompt; the begin token is put first unless the prompt starts with it."""
        ...

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        """As `complete` for one prompt, in pieces that never cut a grapheme cluster."""
        ...

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as this model's chat template writes it; refused where the weights have no template."""
        ...
