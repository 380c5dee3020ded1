"""A source that a language model writes, with a real server that fails, stalls, answers nonsense, and one that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from misbehaving import BROKEN, STALL, FakeServer, Reply, sends
from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.curation import curate
from vernacular.corpus.synthetic import asking
from vernacular.corpus.synthetic.asking import ask, read_answers
from vernacular.corpus.synthetic.endpoint import EndpointConfiguration
from vernacular.corpus.synthetic.prompts import read_requests
from vernacular.foundation.configuration import validate
from vernacular.foundation.endpoint import Unreachable
from vernacular.foundation.errors import MachineError, UserError

ROOT = Path(__file__).resolve().parents[2]
TOPICS = ["rzece", "lesie", "zimie", "kotach", "chlebie", "moście"]
PROMPTS = """\
prompts:
  - name: opowieść
    system: Piszesz po polsku, {styl}.
    prompt: "Opowiedz o {temat}. Nie używaj znaków {{ i }}."
    language: "{kod}"
"""
KEY = "sk-secret-4711"


def chat(text: str, finish: str = "stop", tokens: int | None = 40) -> Reply:
    value: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": finish}]}
    return sends(value if tokens is None else {**value, "usage": {"total_tokens": tokens}})


def story(number: int) -> str:
    return f"Było to dnia numer {number}. Nad wodą stał stary dom, a w nim ktoś opowiadał o {TOPICS[number % 6]}."


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "prompts.yaml").write_text(PROMPTS, encoding="utf-8")
    seeds = [{"temat": topic, "styl": "prosto", "kod": "pl"} for topic in TOPICS]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    monkeypatch.setattr(asking.time, "sleep", lambda seconds: None)
    return tmp_path


def source(place: Path, url: str, **changes: Any) -> EndpointConfiguration:
    given = {
        "url": url,
        "model": "mały",
        "prompts": str(place / "prompts.yaml"),
        "seeds": str(place / "seeds.jsonl"),
        "cache": str(place / "cache"),
        "budget": {"requests": 100, "tokens": 100_000},
        "at_once": 1,
        "retries": 1,
        "timeout": 20,
        **changes,
    }
    return validate(EndpointConfiguration, given)


def curated(settings: EndpointConfiguration, out: Path) -> dict[str, Any]:
    given = {
        "sources": [{"name": "pisane", "endpoint": settings.model_dump()}],
        "heldout": {"share": 0, "at_least": 0},
        "near_duplicates": {"enabled": False},
        "engine": {"workers": 1},
    }
    return curate(validate(CurateConfiguration, given), out)


def test_answers_become_documents_that_say_where_they_are_from(server: FakeServer, place: Path) -> None:
    server.replies.extend(chat(story(number)) for number in range(6))
    server.replies.popleft()
    settings = source(place, server.url)
    summary = curated(settings, place / "out")
    assert (summary["documents"], summary["quarantined"]) == (6, 0)
    system, user = server.asked[0]["messages"]
    assert system == {"role": "system", "content": "Piszesz po polsku, prosto."}
    assert user["content"] == "Opowiedz o rzece. Nie używaj znaków { i }."
    rows = pq.read_table(place / "out/documents/train").to_pylist()
    assert {row["text"] for row in rows} == {story(number) for number in range(6)}
    assert {row["language"] for row in rows} == {"pl"}
    hashes = {request.hash[:12]: request.origin for request in read_requests(settings)}
    names = {f"mały: {origin} ({hash_})" for hash_, origin in hashes.items()}
    assert {row["provenance"] for row in rows} == names
    assert "mały: opowieść, seed 3, answer 1" in " ".join(names)

    # Again, with the server gone: everything is in the cache, and the artifact is the same.
    server.stop()
    assert len(server.asked) == 6
    curated(source(place, "http://127.0.0.1:9/v1", at_once=3, timeout=1), place / "again")
    for name in ("report.json", "documents/train/00000.parquet"):
        assert (place / "out" / name).read_bytes() == (place / "again" / name).read_bytes()


def test_a_server_that_fails_stalls_and_talks_nonsense(server: FakeServer, place: Path) -> None:
    server.replies.clear()
    server.replies.extend(
        [
            *(Reply(503), chat(story(0))),  # tried again
            *(STALL, chat(story(1))),  # tried again after the time-out
            *(BROKEN, BROKEN),  # no answer
            chat("Nie."),  # too short
            chat(story(4), finish="length"),  # cut off
            sends({"choices": [{"message": {"content": None}}]}),  # nonsense
        ]
    )
    settings = source(place, server.url, timeout=3, maximum_failures=0.5)
    summary = curated(settings, place / "out")
    assert (summary["documents"], summary["quarantined"]) == (2, 4)
    lines = (place / "out/logs/quarantine.jsonl").read_text().splitlines()
    errors = {entry["line"]: entry["error"] for entry in map(json.loads, lines)}
    assert errors[3].startswith("the server gave no answer — mały: opowieść, seed 3, answer 1 (")
    assert errors[4].startswith("the answer has 4 characters, fewer than 20")
    assert errors[5].startswith("the answer was cut off after 1024 tokens")
    assert errors[6].startswith("the server gave no answer")
    report = json.loads((place / "out/report.json").read_text())
    assert report["endpoints"] == {"pisane": {"requests": 6, "answered": 4}}
    spent = [json.loads(line) for line in (place / "cache/spent.jsonl").read_text().splitlines()]
    assert sum(entry["requests"] for entry in spent) == 9
    # Another run asks only for what has no answer.
    asked = len(server.asked)
    server.replies.clear()
    server.replies.extend([chat(story(2)), chat(story(5))])
    assert curated(settings, place / "second")["documents"] == 4
    assert len(server.asked) == asked + 2


def test_too_many_failures_stop_it_and_keep_what_was_answered(server: FakeServer, place: Path) -> None:
    server.replies.clear()
    server.replies.extend([chat(story(0)), Reply(500, b"no room")])
    with pytest.raises(MachineError, match=r"1 of 6 requests have no answer; most often: .*status 500: no room"):
        ask("s", source(place, server.url))
    assert len(list((place / "cache").glob("*/*.json"))) == 1
    with pytest.raises(Unreachable, match="nothing listens"):
        ask("s", source(place, "http://127.0.0.1:9/v1"))


def test_the_budget_is_never_exceeded(server: FakeServer, place: Path) -> None:
    server.replies.clear()
    server.replies.append(chat(story(0), tokens=500))
    with pytest.raises(UserError, match="6 of 6 answers are missing, and 0 of the 5 requests"):
        ask("s", source(place, server.url, budget={"requests": 5, "tokens": 10_000}))
    assert server.asked == []
    # 1,024 tokens and some for the prompt can be spent by each; 500 are.
    tight = source(place, server.url, budget={"requests": 50, "tokens": 2_200}, at_once=4)
    with pytest.raises(UserError, match=r"1,500 of 2,200 tokens are spent, and the next can cost"):
        ask("s", tight)
    assert len(server.asked) == 3
    with pytest.raises(UserError, match="1,500 of 2,200 tokens are spent"):
        ask("s", tight)
    assert len(server.asked) == 3
    assert ask("s", source(place, server.url, budget={"requests": 50, "tokens": 9_000})).answered == 6
    assert len(server.asked) == 6


def test_tries_count_as_requests_and_what_is_not_counted_counts_in_full(server: FakeServer, place: Path) -> None:
    server.replies.clear()
    server.replies.extend([Reply(500), chat(story(0), tokens=None), Reply(500)])
    settings = source(place, server.url, budget={"requests": 7, "tokens": 100_000}, retries=9, maximum_failures=1)
    with pytest.raises(UserError, match="7 of 7 requests are spent"):
        ask("s", settings)
    assert len(server.asked) == 7
    spent = [json.loads(line) for line in (place / "cache/spent.jsonl").read_text().splitlines()]
    first = next(iter(read_requests(settings)))
    assert sum(entry["tokens"] for entry in spent) == first.most_tokens


def test_the_key_is_sent_and_told_to_nobody(
    server: FakeServer, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PISARZ", KEY)
    server.replies.clear()
    server.replies.extend([chat(story(0)), sends({"error": {"message": f"bad request of {KEY}"}}, 400), chat(story(1))])
    ask("s", source(place, server.url, key_from="PISARZ", maximum_failures=0.5))
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert "bad request of …" in capsys.readouterr().err
    server.replies.append(sends({"error": {"message": f"unknown key {KEY}"}}, 401))
    server.replies.popleft()
    with pytest.raises(UserError, match="unknown key …"):
        ask("s", source(place, server.url, key_from="PISARZ", seed=7))
    kept = [path.read_bytes() for path in place.rglob("*") if path.is_file()]
    assert kept and not any(KEY.encode() in content for content in kept)
    monkeypatch.delenv("PISARZ")
    with pytest.raises(UserError, match="PISARZ is to hold the server's key"):
        ask("s", source(place, server.url, key_from="PISARZ", seed=8))


def test_killed_it_goes_on_with_what_was_answered(server: FakeServer, place: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from vernacular.corpus.synthetic import answer_cache, asking
from vernacular.corpus.synthetic.endpoint import EndpointConfiguration
kept, put = 0, answer_cache.AnswerCache.put
def killing(self, request, answer):
    global kept
    if kept == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    kept += 1
    put(self, request, answer)
answer_cache.AnswerCache.put = killing
asking.ask("s", EndpointConfiguration.model_validate({source(place, server.url).model_dump()!r}))
"""
    server.replies.clear()
    server.replies.append(chat(story(1)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(server.asked) == 4
    assert ask("s", source(place, server.url)).answered == 6
    assert len(server.asked) == 7
    assert sum(json.loads(line)["requests"] for line in (place / "cache/spent.jsonl").open()) == 7


def test_several_requests_are_under_way_at_once(server: FakeServer, place: Path) -> None:
    import threading

    server.replies.clear()
    server.replies.append(chat(story(0)))
    server.barrier = threading.Barrier(3)
    assert ask("s", source(place, server.url, at_once=3)).answered == 6
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    ("prompts", "seeds", "match"),
    [
        ("prompts: [{name: a, prompt: 'O {temacie}'}]", '{"temat": "x"}', "names the field 'temacie'"),
        ("prompts: [{name: a, prompt: 'O {a.b}'}]", '{"a": "x"}', "is no placeholder"),
        ("prompts: [{name: a, prompt: 'O {a'}]", '{"a": "x"}', "not a text with"),
        ("prompts: [{name: a, prompt: x}, {name: a, prompt: y}]", "{}", "two prompts are called 'a'"),
        ("prompts: [{name: a, prompt: x}]", "", "there are no seeds"),
        ("prompts: [{name: a, prompt: x}]", "[1]", "expected a JSON object"),
        ("prompts: []", "{}", "prompts"),
    ],
)
def test_prompts_and_seeds_that_are_wrong(prompts: str, seeds: str, match: str, place: Path) -> None:
    (place / "prompts.yaml").write_text(prompts)
    (place / "seeds.jsonl").write_text(seeds)
    with pytest.raises(UserError, match=match) as caught:
        ask("s", source(place, "http://127.0.0.1:9/v1"))
    assert "prompts.yaml" in str(caught.value.where) or "seeds.jsonl" in str(caught.value.where)


def test_an_altered_answer_is_refused(server: FakeServer, place: Path) -> None:
    server.replies.clear()
    server.replies.append(chat(story(0)))
    settings = source(place, server.url)
    ask("s", settings)
    path = next((place / "cache").glob("*/*.json"))
    path.write_text(path.read_text().replace("Opowiedz", "Opowiadaj"))
    with pytest.raises(UserError, match="not the answer to its request") as caught:
        list(read_answers(settings))
    assert str(path) in str(caught.value.where)
