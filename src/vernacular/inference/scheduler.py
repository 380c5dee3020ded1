"""Who gets how many tokens in the next forward pass. No tensors here.

Answers that are being written come first, one token each; what is left of the step's tokens goes to prompts, in
chunks, first come first served. Where pages run out, the request that came last gives its pages up and computes them
again later. Only younger requests make way for older ones, so the oldest always moves, and all get their turn.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from vernacular.foundation.errors import UserError
from vernacular.inference.pages import PAGE_TOKENS, Pages, page_digest, pages_for

GIVEN_BACK = -1
"""In a request's pages: one that the window has left behind."""


class Asks(Protocol):
    """What is needed of an answer here."""

    @property
    def prompt(self) -> Sequence[int]:
        """Token ids, at least one."""
        ...

    @property
    def limit(self) -> int:
        """Most tokens of the answer."""
        ...


class Request:
    """A sequence in the making: its tokens, and where the computed ones lie.

    Attributes:
        number: order of arrival.
        tokens: the prompt, then the answer so far.
        computed: how many of them have their keys and values in pages.
        pages: page of each `PAGE_TOKENS` tokens.
        first_held: the first of them that was not given back.
        is_running: whether it was let in: it may hold pages.
        most_pages: pages that it ever holds at once, at least, if it is read token by token.
    """

    def __init__(self, asks: Asks, number: int, most_pages: int) -> None:
        self.asks = asks
        self.number = number
        self.tokens = list(asks.prompt)
        self.most_pages = most_pages
        self.computed = 0
        self.pages = array("i")
        self._digests: list[bytes] = []
        self.first_held = 0
        self.num_announced = 0
        self.is_running = False

    @property
    def left(self) -> int:
        """Tokens that are not computed yet; one, when an answer is being written."""
        return len(self.tokens) - self.computed

    def digest(self, page: int) -> bytes:
        """Of the request's page of this number, which must be full."""
        while len(self._digests) <= page:
            start = len(self._digests) * PAGE_TOKENS
            before = self._digests[-1] if self._digests else b""
            self._digests.append(page_digest(before, self.tokens[start : start + PAGE_TOKENS]))
        return self._digests[page]


class Chunk(NamedTuple):
    """Tokens of one request to be computed in the next step."""

    request: Request
    start: int
    num_tokens: int

    @property
    def draws(self) -> bool:
        """Whether the token after the chunk is to be drawn."""
        return self.start + self.num_tokens == len(self.request.tokens)


