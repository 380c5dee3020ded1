"""Servers behind the protocol: our own in a process of its own, and one that misbehaves."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from misbehaving import BROKEN, STALL, FakeServer, Reply, completion, sends
from served import ServerProcess
from vernacular.cli.main import main
from vernacular.foundation.errors import MachineError, UserError
from vernacular.inference.backends.openai import OpenAiModel, OpenAiSettings
from vernacular.inference.backends.scoring import CannotScore
from vernacular.inference.model import LocalModel
from vernacular.models.language_model import LanguageModel, Sampling

PROMPTS = ["Żółta łódka", "क्षण भर", "மழை", "في الصباح", "The ferry"]
GREEDY = Sampling(max_new_tokens=12)
PAIRS = [("गाँव के पास", " एक कुआँ"), ("Gdzie kupię ", "chleb"), ("", "மழை"), ("The ferry", " leaves. And more")]
CHAT = [{"role": "user", "content": "Gdzie <|end|> kupię chleb? क्या?"}]


def backend(server: ServerProcess, **settings: Any) -> OpenAiModel:
    return OpenAiModel(f"{server.url}/v1", OpenAiSettings(model="tiny", **settings))


def faked(fake: FakeServer, *, waits: list[float] | None = None, **settings: Any) -> OpenAiModel:
    """A back-end that asks the fake server, and writes down its waits instead of waiting."""
    written = [] if waits is None else waits
    return OpenAiModel(fake.url, OpenAiSettings(model="m", **settings), wait=written.append)


# --------------------------------------------------------------------------------------------- our own server


def test_it_is_a_language_model_and_says_what_it_is(checked_server: ServerProcess, checked_lm: LocalModel) -> None:
    lm = backend(checked_server, weights=checked_lm.folder, dtype="float32")
    assert isinstance(lm, LanguageModel)
    assert lm.max_positions == 320
    assert lm.identity["tokenizer"] == checked_lm.identity["tokenizer"]
    assert lm.identity["template"] == checked_lm.identity["template"]
    assert lm.identity["dtype"] == "float32"
    bare = backend(checked_server)
    assert bare.max_positions == 320
    assert (bare.identity["tokenizer"], bare.identity["template"]) == ("server", "server")
    assert bare.identity["dtype"] == "not stated"


@pytest.mark.parametrize("with_weights", [False, True])
def test_its_answers_are_the_models(checked_server: ServerProcess, checked_lm: LocalModel, with_weights: bool) -> None:
    lm = backend(checked_server, weights=checked_lm.folder if with_weights else None, concurrency=2)
    expected = checked_lm.complete(PROMPTS, [GREEDY] * len(PROMPTS))
    done: list[int] = []
    found = lm.complete(PROMPTS, [GREEDY] * len(PROMPTS), report=done.append)
    assert [one.text for one in found] == [one.text for one in expected]
    assert sum(done) == len(PROMPTS)
    drawn = Sampling(max_new_tokens=12, temperature=0.9, top_k=50, top_p=0.95, min_p=0.01, seed=11, stop=("w",))
    assert lm.complete(["गाँव"], [drawn])[0].text == checked_lm.complete(["गाँव"], [drawn])[0].text
    assert "".join(lm.stream("गाँव", drawn)) == checked_lm.complete(["गाँव"], [drawn])[0].text


def test_log_probabilities_come_back_with_ids(checked_server: ServerProcess, checked_lm: LocalModel) -> None:
    asked = Sampling(max_new_tokens=12, log_probabilities=3)
    (found,) = backend(checked_server, weights=checked_lm.folder).complete(["Żółta łódka"], [asked])
    (expected,) = checked_lm.complete(["Żółta łódka"], [asked])
    assert found.ids == expected.ids
    for ours, theirs in zip(expected.log_probabilities, found.log_probabilities, strict=True):
        assert theirs.log_probability == ours.log_probability
        assert [best[0] for best in theirs.best] == [best[0] for best in ours.best]


def test_scores_are_the_models(checked_server: ServerProcess, checked_lm: LocalModel) -> None:
    lm = backend(checked_server, weights=checked_lm.folder)
    for ours, theirs in zip(checked_lm.loglikelihood(PAIRS), lm.loglikelihood(PAIRS), strict=True):
        assert theirs.log_probability == pytest.approx(ours.log_probability, abs=1e-4)
        assert theirs.is_greedy == ours.is_greedy
    # Short enough for one window; longer texts are read in windows that are two tokens shorter than ours.
    texts = ["Wczoraj wieczorem słuchaliśmy deszczu.", "", "बच्चे"]
    for ours, theirs in zip(checked_lm.text_loglikelihood(texts), lm.text_loglikelihood(texts), strict=True):
        assert theirs.num_tokens == ours.num_tokens
        assert theirs.log_probability == pytest.approx(ours.log_probability, abs=1e-4)
    (long,) = lm.text_loglikelihood(["deszcz dudni o dach " * 60])
    assert long.num_tokens > lm.max_positions


@pytest.mark.parametrize("template", ["local", "server"])
def test_chats_are_written_by_whom_the_setting_names(
    checked_server: ServerProcess, checked_lm: LocalModel, template: str
) -> None:
    lm = backend(checked_server, weights=checked_lm.folder, template=template)
    expected = checked_lm.chat(CHAT, max_new_tokens=12)
    assert lm.chat([CHAT], [GREEDY])[0].text == expected
    assert "".join(lm.stream_chat(CHAT, GREEDY)) == expected
    assert lm.identity["template"] == (checked_lm.identity["template"] if template == "local" else "server")
    if template == "local":
        assert lm.render(CHAT) == checked_lm.render(CHAT)
    else:
        with pytest.raises(UserError, match="written by the server"):
            lm.render(CHAT)


def test_generate_and_chat_take_its_address(
    checked_server: ServerProcess, checked_lm: LocalModel, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    address = f"openai:{checked_server.url}/v1?model=tiny"
    assert main(["generate", address, "Żółta łódka", "--max-new-tokens", "12"]) == 0
    assert capsys.readouterr().out == checked_lm.generate("Żółta łódka", max_new_tokens=12) + "\n"
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"language": "hi", "question": "क्या?", "answer": "हाँ"}\n', encoding="utf-8")
    assert main(["chat", address, "--questions", str(questions), "--max-new-tokens", "12"]) == 0
    expected = checked_lm.chat([{"role": "user", "content": "क्या?"}], max_new_tokens=12)
    assert f"model: {expected}\n" in capsys.readouterr().out
    assert main(["generate", address, "x", "--dtype", "int8"]) == 2
    assert "a setting of our own engine" in capsys.readouterr().err


def test_the_server_counts_tokens_itself(checked_server: ServerProcess, checked_lm: LocalModel) -> None:
    counts = backend(checked_server).count_tokens(PROMPTS)
    assert counts == [len(checked_lm.encode_prompt(prompt)) for prompt in PROMPTS]


# --------------------------------------------------------------------------------------------- one that misbehaves


@pytest.mark.parametrize(
    "failure",
    [
        sends({"error": "busy"}, 429),
        sends({"error": {"message": "oops"}}, 500),
        Reply(503),
        BROKEN,
        Reply(announced=99),
    ],
    ids=["429", "500", "503", "half its JSON", "hangs up"],
)
def test_what_may_pass_is_tried_again(fake: FakeServer, failure: Reply) -> None:
    waits: list[float] = []
    fake.replies.extendleft([failure, failure])
    (found,) = faked(fake, waits=waits).complete(["क्षण"], [GREEDY])
    assert (found.text, found.stopped_by, found.ids) == ("dobrze", "end", ())
    assert len(fake.asked) == 3
    assert 0.5 <= waits[0] <= 0.75 and 1.0 <= waits[1] <= 1.5


def test_a_stall_is_a_lost_request(fake: FakeServer) -> None:
    fake.replies.appendleft(STALL)
    assert faked(fake, timeout=0.3).complete(["क्षण"], [GREEDY])[0].text == "dobrze"
    fake.replies.extendleft([STALL] * 3)
    with pytest.raises(MachineError, match=r"ReadTimeout.*\(tried 2 times\)"):
        faked(fake, timeout=0.3, retries=1).complete(["क्षण"], [GREEDY])


def test_the_server_may_ask_for_a_longer_wait_up_to_a_cap(fake: FakeServer) -> None:
    waits: list[float] = []
    fake.replies.extendleft([sends({}, 429, Retry_After="7"), sends({}, 429, Retry_After="9999")])
    faked(fake, waits=waits).complete(["क्षण"], [GREEDY])
    assert sorted(waits) == [7, 60]


def test_trying_comes_to_an_end(fake: FakeServer) -> None:
    fake.replies[0] = sends({"error": {"message": "out of memory"}}, 500)
    waits: list[float] = []
    with pytest.raises(MachineError, match=r"status 500: out of memory \(tried 4 times\)"):
        faked(fake, waits=waits, retries=3).complete(["क्षण", "மழை"], [GREEDY] * 2)
    assert len(fake.asked) <= 8


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_is_passed_on_at_once(fake: FakeServer, status: int) -> None:
    fake.replies[0] = sends({"error": {"message": "unknown field 'seeed'"}}, status)
    with pytest.raises(UserError, match="unknown field 'seeed'") as caught:
        faked(fake).complete(["क्षण"], [GREEDY])
    assert len(fake.asked) == 1
    assert ("key_from" in str(caught.value)) == (status == 401)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (sends({"choices": []}), "no choices"),
        (sends({"answer": "tak"}), "not of the API's shape: choices"),
        (sends(["tak"]), "not of the API's shape"),
        (completion(reason="content_filter"), "for the reason 'content_filter'"),
        (completion(reason=None), "for the reason 'None'"),
    ],
)
def test_an_answer_that_is_none_is_refused(fake: FakeServer, reply: Reply, said: str) -> None:
    fake.replies[0] = reply
    with pytest.raises((MachineError, UserError), match=said):
        faked(fake).complete(["क्षण"], [GREEDY])


def test_missing_log_probabilities_are_refused(fake: FakeServer, checked_weights: Path) -> None:
    lm = faked(fake, weights=checked_weights)
    with pytest.raises(CannotScore, match="answer has no log-probabilities"):
        lm.complete(["क्षण"], [Sampling(max_new_tokens=3, log_probabilities=1)])
    with pytest.raises(CannotScore, match="echo has no log-probabilities"):
        lm.loglikelihood([("क्षण", " भर")])
    fake.replies[0] = sends({"error": {"message": "echo is not supported"}}, 400)
    with pytest.raises(CannotScore, match=r"does not serve log-probabilities of a prompt.*echo is not supported"):
        lm.loglikelihood([("क्षण", " भर")])
    short = {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [None]}
    fake.replies[0] = completion(logprobs=short)
    with pytest.raises(CannotScore, match="echoes 1 tokens for a prompt of"):
        lm.loglikelihood([("क्षण", " भर")])
    with pytest.raises(CannotScore, match="only the server has the tokenizer"):
        faked(fake).loglikelihood([("क्षण", " भर")])


def test_settings_are_sent_in_the_apis_words(fake: FakeServer) -> None:
    drawn = Sampling(max_new_tokens=5, temperature=0.5, top_p=0.9, seed=3, stop=("।", "\n"), repetition_penalty=1.2)
    form = Sampling(max_new_tokens=5, json_schema='{"type": "boolean"}')
    lm = faked(fake, concurrency=1)
    lm.complete(["क", "ख"], [drawn, form])
    common = {"model": "m", "max_tokens": 5}
    chosen = {"temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": ["।", "\n"], "repetition_penalty": 1.2}
    assert fake.asked[0] == {**common, "prompt": "क", **chosen}
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "boolean"}, "strict": True}}
    assert fake.asked[1] == {**common, "prompt": "ख", "temperature": 0.0, "response_format": schema}
    assert lm.complete(["क"], [drawn])[0].stopped_by == "stop"


def test_as_many_requests_are_under_way_as_allowed(fake: FakeServer) -> None:
    fake.barrier = threading.Barrier(3)
    lm = faked(fake, concurrency=3)
    lm.complete([*PROMPTS, "Kraków"], [GREEDY] * 6)
    assert fake.most_at_once == 3


def test_the_key_is_sent_and_shown_nowhere(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEST_SERVER_KEY", "tajny-klucz-42")
    caplog.set_level(logging.DEBUG)
    lm = faked(fake, key_from="TEST_SERVER_KEY", retries=0)
    lm.complete(["क्षण"], [GREEDY])
    assert fake.headers[0]["authorization"] == "Bearer tajny-klucz-42"
    fake.replies[0] = sends({"error": {"message": "wrong key: tajny-klucz-42"}}, 401)
    with pytest.raises(UserError) as caught:
        lm.complete(["क्षण"], [GREEDY])
    shown = caplog.text + str(caught.value) + repr(lm) + json.dumps(dict(lm.identity))
    assert "tajny-klucz-42" not in shown
    monkeypatch.delenv("TEST_SERVER_KEY")
    with pytest.raises(UserError, match="TEST_SERVER_KEY is to hold the server's key"):
        faked(fake, key_from="TEST_SERVER_KEY")


def events(*objects: Any, done: bool = True) -> Reply:
    lines = [f"data: {json.dumps(one)}\n\n" for one in objects] + (["data: [DONE]\n\n"] if done else [])
    return Reply(200, b": hello\n\n" + "".join(lines).encode(), (("content-type", "text/event-stream"),))


def test_a_stream_keeps_clusters_whole_and_its_end_is_checked(fake: FakeServer) -> None:
    pieces = [{"choices": [{"text": text}]} for text in ("क", "्", "ष", "ण ", "ę", "")]
    fake.replies[0] = events(*pieces)
    fake.replies.appendleft(Reply(503))
    assert list(faked(fake).stream("x", GREEDY)) == ["क्षण", " ", "ę"]
    fake.replies[0] = events(*pieces, done=False)
    with pytest.raises(MachineError, match=r"ended without \[DONE\]"):
        list(faked(fake).stream("x", GREEDY))
    fake.replies[0] = fake.replies[0]._replace(announced=10_000)
    with pytest.raises(MachineError, match="broke off"):
        list(faked(fake).stream("x", GREEDY))


def test_a_server_that_does_not_run_is_the_machines_error_at_once(fake: FakeServer) -> None:
    fake.stop()
    waits: list[float] = []
    with pytest.raises(MachineError) as caught:
        faked(fake, waits=waits).complete(["क्षण"], [GREEDY])
    assert f"nothing listens at {fake.url}" in str(caught.value)
    assert "timeout" not in str(caught.value)
    assert waits == []


def test_the_longest_sequence_is_to_be_known(fake: FakeServer, checked_weights: Path) -> None:
    with pytest.raises(UserError, match="does not say how long a sequence may be"):
        _ = faked(fake).max_positions
    assert faked(fake, weights=checked_weights).max_positions == 320
    assert faked(fake, max_positions=77).max_positions == 77
