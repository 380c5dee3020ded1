"""One thread owns the engine; the routes, which live in asyncio's thread, hand it answers and read how they grow."""

from __future__ import annotations

import asyncio
import queue
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from vernacular.foundation.errors import UserError
from vernacular.inference.answer import Answer, Pieces
from vernacular.inference.serving.errors import ApiError, bad_request
from vernacular.models.language_model import Generation, TokenLogProbability

Result = TypeVar("Result")


class AnswersStepwise(Protocol):
    """What is needed of the engine here."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        ...

    @property
    def statistics(self) -> Any:
        """Counts, for the metrics."""
        ...

    def submit(self, answer: Answer) -> None:
        """Queue an answer; `UserError` if it can never fit."""
        ...

    def step(self) -> Sequence[Answer]:
        """One forward pass; the answers that got a token in it."""
        ...

    def cancel(self, answer: Answer) -> None:
        """Give up an answer."""
        ...


class Progress(NamedTuple):
    """What came of an answer since the last time.

    Attributes:
        text: what can be shown now (only of a ticket that follows).
        num_tokens: tokens drawn.
        log_probabilities: of the tokens drawn, where they were asked for.
        finished: the whole answer, once it is finished.
    """

    text: str
    num_tokens: int
    log_probabilities: tuple[TokenLogProbability, ...]
    finished: Generation | None


class Ticket:
    """A request's answers while they are being made; read `events` until all are finished, then `close`."""

    def __init__(self, loop: EngineLoop, answers: Sequence[Answer], follow: bool) -> None:
        self.answers = answers
        self._loop = loop
        self._followed = [_Followed(answer, follow) for answer in answers]
        self._events: asyncio.Queue[tuple[int, Progress] | ApiError | None] = asyncio.Queue()
        self._asyncio = asyncio.get_running_loop()
        self._unfinished = len(answers)

    async def accepted(self) -> None:
        """Wait until the engine has taken all answers into its queue; raises what it refused."""
        first = await self._events.get()
        if first is not None:
            assert isinstance(first, ApiError)
            raise first

    async def events(self) -> AsyncIterator[tuple[int, Progress]]:
        """The number of an answer and its progress, until all are finished."""
        while self._unfinished:
            event = await self._events.get()
            if isinstance(event, ApiError):
                raise event
            assert event is not None
            self._unfinished -= event[1].finished is not None
            yield event

    def close(self) -> None:
        """Give up what is not finished."""
        self._loop.withdraw(self)

    def tell(self, event: tuple[int, Progress] | ApiError | None) -> None:
        """From the engine's thread: pass an event on."""
        self._asyncio.call_soon_threadsafe(self._events.put_nowait, event)

    def tell_all(self, told: Sequence[tuple[Ticket, tuple[int, Progress]]]) -> None:
        """From the engine's thread: pass an event on to each ticket, of this asyncio loop all."""
        self._asyncio.call_soon_threadsafe(_hand_out, told)

    def progress(self, number: int) -> Progress:
        """From the engine's thread: what came of an answer since the last time."""
        return self._followed[number].take()


def _hand_out(told: Sequence[tuple[Ticket, tuple[int, Progress]]]) -> None:
    for ticket, event in told:
        ticket._events.put_nowait(event)