class Scheduler:
    """Shares out `pages` and the tokens of each step.

    Args:
        pages: the cache's pages.
        tokens_per_step: most tokens in one forward pass.
        most_rows: most requests that hold pages at once.
        window: keys that a token may look at, itself included; None for all before it.
    """

    def __init__(self, pages: Pages, *, tokens_per_step: int, most_rows: int, window: int | None = None) -> None:
        self.pages = pages
        self.tokens_per_step, self.most_rows, self.window = tokens_per_step, most_rows, window
        self.running: list[Request] = []
        self.waiting: list[Request] = []
        self.num_hit_tokens = 0
        self.num_preemptions = 0
        self._arrivals = 0

    def submit(self, asks: Asks) -> Request:
        """Queue a request; refused where it could not be answered even alone."""
        # The last token of an answer is never read.
        most_pages = self._at_once(pages_for(len(asks.prompt) + asks.limit - 1))
        if most_pages > self.pages.total:
            raise UserError(
                f"a prompt of {len(asks.prompt)} tokens and an answer of up to {asks.limit} take {most_pages} pages "
                f"of {PAGE_TOKENS} tokens; the cache has {self.pages.total}",
                where="cache_bytes",
                fix="shorten the prompt, lower max_new_tokens, or give the engine a larger cache (cache_bytes)",
            )
        request = Request(asks, self._arrivals, most_pages)
        self._arrivals += 1
        self.waiting.append(request)
        return request

    def plan(self) -> list[Chunk]:
        """The next step. Pages for its tokens are taken; `advance` is to be called when they are computed."""
        step: dict[int, Chunk] = {}
        budget = self.tokens_per_step
        writing = [request for request in self.running if request.left == 1]
        reading = [request for request in self.running if request.left > 1]
        for request in (*writing, *reading):
            # Others in this list may have been made to wait meanwhile.
            if budget and request.is_running:
                budget -= self._add(request, budget, step)
        while budget and self.waiting and len(self.running) < self.most_rows:
            first = self.waiting[0]
            if not self._admit(first):
                break
            budget -= self._add(first, budget, step)
        return list(step.values())

    def advance(self, step: Sequence[Chunk]) -> None:
        """The step's tokens are computed: pages that every further token's window leaves behind are given back."""
        for request, start, count in step:
            request.computed = start + count
            first = self._first_seen(request.computed)
            for place in range(request.first_held, min(first, len(request.pages))):
                self.pages.give_back(request.pages[place])
                request.pages[place] = GIVEN_BACK
            request.first_held = max(request.first_held, first)

    def remove(self, request: Request) -> None:
        """Finished or no longer wanted: its pages are free."""
        if request.is_running:
            self._leave(request)
        else:
            self.waiting.remove(request)

    # ------------------------------------------------------------------------------------------ within

    def _first_seen(self, position: int) -> int:
        """The first page that a token at `position`, or one after it, looks at."""
        return 0 if self.window is None else max(0, position - self.window + 1) // PAGE_TOKENS

    def _at_once(self, num_pages: int) -> int:
        """How many of a sequence's pages are held at once, at least: a window of tokens, however it lies on pages."""
        if self.window is None:
            return num_pages
        return min(num_pages, (self.window + PAGE_TOKENS - 2) // PAGE_TOKENS + 1)

    def _add(self, request: Request, budget: int, step: dict[int, Chunk]) -> int:
        """Give the request as many tokens as budget and pages allow; return how many."""
        wanted = min(request.left, budget)
        room = len(request.pages) * PAGE_TOKENS - request.computed
        while room == 0 and self.pages.num_free == 0:
            youngest = next((other for other in reversed(self.running) if other.number not in step), request)
            if youngest.number <= request.number:
                return 0
            self._preempt(youngest)
        new_pages = min(max(0, pages_for(wanted - room)), self.pages.num_free)
        request.pages.extend(self.pages.take() for _ in range(new_pages))
        count = min(wanted, room + new_pages * PAGE_TOKENS)
        step[request.number] = Chunk(request, request.computed, count)
        self._announce(request, (request.computed + count) // PAGE_TOKENS)
        return count

    def _announce(self, request: Request, num_full: int) -> None:
        """Make the request's full pages findable.

        This is done before they are computed: within a step, every layer writes all keys before any is read, so
        another request of the same step may already look at them.
        """
        for place in range(request.num_announced, num_full):
            if place >= request.first_held:
                self.pages.announce(request.pages[place], request.digest(place))
        request.num_announced = max(request.num_announced, num_full)

    def _admit(self, request: Request) -> bool:
        """Take the first in the queue in, if there are pages for what of it is not in pages already.

        A page more for each that is running is left free: else the newcomer would soon have to make way again.
        """
        found = list(self._find(request))
        for page in found:
            if page != GIVEN_BACK:
                self.pages.hold(page)
        request.pages = array("i", found)
        request.computed = len(found) * PAGE_TOKENS
        request.first_held = sum(page == GIVEN_BACK for page in found)
        request.num_announced = len(found)
        needed = self._at_once(pages_for(len(request.tokens))) - (len(found) - request.first_held)
        if self.running and needed + len(self.running) > self.pages.num_free:
            self._release(request)
            return False
        self.num_hit_tokens += request.computed
        request.is_running = True
        insort(self.running, self.waiting.pop(0), key=_number)
        return True

    def _find(self, request: Request) -> Iterator[int]:
        """Pages of the longest beginning that need not be computed again; at least one token is left over."""
        found: list[int] = []
        longest = unbroken = 0
        for place in range((len(request.tokens) - 1) // PAGE_TOKENS):
            page = self.pages.find(request.digest(place))
            found.append(GIVEN_BACK if page is None else page)
            unbroken = 0 if page is None else unbroken + 1
            first = self._first_seen((place + 1) * PAGE_TOKENS)
            if unbroken >= place + 1 - first:
                longest = place + 1
            elif self.window is None:
                break
        first = self._first_seen(longest * PAGE_TOKENS)
        return (page if place >= first else GIVEN_BACK for place, page in enumerate(found[:longest]))

    def _preempt(self, request: Request) -> None:
        self.num_preemptions += 1
        self._leave(request)
        insort(self.waiting, request, key=_number)

    def _leave(self, request: Request) -> None:
        request.is_running = False
        self.running.remove(request)
        self._release(request)

    def _release(self, request: Request) -> None:
        # The last page first: what is kept is lost from its end, for a beginning is of use without it.
        for page in reversed(request.pages):
            if page != GIVEN_BACK:
                self.pages.give_back(page)
        request.pages = array("i")
        request.computed = request.first_held = request.num_announced = 0


def _number(request: Request) -> int:
    return request.number
