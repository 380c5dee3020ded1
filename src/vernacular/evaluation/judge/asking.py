"""Asks a judge, remembers its words on disk, and counts what fails: a verdict that is not there is never a number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from vernacular.evaluation.answer_file import AnswerFile
from vernacular.evaluation.judge.prompts import rules
from vernacular.foundation.allowance import Allowance
from vernacular.foundation.errors import MachineError, UserError
from vernacular.foundation.files import sha256_json
from vernacular.foundation.progress import progress
from vernacular.models.language_model import Message

Verdict = TypeVar("Verdict", float, str)
_BYTES_PER_TOKEN = 2
"""A cautious guess, for servers that do not say how many tokens a request had."""


class Judge(Protocol):
    """A chat model at a server. `inference` has one; tests have others."""

    @property
    def identity(self) -> Mapping[str, str]:
        """Who judges: its name and its server, without any key."""
        ...

    def ask(
        self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int
    ) -> tuple[str, int | None]:
        """Its answer, and the tokens of request and answer together; None where the server does not say.

        Raises:
            MachineError: it gives none, though asked again; the next request may fare better.
            UserError: it refuses all requests like this one.
        """
        ...


class Request(NamedTuple, Generic[Verdict]):
    """A verdict that is wanted.

    Attributes:
        messages: what is asked.
        run: which of several equal requests it is.
        read: takes the verdict from the judge's words; None where they hold none.
    """

    messages: Sequence[Message]
    run: int
    read: Callable[[str], Verdict | None]


class Judgement(NamedTuple, Generic[Verdict]):
    """A verdict, or why there is none.

    Attributes:
        verdict: None where there is none.
        text: the judge's last words; "" where it gave none.
        attempts: how often it was asked.
        problem: "no answer" or "unreadable" where there is no verdict; else "".
    """

    verdict: Verdict | None
    text: str
    attempts: int
    problem: str


def _guessed(words: str) -> int:
    return len(words.encode("utf-8", "replace")) // _BYTES_PER_TOKEN


@dataclass
class Bounds:
    """What judging may use up.

    Attributes:
        attempts: most times a verdict that cannot be read is asked for.
        tokens: most tokens of all requests and answers of this run; None for no bound.
        missing_share: most verdicts that may be missing, as a share.
        at_once: requests under way at once.
    """

    attempts: int = 3
    tokens: int | None = None
    missing_share: float = 0.05
    at_once: int = 8


@dataclass
class Asking:
    """Puts requests to a judge.

    Attributes:
        judge: who is asked.
        answers: keeps what it said.
        bounds: see `Bounds`.
    """

    judge: Judge
    answers: AnswerFile
    bounds: Bounds
    _tokens: Allowance = field(init=False)
    _file: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._tokens = Allowance(self.bounds.tokens)

    def all(self, requests: Sequence[Request[Verdict]], doing: str) -> list[Judgement[Verdict]]:
        """The verdicts, in the requests' order.

        Raises:
            UserError: the tokens are used up; what was said is kept, so that more tokens go on from there.
            MachineError: more verdicts are missing than may be.
        """
        found: dict[int, Judgement[Verdict]] = {}
        most_missing = int(self.bounds.missing_share * len(requests))
        with (
            ThreadPoolExecutor(self.bounds.at_once) as pool,
            progress(doing=doing, total=len(requests), unit="verdicts") as bar,
        ):
            waiting = {pool.submit(self._one, request): number for number, request in enumerate(requests)}
            try:
                for done in as_completed(waiting):
                    found[waiting[done]] = done.result()
                    bar.update()
                    self._check_missing(list(found.values()), most_missing, len(requests))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return [found[number] for number in range(len(requests))]

    def _one(self, request: Request[Verdict]) -> Judgement[Verdict]:
        """A verdict; one that cannot be read is asked for again, with another seed."""
        text = ""
        for attempt in range(1, self.bounds.attempts + 1):
            try:
                text = self._said(request, attempt)
            except MachineError:
                return Judgement(None, text, attempt, "no answer")
            verdict = request.read(text)
            if verdict is not None:
                return Judgement(verdict, text, attempt, "")
        return Judgement(None, text, self.bounds.attempts, "unreadable")

    def _said(self, request: Request[Any], attempt: int) -> str:
        """The judge's words, from the disk or from the judge."""
        key = sha256_json(["judge", dict(self.judge.identity), list(request.messages), request.run, attempt])
        with self._file:
            known = self.answers.get(key)
        if known is not None:
            return str(known[0][0])
        words = "".join(str(message["content"]) for message in request.messages)
        most, used = _guessed(words) + rules().judge_tokens, 0
        self._tokens.reserve(most, lambda: self._used_up(most))
        try:
            text, tokens = self.judge.ask(
                request.messages,
                temperature=rules().judge_temperature if attempt == 1 else rules().retry_temperature,
                max_tokens=rules().judge_tokens,
                seed=request.run * self.bounds.attempts + attempt,
            )
            used = _guessed(words + text) if tokens is None else tokens
            with self._file:
                self.answers.add({key: [text, tokens]}, 0.0)
        finally:
            self._tokens.settle(most, used)
        return text

    def _used_up(self, wanted: int) -> UserError:
        return UserError(
            f"the judge's {self.bounds.tokens:,} tokens do not suffice: {self._tokens.used:,} are used, "
            f"the next question may take {wanted:,}",
            where="judge_tokens",
            fix="go on with --resume and more --judge-tokens; what was said is kept",
        )

    def _check_missing(self, found: Sequence[Judgement[Any]], most: int, total: int) -> None:
        missing = [one for one in found if one.verdict is None]
        if len(missing) > most:
            problems = [f"{sum(one.problem == kind for one in missing)} {kind}" for kind in ("no answer", "unreadable")]
            raise MachineError(
                f"{len(missing)} of {len(found)} verdicts are missing: {', '.join(problems)}; {most} of {total} may be",
                where="judge",
                fix="see that the server answers and that the judge keeps to the form, then go on with --resume; "
                "--judge-missing SHARE allows more",
            )
