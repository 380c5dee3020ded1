"""A server's life: clients that leave, orders to stop, an engine that dies, a queue that is full."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from served import ServerProcess, wait_until
from vernacular.inference.answer import Answer
from vernacular.inference.engine_settings import EngineSettings
from vernacular.inference.model import LocalModel
from vernacular.inference.serving.api import Api
from vernacular.inference.serving.keys import ApiKeys
from vernacular.inference.serving.loop import EngineLoop
from vernacular.inference.serving.settings import ServingSettings

ASKED = {"model": "tiny", "prompt": "Żółw", "max_tokens": 5, "temperature": 0}
# As many letters as it takes to be in the middle of it for a while.
LONG = {"model": "tiny", "prompt": "Żółw", "max_tokens": 1900, "stream": True, "grammar": "start: /[a-z]{1500}/"}

CLIENT = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1])
connection.request("POST", "/v1/completions", sys.argv[2])
response = connection.getresponse()
print(response.readline(), flush=True)
sys.stdin.read()
"""


def text_of(lines: list[str]) -> str:
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])


def test_a_client_that_hangs_up_frees_its_slot(server: ServerProcess) -> None:
    with httpx.stream("POST", f"{server.url}/v1/completions", json=LONG) as response:
        lines = response.iter_lines()  # kept: httpx hangs up when it is gone
        next(lines)
        wait_until(lambda: server.metric("running") >= 1)
    wait_until(lambda: server.metric("running") == 0)
    assert server.metric("waiting") == 0
    wait_until(lambda: "status=499" in server.log)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_is_killed_frees_its_slot(server: ServerProcess, stream: bool) -> None:
    gone = server.log.count("status=499")
    words = [sys.executable, "-c", CLIENT, server.url.removeprefix("http://"), json.dumps({**LONG, "stream": stream})]
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: server.metric("running") >= 1)
        if stream:
            assert client.stdout.readline()
    finally:
        client.kill()
        client.wait()
    wait_until(lambda: server.metric("running") == 0)
    wait_until(lambda: server.log.count("status=499") == gone + 1)


def test_told_to_stop_it_finishes_what_it_has(served_weights: Path) -> None:
    running = ServerProcess(served_weights, "--model-name", "tiny")
    with httpx.stream("POST", f"{running.url}/v1/completions", json=LONG) as response:
        lines = response.iter_lines()
        received = [next(lines)]
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "told to stop" in running.log)
        received += lines
    assert len(text_of(received)) == 1500
    assert running.wait() == 0
    assert running.lines[-1].endswith("INFO stopped\n")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/health")


@pytest.mark.parametrize("signals", [1, 2])
def test_its_patience_has_an_end_of_which_everybody_hears(served_weights: Path, signals: int) -> None:
    grace = {1: "0", 2: "60"}[signals]
    running = ServerProcess(served_weights, "--model-name", "tiny", "--grace", grace)
    received: list[list[str]] = [[] for _ in range(6)]

    def read(number: int) -> None:
        with httpx.stream("POST", f"{running.url}/v1/completions", json=LONG, timeout=60) as response:
            received[number] += response.iter_lines()

    clients = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for client in clients:
        client.start()
    wait_until(lambda: running.metric("running") == 6)
    for number in range(signals):
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda told=number + 1: running.log.count("told to stop") == told)
    for client in clients:
        client.join()
    for lines in received:
        last = json.loads([line for line in lines if line][-1].removeprefix("data: "))
        assert last["error"]["code"] == "shutting_down"
        assert "data: [DONE]" not in lines
    assert running.wait() == 0
    assert running.log.count("status=503 code=shutting_down") == 6
    assert "Traceback" not in running.log