class EngineLoop:
    """The engine's thread. If the engine fails, every request fails with it, and no other is taken."""

    def __init__(self, engine: AnswersStepwise) -> None:
        self._engine = engine
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._tickets: set[Ticket] = set()
        self._owners: dict[int, tuple[Ticket, int]] = {}
        self._calls: set[asyncio.Future[Any]] = set()
        self._stopping = False
        self._refusal: Callable[[], ApiError] | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.failure: str | None = None
        self.statistics = engine.statistics

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def break_off(self) -> None:
        """Tell every request that the server is shutting down, and take no other."""
        self._refuse_all(_shutting_down)

    def stop(self) -> None:
        """Give up all answers, telling nobody, and end the thread; returns when it has ended."""
        self._orders.put(self._stop)
        self._thread.join()

    def submit(self, answers: Sequence[Answer], *, follow: bool) -> Ticket:
        """Hand answers to the engine.

        Args:
            answers: fresh ones; the engine's thread owns them from here on.
            follow: whether their text is wanted as it comes.
        """
        ticket = Ticket(self, answers, follow)
        with self._lock:
            if self._refusal is not None:
                raise self._refusal()
            self._tickets.add(ticket)
        self._orders.put(lambda: self._submit(ticket))
        return ticket

    async def call(self, work: Callable[[], Result]) -> Result:
        """Have the engine's thread do something between two steps; what it raises is raised here."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._refusal is not None:
                raise self._refusal()
            self._calls.add(future)
        try:
            self._orders.put(lambda: _work(work, future))
            return await future
        finally:
            with self._lock:
                self._calls.discard(future)

    def withdraw(self, ticket: Ticket) -> None:
        """Take unfinished answers back. Nothing happens to finished ones."""
        with self._lock:
            known = ticket in self._tickets
            self._tickets.discard(ticket)
        if known:
            self._orders.put(lambda: self._cancel(ticket))

    # ------------------------------------------------------------------------------------------ the engine's thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_orders()
                if not self._engine.is_idle:
                    self._deliver(self._engine.step())
                self.statistics = self._engine.statistics
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread, those who wait are to be told
            self._fail(error)

    def _take_orders(self) -> None:
        """Carry out what the routes ask for; with nothing else to do, wait for it."""
        while not self._stopping:
            try:
                order = self._orders.get(block=self._engine.is_idle)
            except queue.Empty:
                return
            order()
            self.statistics = self._engine.statistics

    def _submit(self, ticket: Ticket) -> None:
        try:
            for number, answer in enumerate(ticket.answers):
                self._engine.submit(answer)
                self._owners[id(answer)] = (ticket, number)
        except UserError as error:
            self._cancel(ticket)
            self._tell(ticket, bad_request(error))
        else:
            self._tell(ticket, None)

    def _tell(self, ticket: Ticket, event: ApiError | None) -> None:
        """Nothing more, once all have been told of the end: their asyncio loop may be gone."""
        if self._refusal is None:
            ticket.tell(event)

    def _cancel(self, ticket: Ticket) -> None:
        for answer in ticket.answers:
            if self._owners.pop(id(answer), None) is not None:
                self._engine.cancel(answer)

    def _deliver(self, answers: Sequence[Answer]) -> None:
        """Tell of a step's tokens, all at once: waking the other thread takes longer than telling it."""
        told: list[tuple[Ticket, tuple[int, Progress]]] = []
        for answer in answers:
            ticket, number = self._owners[id(answer)]
            progress = ticket.progress(number)
            if progress.finished is not None:
                del self._owners[id(answer)]
            told.append((ticket, (number, progress)))
        if told and self._refusal is None:
            told[0][0].tell_all(told)

    def _stop(self) -> None:
        self._stopping = True
        for ticket in {ticket for ticket, _ in self._owners.values()}:
            self._cancel(ticket)

    def _fail(self, error: BaseException) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__} at {place.filename}:{place.lineno}"
        self.failure = reason
        if self._refusal is None:
            self._refuse_all(lambda: _dead(reason))

    def _refuse_all(self, refusal: Callable[[], ApiError]) -> None:
        """End every request with an error; from either thread."""
        with self._lock:
            self._refusal = refusal
            tickets, calls = list(self._tickets), list(self._calls)
        for ticket in tickets:
            ticket.tell(refusal())
        for future in calls:
            future.get_loop().call_soon_threadsafe(_settle, future, None, refusal())


class _Followed:
    """How far an answer has been told of."""

    def __init__(self, answer: Answer, follow: bool) -> None:
        self._answer = answer
        self._pieces = Pieces(answer) if follow else None
        self._told = 0

    def take(self) -> Progress:
        answer = self._answer
        text = "".join(self._pieces.take()) if self._pieces is not None else ""
        before, self._told = self._told, len(answer.ids)
        found = tuple(answer.log_probabilities[before:]) if answer.sampling.log_probabilities is not None else ()
        finished = answer.generation() if answer.stopped_by is not None else None
        return Progress(text, self._told - before, found, finished)


def _work(work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
    value, error = None, None
    try:
        value = work()
    except Exception as problem:  # noqa: BLE001 - it goes to whoever asked for the work, and the engine goes on
        error = problem
    future.get_loop().call_soon_threadsafe(_settle, future, value, error)


def _settle(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


def _shutting_down() -> ApiError:
    return ApiError(503, "the server is shutting down; ask again later", code="shutting_down")


def _dead(reason: str) -> ApiError:
    return ApiError(503, f"the engine has failed ({reason}); the server must be restarted", code="engine_failed")
