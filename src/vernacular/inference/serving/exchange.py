"""One request on its way: admitted, answered, counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vernacular.inference.serving.errors import ApiError
from vernacular.inference.serving.jobs import Job
from vernacular.inference.serving.limits import TimeLimit, WaitingRoom
from vernacular.inference.serving.loop import EngineLoop, Progress, Ticket
from vernacular.inference.serving.metrics import Metrics
from vernacular.inference.serving.record import Record
from vernacular.inference.serving.responses import Usage, Writer
from vernacular.inference.serving.streaming import DONE
from vernacular.models.language_model import Generation, TokenLogProbability


@contextmanager
def closed_on_error(exchange: Exchange) -> Iterator[None]:
    """Gives up an exchange that comes to no response, for whatever reason."""
    try:
        yield
    except BaseException:
        exchange.close()
        raise


class Exchange:
    """A request's answers, from the waiting room, where it takes its places, to the last token.

    Args:
        num_answers: how many are asked for.
        room: gets a place back with each answer's first token.
        metrics: counted as it goes.
        record: filled as it goes.
        log_text: whether texts are logged.
        limit: the request's time.

    Raises:
        ApiError: 429, 400; the room has not so many places.
    """

    def __init__(
        self, num_answers: int, room: WaitingRoom, metrics: Metrics, record: Record, log_text: bool, limit: TimeLimit
    ) -> None:
        room.enter(num_answers)
        self.usage = Usage(0)
        self._job = Job([], [], 0)
        self._room = room
        self._metrics = metrics
        self._record = record
        self._log_text = log_text
        self._limit = limit
        self._waiting = set(range(num_answers))
        self._last_token: dict[int, float] = {}
        self._generations: dict[int, Generation] = {}
        self._ticket: Ticket | None = None

    async def prepare(self, work: Callable[[], Job]) -> Job:
        """Have the prompts encoded and the forms compiled, in a thread of their own."""
        async with self._limit.kept():
            job = self._job = await asyncio.to_thread(work)
        self.usage.prompt = self._record.prompt_tokens = job.num_prompt_tokens
        self._record.choices = len(job.answers)
        self._metrics.prompt_tokens.inc(job.num_prompt_tokens)
        return job

    def start(self, loop: EngineLoop, *, follow: bool) -> None:
        """Hand the answers to the engine."""
        self._ticket = loop.submit(self._job.answers, follow=follow)

    async def scores(
        self, loop: EngineLoop, work: Callable[[], list[list[TokenLogProbability | None]]]
    ) -> list[list[TokenLogProbability | None]]:
        """Have the prompts scored, which takes the engine's thread a forward pass for each."""
        async with self._limit.kept():
            return await loop.call(work)

    async def accepted(self) -> None:
        """Wait until the engine has them in its queue; raises what it refused."""
        assert self._ticket is not None
        async with self._limit.kept():
            await self._ticket.accepted()

    async def generations(self) -> list[Generation]:
        """All answers, whole."""
        await self.accepted()
        async with self._limit.kept():
            async for _ in self._progress():
                pass
        return [self._generations[number] for number in range(len(self._job.answers))]

    async def events(self, writer: Writer, *, with_usage: bool) -> AsyncIterator[dict[str, Any] | str]:
        """The stream's objects. An error ends it as one more object, without the mark of completeness."""
        try:
            for chunk in writer.opening(len(self._job.answers)):
                yield chunk
            async with self._limit.kept():
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
        if self._log_text:
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