def test_texts_are_logged_only_when_asked(served_weights: Path, served_lm: LocalModel) -> None:
    running = ServerProcess(served_weights, "--model-name", "tiny", "--log-text")
    text = httpx.post(f"{running.url}/v1/completions", json=ASKED).json()["choices"][0]["text"]
    assert running.stop(signal.SIGINT) == 0
    logged = next(line for line in running.lines if " text=" in line).partition(" text=")[2]
    assert json.loads(logged) == {"prompt": "Żółw", "answer": text}
    assert "WARNING prompts and answers are written into this log" in running.log


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (("--max-waiting", "0"), {}, "--max-waiting"),
        (("--grace", "inf"), {}, "finite number"),
        (("--max-wating", "1"), {}, "did you mean '--max-waiting'"),
        (("--api-key-file", "nowhere.txt"), {}, "nowhere.txt"),
        ((), {"VERNACULAR_API_KEYS": "good,two words"}, "key 2 holds a blank"),
        (("--api-key", "secret"), {}, "unknown argument '--api-key'"),
    ],
)
def test_it_does_not_start_with_wrong_settings(
    run_cli: Callable[..., Any], served_weights: Path, words: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    done = run_cli("serve", served_weights, *words, code=2, env=env)
    assert said in done.stderr
    assert "two words" not in done.stderr


@pytest.mark.parametrize("verb", ["serve", "batch"])
def test_help_shows_what_the_engine_may_be_told(run_cli: Callable[..., Any], verb: str) -> None:
    shown = " ".join(run_cli(verb, "--help").stdout.split())
    for name, field in EngineSettings.model_fields.items():
        default = "" if field.default is None else f" (default: {field.default})"
        assert f"--{name.replace('_', '-')} VALUE {field.description}{default}" in shown


def test_an_address_in_use_is_said(run_cli: Callable[..., Any], served_weights: Path, server: ServerProcess) -> None:
    done = run_cli("serve", served_weights, "--port", server.url.rpartition(":")[2], code=3)
    assert "cannot listen: Address already in use" in done.stderr


# ---------------------------------------------------------------------------------------- in this process


class Halted:
    """The real engine, whose steps wait for a sign, or fail."""

    def __init__(self, lm: LocalModel) -> None:
        self._engine = lm.engine
        self.may_go = threading.Event()
        self.error: Exception | None = None
        self.submitted: list[Answer] = []

    @property
    def is_idle(self) -> bool:
        return self._engine.is_idle

    @property
    def statistics(self) -> Any:
        return self._engine.statistics

    def submit(self, answer: Answer) -> None:
        self._engine.submit(answer)
        self.submitted.append(answer)

    def cancel(self, answer: Answer) -> None:
        self._engine.cancel(answer)

    def step(self) -> list[Answer]:
        self.may_go.wait()
        if self.error is not None:
            raise self.error
        return self._engine.step()


@asynccontextmanager
async def serving(lm: LocalModel, engine: Halted, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    loop = EngineLoop(engine)
    api = Api(lm, loop, ServingSettings(model_name="tiny", **settings), ApiKeys(()))
    loop.start()
    try:
        transport = httpx.ASGITransport(api.application(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            yield client
    finally:
        engine.may_go.set()
        await asyncio.to_thread(loop.stop)
        for answer in engine.submitted if engine.error is not None else ():
            lm.engine.cancel(answer)  # only its stand-in is dead
        assert lm.engine.statistics.running == lm.engine.statistics.waiting == 0


async def until_not_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while (await client.get("/health/ready")).status_code != 503:
            await asyncio.sleep(0)


def test_a_full_queue_says_so_and_empties(served_lm: LocalModel) -> None:
    async def scene() -> None:
        engine = Halted(served_lm)
        async with serving(served_lm, engine, max_waiting=1) as client:
            first = asyncio.create_task(client.post("/v1/completions", json=ASKED))
            await until_not_ready(client)
            second = await client.post("/v1/completions", json=ASKED)
            assert second.status_code == 429
            assert second.headers["retry-after"] == "1"
            assert second.json()["error"]["code"] == "queue_full"
            many = await client.post("/v1/completions", json={**ASKED, "n": 2})
            assert (many.status_code, many.json()["error"]["code"]) == (400, "too_many_answers")
            engine.may_go.set()
            assert (await first).json()["choices"][0]["text"] == served_lm.tokenizer.decode(answer.ids)
            assert (await client.get("/health/ready")).status_code == 200
            assert (await client.post("/v1/completions", json=ASKED)).status_code == 200

    (answer,) = served_lm.engine.run([served_lm.answer(served_lm.encode_prompt("Żółw"), _five())])
    asyncio.run(scene())


def _five() -> Any:
    from vernacular.models.language_model import Sampling

    return Sampling(max_new_tokens=5)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_is_ended(served_lm: LocalModel, stream: bool) -> None:
    async def scene() -> None:
        engine = Halted(served_lm)
        async with serving(served_lm, engine, timeout=0.2) as client:
            response = await client.post("/v1/completions", json={**ASKED, "stream": stream})
            error = json.loads(response.text.removeprefix("data: "))["error"]
            assert error["code"] == "timeout"
            assert response.status_code == (200 if stream else 504)
            assert "[DONE]" not in response.text
            metrics = (await client.get("/metrics")).text
            assert 'vernacular_requests_total{code="timeout",route="/v1/completions",status="504"} 1.0' in metrics
            assert 'route="/v1/completions",status="200"' not in metrics

    asyncio.run(scene())


@pytest.mark.parametrize("stream", [False, True])
def test_when_the_engine_dies_everybody_hears_of_it(served_lm: LocalModel, stream: bool) -> None:
    async def scene() -> None:
        engine = Halted(served_lm)
        async with serving(served_lm, engine, max_waiting=3) as client:
            assert (await client.get("/health")).status_code == 200
            waiting = [
                asyncio.create_task(client.post("/v1/completions", json={**ASKED, "stream": stream})) for _ in range(3)
            ]
            await until_not_ready(client)
            engine.error = RuntimeError("Tajne: the device fell over")
            engine.may_go.set()
            for response in await asyncio.gather(*waiting):
                error = json.loads(response.text.removeprefix("data: "))["error"]
                assert error["code"] == "engine_failed"
                assert "Tajne" not in response.text
            health = await client.get("/health")
            assert (health.status_code, health.json()["status"]) == (503, "failed")
            later = await client.post("/v1/completions", json=ASKED)
            assert (later.status_code, later.json()["error"]["code"]) == (503, "engine_failed")

    asyncio.run(scene())


def test_a_form_that_cannot_be_followed_is_told_to_its_owner(served_lm: LocalModel) -> None:
    rules = "\n".join(f'b{number}: a | "x" a' for number in range(60))
    knot = "start: a\na: " + " | ".join(f"a a b{number}" for number in range(60)) + f' | "x"\n{rules}'

    async def scene() -> None:
        engine = Halted(served_lm)
        engine.may_go.set()
        async with serving(served_lm, engine) as client:
            asked = {**ASKED, "prompt": "x", "max_tokens": 60, "grammar": knot}
            bad, good = await asyncio.gather(
                client.post("/v1/completions", json=asked), client.post("/v1/completions", json=ASKED)
            )
            assert (bad.status_code, bad.json()["error"]["code"]) == (422, "form_not_followed")
            assert good.status_code == 200

    asyncio.run(scene())


def test_an_accident_is_told_without_its_words(served_lm: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(text: str) -> list[int]:
        raise RuntimeError(f"cannot read {text}")

    monkeypatch.setattr(served_lm, "encode_prompt", fall)

    async def scene() -> None:
        engine = Halted(served_lm)
        async with serving(served_lm, engine) as client:
            response = await client.post("/v1/completions", json=ASKED)
            assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
            assert "Żółw" not in response.text
            assert 'status="500"' in (await client.get("/metrics")).text

    asyncio.run(scene())


def test_what_only_grows_is_a_counter(served_lm: LocalModel) -> None:
    async def scene() -> None:
        engine = Halted(served_lm)
        engine.may_go.set()
        async with serving(served_lm, engine) as client:
            text = (await client.get("/metrics")).text
            for name in ("prefix_hit_tokens", "preemptions"):
                assert f"# TYPE vernacular_{name}_total counter" in text
                value = getattr(served_lm.engine.statistics, name)
                assert f"vernacular_{name}_total {float(value)}" in text.splitlines()

    asyncio.run(scene())


def test_a_full_room_costs_no_work(served_lm: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = served_lm.encode_prompt

    def counted(text: str) -> list[int]:
        encoded.append(text)
        return encode(text)

    monkeypatch.setattr(served_lm, "encode_prompt", counted)

    async def scene() -> None:
        engine = Halted(served_lm)
        async with serving(served_lm, engine, max_waiting=3) as client:
            many = await client.post("/v1/completions", json={**ASKED, "prompt": ["क्षण", "மழை"], "n": 2})
            assert (many.status_code, many.json()["error"]["code"]) == (400, "too_many_answers")
            assert encoded == []
            first = asyncio.create_task(client.post("/v1/completions", json={**ASKED, "n": 2}))
            while not engine.submitted:
                await asyncio.sleep(0)
            second = await client.post("/v1/completions", json={**ASKED, "prompt": "The ferry", "n": 2})
            assert second.json()["error"]["code"] == "queue_full"
            assert encoded == ["Żółw"]
            engine.may_go.set()
            assert (await first).status_code == 200

    asyncio.run(scene())


def test_time_runs_from_the_arrival(served_lm: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    may_encode = threading.Event()

    def slow(text: str) -> list[int]:
        may_encode.wait()
        return [1]

    monkeypatch.setattr(served_lm, "encode_prompt", slow)

    async def scene() -> None:
        engine = Halted(served_lm)
        async with serving(served_lm, engine, timeout=0.2, max_waiting=1) as client:
            try:
                response = await client.post("/v1/completions", json=ASKED)
            finally:
                may_encode.set()
            assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
            assert (await client.get("/health/ready")).status_code == 200
            assert engine.submitted == []

    asyncio.run(scene())
