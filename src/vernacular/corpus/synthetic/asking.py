"""Asking a server for what the cache lacks, within the budget, several requests at once."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vernacular.corpus.readers.record import Record, broken
from vernacular.corpus.synthetic.answer_cache import Answer, AnswerCache, Spending
from vernacular.corpus.synthetic.endpoint import EndpointConfiguration
from vernacular.corpus.synthetic.prompts import Request, read_requests
from vernacular.foundation.endpoint import Endpoint, Rejected, Unreachable
from vernacular.foundation.errors import MachineError, UserError
from vernacular.foundation.files import sha256_json
from vernacular.foundation.progress import progress

_CUT_OFF, _STOP = "length", "stop"
_SHOWN = 200


@dataclass
class Outcome:
    """What asking came to.

    Attributes:
        requests: of the source.
        answered: of those, after this run.
        failures: why the others have no answer, and how many.
        digest: of which requests are answered.
    """

    requests: int = 0
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    digest: str = ""

    def figures(self) -> dict[str, int]:
        """For the report: what depends on the cache alone."""
        return {"requests": self.requests, "answered": self.answered}


def ask(name: str, settings: EndpointConfiguration) -> Outcome:
    """Fill the cache of a source; what is there already is not asked again.

    Args:
        name: the source's.
        settings: the source.

    Raises:
        UserError: prompts or seeds are wrong, the key is not accepted, or the budget does not suffice.
        MachineError: nothing listens there, or too many requests stay without an answer.
    """
    cache = AnswerCache(Path(settings.cache))
    total = sum(1 for _ in read_requests(settings))
    missing = sum(1 for request in _missing(settings, cache))
    outcome = Outcome(requests=total)
    if missing:
        spending = Spending(cache.folder, name, settings.budget)
        if spending.requests + missing > settings.budget.requests:
            raise UserError(
                f"{missing:,} of {total:,} answers are missing, and {spending.requests:,} of the "
                f"{settings.budget.requests:,} requests of the budget are spent",
                where=f"source '{name}': endpoint.budget.requests",
                fix="raise it, or take fewer seeds",
            )
        _Questioner(name, settings, cache, spending, outcome).ask_all(missing)
    there = [request.hash for request in read_requests(settings) if request in cache]
    outcome.answered, outcome.digest = len(there), sha256_json(there)
    for reason, count in outcome.failures.most_common():
        print(f"{name}: {count:,} requests without an answer: {reason}", file=sys.stderr)
    return outcome


def _missing(settings: EndpointConfiguration, cache: AnswerCache) -> Iterator[Request]:
    seen: set[str] = set()
    for request in read_requests(settings):
        if request.hash not in seen and request not in cache:
            seen.add(request.hash)
            yield request


class _Questioner:
    """Puts requests to the server from several threads."""

    def __init__(
        self, name: str, settings: EndpointConfiguration, cache: AnswerCache, spending: Spending, outcome: Outcome
    ) -> None:
        self._name, self._settings, self._cache = name, settings, cache
        self._spending, self._outcome = spending, outcome
        self._endpoint = Endpoint(
            settings.url, settings.key_from, seconds=settings.timeout, retries=settings.retries, wait=self._wait
        )

    def _wait(self, seconds: float) -> None:
        self._spending.again()
        time.sleep(seconds)

    def ask_all(self, missing: int) -> None:
        """Ask for everything that the cache lacks."""
        most = int(self._settings.maximum_failures * self._outcome.requests)
        requests = _missing(self._settings, self._cache)
        under_way: set[Future[str | None]] = set()
        bar = progress(doing=f"asking {self._settings.model}", total=missing, unit="requests")
        with bar, ThreadPoolExecutor(self._settings.at_once) as pool:
            try:
                while more := [*under_way, *self._begun(pool, requests, len(under_way))]:
                    done, under_way = wait(more, return_when=FIRST_COMPLETED)
                    for future in done:
                        problem = future.result()
                        bar.update()
                        if problem is not None:
                            self._outcome.failures[problem] += 1
                    if self._outcome.failures.total() > most:
                        raise self._too_many()
            finally:
                pool.shutdown(cancel_futures=True)

    def _begun(self, pool: ThreadPoolExecutor, requests: Iterator[Request], running: int) -> list[Future[str | None]]:
        return [pool.submit(self._ask, request) for request in islice(requests, self._settings.at_once - running)]

    def _ask(self, request: Request) -> str | None:
        """Ask once, with all its tries, and keep the answer; why there is none, or None."""
        most = request.most_tokens
        self._spending.begin(most)
        tokens = 0
        try:
            answer = _read(self._endpoint.post("/chat/completions", request.body), most)
            tokens = answer.tokens
            self._cache.put(request, answer)
        except Rejected as error:
            if not error.is_of_one_request:
                raise
            return error.message[:_SHOWN]
        except _Nonsense as error:
            tokens = most
            return f"the server's answer is no chat completion: {error}"
        except Unreachable:
            raise
        except MachineError as error:
            return error.message[:_SHOWN]
        finally:
            self._spending.end(most, tokens)
        return None

    def _too_many(self) -> MachineError:
        (reason, _), *_ = self._outcome.failures.most_common(1)
        return MachineError(
            f"{self._outcome.failures.total():,} of {self._outcome.requests:,} requests have no answer; "
            f"most often: {reason}",
            where=f"source '{self._name}': endpoint",
            fix="look at the server, or raise maximum_failures; what was answered is kept",
        )


class _Nonsense(Exception):
    """What came is JSON, but no chat completion."""


def _read(value: Any, most_tokens: int) -> Answer:
    try:
        choice = value["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason") or _STOP
    except (LookupError, TypeError, AttributeError) as error:
        raise _Nonsense(f"{type(error).__name__}: {error}"[:_SHOWN]) from error
    if not isinstance(text, str):
        raise _Nonsense(f"its content is {type(text).__name__}, not text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _Nonsense("its content holds a lone surrogate")
    usage = value.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    # A server that does not count may have used as many as it could.
    counted = tokens if isinstance(tokens, int) and tokens >= 0 else most_tokens
    return Answer(text, str(finish), counted)


# ------------------------------------------------------------------------------------------------ answers as records


def read_answers(settings: EndpointConfiguration) -> Iterator[Record]:
    """The cache's answers as records, in the order of the requests; broken ones where none can be used."""
    cache = AnswerCache(Path(settings.cache))
    for request in read_requests(settings):
        answer = cache.get(request)
        problem = _problem(answer, settings)
        name = f"{settings.model}: {request.origin} ({request.hash[:12]})"
        if answer is None or problem is not None:
            yield broken(f"{problem} — {name}", request.number, len(answer.text.encode()) if answer else 0)
        else:
            text = answer.text
            yield Record(text, request.number, len(text.encode()), language=request.language, name=name)


def _problem(answer: Answer | None, settings: EndpointConfiguration) -> str | None:
    """Why an answer cannot be a document, or None."""
    if answer is None:
        return "the server gave no answer"
    if len(answer.text.strip()) < settings.minimum_characters:
        return f"the answer has {len(answer.text.strip())} characters, fewer than {settings.minimum_characters}"
    if answer.finish == _CUT_OFF and not settings.keep_cut_off:
        return f"the answer was cut off after {settings.max_tokens} tokens"
    if answer.finish not in (_STOP, _CUT_OFF):
        return f"the answer ended by '{answer.finish}'"
    return None
