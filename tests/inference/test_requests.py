"""A request's life: who waits, who stops, what is refused, and what it held is free afterwards."""

from __future__ import annotations

import pytest

from random_decoders import (
    Numbers,
    answer_to,
    make_decoder,
    make_prompts,
    run,
)
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import InternalError, UserError
from vernacular.inference.engine import Engine, EngineSettings
from vernacular.inference.model import LocalModel
from vernacular.inference.pages import PAGE_TOKENS


def test_a_cancelled_answer_keeps_its_text_and_frees_its_pages() -> None:
    engine = Engine(make_decoder())
    answers = [answer_to(prompt, max_new_tokens=50) for prompt in make_prompts(4)]
    for answer in answers:
        engine.submit(answer)
    for _ in range(3):
        assert engine.step() == answers
    used = engine.statistics.pages_used
    engine.cancel(answers[2])
    assert engine.statistics.pages_used < used
    assert engine.statistics.running == 3
    assert (answers[2].stopped_by, len(answers[2].ids)) == ("cancelled", 3)
    assert answers[2].text == Numbers().decode(answers[2].ids)
    waiting = answer_to([5])
    engine.submit(waiting)
    engine.cancel(waiting)
    assert waiting.stopped_by == "cancelled"
    while not engine.is_idle:
        engine.step()
    engine.cancel(answers[0])
    assert answers[0].stopped_by == "length"
    assert engine.statistics.pages_used == 0


def test_two_callers_take_turns() -> None:
    decoder = make_decoder()
    prompts = make_prompts(6)
    expected = run(decoder, [answer_to(prompt) for prompt in prompts])
    engine = Engine(decoder)
    answers = [answer_to(prompt) for prompt in prompts]
    first, second = engine.run(answers[:3]), engine.run(answers[3:])
    finished = [next(first), *second, *first]
    assert len(finished) == 6
    assert [answer.generation() for answer in answers] == expected


def test_who_stops_listening_frees_the_pages(lm: LocalModel) -> None:
    pieces = lm.stream("Żółta", max_new_tokens=60)
    next(pieces)
    assert lm.engine.statistics.pages_used > 0
    pieces.close()
    assert lm.engine.is_idle
    assert lm.engine.statistics.pages_used == 0


def test_a_step_that_breaks_off_leaves_a_usable_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = make_decoder()
    prompt = make_prompts(2)[1]
    (expected,) = run(decoder, [answer_to(prompt)])
    engine = Engine(decoder)
    with monkeypatch.context() as patched:
        patched.setattr(decoder, "logits", lambda hidden: (_ for _ in ()).throw(InternalError("no memory")))
        answer = answer_to(prompt)
        with pytest.raises(InternalError):
            list(engine.run([answer]))
    assert answer.stopped_by == "cancelled"
    assert engine.is_idle
    again = answer_to(prompt)
    list(engine.run([again]))
    assert again.generation() == expected
    assert engine.statistics.prefix_hit_tokens == 0


def test_a_request_that_can_never_fit_is_refused_before_it_waits() -> None:
    decoder = make_decoder()
    bytes_per_page = decoder.configuration.cache_bytes_per_token(4) * PAGE_TOKENS
    engine = Engine(decoder, EngineSettings(cache_bytes=2 * bytes_per_page))
    with pytest.raises(UserError, match="the cache has 2"):
        engine.submit(answer_to([1] * 60, max_new_tokens=6))
    assert engine.is_idle
    engine.submit(answer_to([1] * 60, max_new_tokens=5))


def test_a_cache_of_less_than_two_pages_is_refused() -> None:
    decoder = make_decoder()
    least = 2 * decoder.configuration.cache_bytes_per_token(4) * PAGE_TOKENS
    with pytest.raises(UserError, match=f"of {least - 1} bytes holds less than 2 pages .* take {least}") as caught:
        Engine(decoder, EngineSettings(cache_bytes=least - 1))
    assert caught.value.where == "cache_bytes"
    assert Engine(decoder, EngineSettings(cache_bytes=least)).statistics.pages_total == 2


@pytest.mark.parametrize(
    ("written", "number"),
    [("4GiB", 4 << 30), ("1.5 MiB", 3 << 19), ("64KiB", 65536), ("900", 900), ("4GB", 0), ("KiB", 0), ("0KiB", 0)],
)
def test_a_cache_may_be_written_with_its_unit(written: str, number: int) -> None:
    if number:
        assert EngineSettings(cache_bytes=written).cache_bytes == number
    else:
        with pytest.raises(UserError):
            validate(EngineSettings, {"cache_bytes": written})
