"""Whatever is asked in whatever order: no page is lost or given back twice, and everybody gets an answer."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.foundation.errors import UserError
from vernacular.inference.pages import PAGE_TOKENS, Pages, page_digest
from vernacular.inference.scheduler import GIVEN_BACK, Chunk, Request, Scheduler

WINDOWS = st.sampled_from([None, 1, 2, 31, 32, 33, 70])


class Asked(NamedTuple):
    """A prompt and the length of its answer."""

    prompt: tuple[int, ...]
    limit: int


# Few different tokens and a stock of beginnings, so that prompts share pages.
BEGINNINGS = [(), tuple(range(40)), tuple(range(64)), tuple(range(130)), (*range(32), *range(7, 90))]
ASKED = st.builds(
    lambda beginning, rest, limit: Asked((*beginning, *rest, 1), limit),
    st.sampled_from(BEGINNINGS),
    st.lists(st.integers(0, 3), max_size=50),
    st.integers(1, 80),
)
ACTIONS = st.lists(
    st.one_of(ASKED, st.just("step"), st.just("step"), st.tuples(st.just("cancel"), st.integers(0, 99))), max_size=60
)


class Simulation:
    """Drives a scheduler as the engine does, and checks it at every turn."""

    def __init__(self, num_pages: int, tokens_per_step: int, most_rows: int, window: int | None) -> None:
        self.pages = Pages(num_pages)
        self.scheduler = Scheduler(self.pages, tokens_per_step=tokens_per_step, most_rows=most_rows, window=window)
        self.window = window
        self.open: list[Request] = []
        self.finished = 0
        # What stands in each slot of the memory: the tokens up to it, as a key of their own.
        self.memory: dict[int, tuple[int, ...]] = {}

    def submit(self, asked: Asked) -> None:
        try:
            self.open.append(self.scheduler.submit(asked))
        except UserError:
            assert self.window is None or self.pages.total < (self.window - 2) // PAGE_TOKENS + 2
            assert len(asked.prompt) + asked.limit > PAGE_TOKENS * self.pages.total

    def step(self) -> list[Chunk]:
        step = self.scheduler.plan()
        assert step or not self.open
        assert sum(chunk.num_tokens for chunk in step) <= self.scheduler.tokens_per_step
        assert len(self.scheduler.running) <= self.scheduler.most_rows
        assert len({chunk.request.number for chunk in step}) == len(step)
        self.check_pages()
        for request, start, num_tokens in step:
            assert num_tokens > 0
            for position in range(start, start + num_tokens):
                slot = request.pages[position // PAGE_TOKENS] * PAGE_TOKENS + position % PAGE_TOKENS
                assert slot >= 0
                self.memory[slot] = tuple(request.tokens[: position + 1])
        for request, start, num_tokens in step:
            self.check_keys(request, start, num_tokens)
        draws = [chunk.request for chunk in step if chunk.draws]
        self.scheduler.advance(step)
        for request in draws:
            request.tokens.append(len(request.tokens) % 5)
            if len(request.tokens) == len(request.asks.prompt) + request.asks.limit:
                self.remove(request)
                self.finished += 1
        self.check_pages()
        return step

    def check_keys(self, request: Request, start: int, num_tokens: int) -> None:
        """Every key that the chunk's tokens look at is that of their own sequence."""
        first = 0 if self.window is None else max(0, start - self.window + 1)
        for position in range(first, start + num_tokens):
            slot = request.pages[position // PAGE_TOKENS] * PAGE_TOKENS + position % PAGE_TOKENS
            assert self.memory[slot] == tuple(request.tokens[: position + 1])

    def remove(self, request: Request) -> None:
        self.scheduler.remove(request)
        self.open.remove(request)

    def check_pages(self) -> None:
        """A page is held as often as requests hold it, and all others are free."""
        held = Counter(page for request in self.open for page in request.pages if page != GIVEN_BACK)
        assert self.pages.num_free == self.pages.total - len(held)
        assert dict(held) == self.pages._holders
        assert all(0 <= page < self.pages.total for page in held)


@settings(max_examples=150, deadline=None)
@given(
    actions=ACTIONS,
    num_pages=st.integers(1, 14),
    tokens_per_step=st.sampled_from([1, 5, 32, 100, 512]),
    most_rows=st.integers(1, 6),
    window=WINDOWS,
)
def test_no_page_is_lost_and_everybody_is_answered(actions, num_pages, tokens_per_step, most_rows, window) -> None:
    simulation = Simulation(num_pages, tokens_per_step, most_rows, window)
    submitted = cancelled = 0
    for action in actions:
        if isinstance(action, Asked):
            before = len(simulation.open)
            simulation.submit(action)
            submitted += len(simulation.open) - before
        elif action == "step":
            simulation.step()
        elif simulation.open:
            simulation.remove(simulation.open[action[1] % len(simulation.open)])
            cancelled += 1
        simulation.check_pages()
    # Every token could be computed again after each of the others was.
    left = sum(len(request.asks.prompt) + request.asks.limit for request in simulation.open)
    for _ in range(left * (len(simulation.open) + 1)):
        if not simulation.open:
            break
        simulation.step()
    assert simulation.finished + cancelled == submitted
    assert simulation.pages.num_free == num_pages
    assert not simulation.scheduler.running
    assert not simulation.scheduler.waiting


def drive(simulation: Simulation) -> None:
    """Steps until nothing is left to do."""
    for _ in range(5000):
        if not simulation.open:
            return
        simulation.step()
    raise AssertionError("it goes on for ever")


def test_answers_go_before_prompts_and_prompts_come_in_chunks() -> None:
    simulation = Simulation(100, tokens_per_step=10, most_rows=8, window=None)
    simulation.submit(Asked((1,) * 6, 40))
    simulation.step()
    simulation.submit(Asked((2,) * 25, 3))
    shares = [[chunk.num_tokens for chunk in simulation.step()] for _ in range(4)]
    assert shares == [[1, 9], [1, 9], [1, 7], [1, 1]]


def test_first_come_first_served() -> None:
    simulation = Simulation(100, tokens_per_step=512, most_rows=2, window=None)
    for number in range(4):
        simulation.submit(Asked((number,) * 3, 2))
    order = [[chunk.request.number for chunk in simulation.step()] for _ in range(4)]
    assert order == [[0, 1], [0, 1], [2, 3], [2, 3]]


def test_a_shared_beginning_is_computed_once_even_within_a_step() -> None:
    simulation = Simulation(100, tokens_per_step=512, most_rows=8, window=None)
    beginning = tuple(range(70))
    for number in range(3):
        simulation.submit(Asked((*beginning, number), 2))
    assert [chunk.num_tokens for chunk in simulation.step()] == [71, 7, 7]
    assert simulation.scheduler.num_hit_tokens == 128
    drive(simulation)
    simulation.submit(Asked(beginning, 1))
    assert [chunk.num_tokens for chunk in simulation.step()] == [6]


def test_a_whole_prompt_that_is_known_still_computes_its_last_token() -> None:
    simulation = Simulation(100, tokens_per_step=512, most_rows=8, window=None)
    prompt = tuple(range(2 * PAGE_TOKENS))
    for _ in range(2):
        simulation.submit(Asked(prompt, 1))
        simulation.step()
    assert simulation.scheduler.num_hit_tokens == PAGE_TOKENS


def test_what_was_unused_longest_makes_room() -> None:
    simulation = Simulation(3, tokens_per_step=512, most_rows=8, window=None)
    prompts = [(letter,) * (PAGE_TOKENS + 1) for letter in range(3)]
    for prompt in (*prompts[:2], prompts[0], prompts[2], prompts[0], prompts[1]):
        simulation.submit(Asked(prompt, 1))
        drive(simulation)
    # The third prompt took the place of the second's page, not of the first's, which was used again.
    assert simulation.scheduler.num_hit_tokens == 2 * PAGE_TOKENS


def test_the_youngest_makes_way_and_comes_back() -> None:
    simulation = Simulation(5, tokens_per_step=512, most_rows=8, window=None)
    simulation.submit(Asked((1,) * 60, 60))
    simulation.submit(Asked((2,) * 60, 20))
    for _ in range(60):
        simulation.step()
        assert simulation.finished or simulation.scheduler.running[0].number == 0
    assert simulation.scheduler.num_preemptions >= 1
    drive(simulation)
    assert simulation.finished == 2


@pytest.mark.parametrize("window", [2, 32, 100])
def test_a_window_bounds_the_pages_of_a_long_request(window: int) -> None:
    num_pages = (window - 2) // PAGE_TOKENS + 2
    simulation = Simulation(num_pages, tokens_per_step=16, most_rows=8, window=window)
    simulation.submit(Asked(tuple(number % 7 for number in range(1000)), 300))
    drive(simulation)
    assert simulation.finished == 1


def test_what_can_never_fit_is_refused_at_once() -> None:
    simulation = Scheduler(Pages(4), tokens_per_step=512, most_rows=8)
    simulation.submit(Asked((1,) * 100, 29))
    with pytest.raises(UserError, match="take 5 pages of 32 tokens; the cache has 4") as caught:
        simulation.submit(Asked((1,) * 100, 30))
    assert caught.value.where == "cache_bytes"


def test_the_digest_of_a_page_says_what_came_before() -> None:
    first, other = page_digest(b"", [1, 2]), page_digest(b"", [1, 3])
    assert len({first, other, page_digest(first, [1, 2]), page_digest(other, [1, 2])}) == 4
    assert page_digest(first, (1, 2)) == page_digest(first, [1, 2])


def test_pages_refuse_what_is_wrong() -> None:
    pages = Pages(1)
    page = pages.take()
    with pytest.raises(IndexError, match="all 1 pages are held"):
        pages.take()
    pages.give_back(page)
    with pytest.raises(KeyError):
        pages.give_back(page)
    page = pages.take()
    pages.announce(page, b"x")
    pages.give_back(page)
    assert pages.find(b"x") == page
    pages.forget()
    assert pages.find(b"x") is None
    assert pages.take() == page
