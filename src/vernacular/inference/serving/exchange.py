"""One request on its way: admitted, answered, counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from vernacular.inference.serving.errors import ApiError
from vernacular.inference.serving.jobs import Job
from vernacular.inference.serving.limits import WaitingRoom
from vernacular.inference.serving.loop import EngineLoop, Progress, Ticket
from vernacular.inference.serving.metrics import Metrics
from vernacular.inference.serving.record import Record
from vernacular.inference.serving.responses import Usage, Writer
from vernacular.inference.serving.settings import ServingSettings
from vernacular.inference.serving.streaming import DONE
from vernacular.models.language_model import Generation, TokenLogProbability


class Exchange:
    """A request's answers, from the waiting room to the last token.

    Args:
        job: the answers; there must be places taken for them in the room.
        room: gets a place back with each answer's first token.
        metrics: counted as it goes.
        record: filled as it goes.
        settings: time limit, and whether texts are logged.
    """

    def __init__(
        self, job: Job, room: WaitingRoom, metrics: Metrics, record: Record, settings: ServingSettings
    ) -> None:
        self.usage = Usage(job.num_prompt_tokens)
        self._job = job
        self._room = room
        self._metrics = metrics
        self._record = record
        self._settings = settings
        self._deadline = asyncio.get_running_loop().time() + settings.timeout
        self._waiting = set(range(len(job.answers)))
        self._last_token: dict[int, float] = {}
        self._generations: dict[int, Generation] = {}
        self._ticket: Ticket | None = None
        record.choices = len(job.answers)
        record.prompt_tokens = job.num_prompt_tokens
        metrics.prompt_tokens.inc(job.num_prompt_tokens)

    def start(self, loop: EngineLoop, *, follow: bool) -> None:
        """Hand the answers to the engine."""
        self._ticket = loop.submit(self._job.answers, follow=follow)

    async def scores(
        self, loop: EngineLoop, work: Callable[[], list[list[TokenLogProbability | None]]]
    ) -> list[list[TokenLogProbability | None]]:
        """Have the prompts scored, which takes the engine's thread a forward pass for each."""
        async with self._in_time():
            return await loop.call(work)

    async def accepted(self) -> None:
        """Wait until the engine has them in its queue; raises what it refused."""
        assert self._ticket is not None
        async with self._in_time():
            await self._ticket.accepted()

    async def generations(self) -> list[Generation]:
        """All answers, whole."""
        await self.accepted()
        async with self._in_time():
            async for _ in self._progress():
                pass
        return [self._generations[number] for number in range(len(self._job.answers))]

    async def events(self, writer: Writer, *, with_usage: bool) -> AsyncIterator[dict[str, Any] | str]:
        """The stream's objects. An error ends it as one more object, without the mark of completeness."""
        try:
            for chunk in writer.opening(len(self._job.answers)):
                yield chunk
            async with self._in_time():
                async for number, progress in self._progress():
                    for chunk in writer.pieces(number, progress):
                        yield chunk
        except ApiError as error:
            self._record.status, self._record.code = error.status, error.code
            yield error.body
            return
        if with_usage:
            yield writer.usage(self.usage)
        yield DONE

    def close(self) -> None:
        """Give up what is not finished, and the places taken."""
        if self._ticket is not None:
            self._ticket.close()
        self._room.leave(len(self._waiting))
        self._waiting.clear()
        if self._settings.log_text:
            self._record.texts = [
                (text, answer.text) for text, answer in zip(self._job.texts, self._job.answers, strict=True)
            ]

    async def _progress(self) -> AsyncIterator[tuple[int, Progress]]:
        assert self._ticket is not None
        async for number, progress in self._ticket.events():
            self._count(number, progress)
            if progress.finished is not None:
                self._check(number)
            yield number, progress

    def _count(self, number: int, progress: Progress) -> None:
        now = time.perf_counter()
        if number in self._waiting:
            self._waiting.discard(number)
            self._room.leave(1)
            seconds = self._record.seconds
            self._metrics.first_token.observe(seconds)
            if self._record.first_token_s is None:
                self._record.first_token_s = seconds
        else:
            self._metrics.per_token.observe(now - self._last_token[number])
        self._last_token[number] = now
        self.usage.answer += progress.num_tokens
        self._record.answer_tokens += progress.num_tokens
        self._metrics.answer_tokens.inc(progress.num_tokens)
        if progress.finished is not None:
            self._generations[number] = progress.finished
            self._record.finished_by.append(progress.finished.stopped_by)

    def _check(self, number: int) -> None:
        """A form that could not be followed to its end makes the answer worthless."""
        constraint = self._job.answers[number].constraint
        if constraint is not None and constraint.problem is not None:
            raise ApiError(
                422, f"the schema or grammar could not be followed: {constraint.problem}", code="form_not_followed"
            )

    def _in_time(self) -> _InTime:
        return _InTime(self._deadline, self._settings.timeout)


class _InTime:
    """What is done within it is broken off at the deadline, with the API's error."""

    def __init__(self, deadline: float, seconds: float) -> None:
        self._timeout = asyncio.timeout_at(deadline)
        self._seconds = seconds

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise ApiError(
                504, f"the request took longer than {self._seconds:g} seconds, the most it may", code="timeout"
            ) from late
