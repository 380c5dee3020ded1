"""What the server refuses: each with its status, its error object, and nothing about it in the log."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from served import KEY, ServerProcess
from vernacular.inference.model import LocalModel

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Tajne pytanie: गुप्त?"}], "max_tokens": 3}
COMPLETION = {"model": "tiny", "prompt": "Tajne pytanie: गुप्त?", "max_tokens": 3}
PATHS = {"chat/completions": CHAT, "completions": COMPLETION}


def check(response: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    """The error's object is complete; its message."""
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param), error
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req-")
    return error["message"]


@pytest.mark.parametrize(
    ("path", "fields", "param", "said"),
    [
        ("chat/completions", {"max_tokns": 3}, "max_tokns", "did you mean 'max_tokens'"),
        ("chat/completions", {"temperature": 3}, "temperature", "at most 2"),
        ("chat/completions", {"temperature": "warm"}, "temperature", "a number is needed"),
        ("chat/completions", {"messages": []}, "messages", "at least 1"),
        ("chat/completions", {"messages": None}, "messages", "missing"),
        ("chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "'system'"),
        ("chat/completions", {"messages": [{"role": "user"}]}, "messages.0.content", "no content"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "x"}]}, "messages", "tool"),
        ("chat/completions", {"top_logprobs": 2}, "top_logprobs", "logprobs"),
        ("chat/completions", {"top_logprobs": 99, "logprobs": True}, "top_logprobs", "20"),
        ("chat/completions", {"max_completion_tokens": 2}, "max_tokens", "same"),
        ("chat/completions", {"stream_options": {"include_usage": True}}, "stream_options", "streams"),
        ("chat/completions", {"stop": ""}, "stop", "empty"),
        ("chat/completions", {"n": 0}, "n", "at least 1"),
        ("chat/completions", {"seed": -1}, "seed", "at least 0"),
        ("completions", {"repetition_penalty": 1e40}, "repetition_penalty", "at most 100"),
        ("chat/completions", {"seed": -1, "n": 3}, "seed", "at least 0"),
        ("chat/completions", {"top_p": 0}, "top_p", "above 0"),
        ("chat/completions", {"repetition_penalty": 1e9}, "repetition_penalty", "100"),
        ("chat/completions", {"stop": ["a", 5]}, "stop.1", "a text is needed"),
        ("chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "a text is needed"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.text",
            "missing",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            "messages.0.content.0.type",
            "only text parts are served",
        ),
        (
            "chat/completions",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
            "missing",
        ),
        ("completions", {"seed": -7}, "seed", "at least 0"),
        ("completions", {"prompt": [True, False]}, "prompt", "list of token ids"),
        ("completions", {"prompt": [[5, True]]}, "prompt", "list of token ids"),
        ("completions", {"prompt": ["मैं", 5]}, "prompt", "list of texts"),
        ("completions", {"logprobs": 21}, "logprobs", "20"),
        ("completions", {"prompt": []}, "prompt", "empty list"),
        ("completions", {"prompt": [1, 100_000]}, "prompt", "outside the vocabulary"),
        ("completions", {"prompt": [[]]}, "prompt", "no tokens"),
        ("completions", {"max_tokens": 0}, "max_tokens", "at least 1"),
        ("completions", {"grammar": "start: nothing"}, "grammar", "nothing"),
        (
            "completions",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}},
            "response_format",
            "objekt",
        ),
    ],
)
def test_a_wrong_field_is_named(server: ServerProcess, path: str, fields: dict, param: str, said: str) -> None:
    response = httpx.post(f"{server.url}/v1/{path}", json={**PATHS[path], **fields})
    assert said in check(response, 400, "invalid_value", param)


@pytest.mark.parametrize(
    ("field", "neutral", "asking"),
    [
        ("logit_bias", {}, {"5": 10}),
        ("presence_penalty", 0, 0.5),
        ("frequency_penalty", 0.0, 1),
        ("suffix", "", "koniec"),
        ("best_of", 1, 4),
        ("reasoning_effort", None, "high"),
        ("functions", None, [{"name": "f"}]),
        ("store", False, True),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    server: ServerProcess, field: str, neutral: object, asking: object
) -> None:
    address = f"{server.url}/v1/completions"
    assert httpx.post(address, json={**COMPLETION, field: neutral}).status_code == 200
    assert field in check(httpx.post(address, json={**COMPLETION, field: asking}), 400, "unsupported_parameter", field)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"model": "tiny", ', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[1, 2]", "a JSON object"),
        (b'{"model": "tiny", "prompt": "\xff\xfe"}', "not valid UTF-8 at byte 29"),
        ('{"model": "tiny", "prompt": "zażółć"}'.encode("utf-16"), "not valid UTF-8"),
        (b'{"model": "tiny", "prompt": "half a pair: \\ud83d"}', "surrogate"),
        (b'{"model": "tiny", "prompt": "x", "temperature": NaN}', "NaN is not JSON"),
        (b'{"model": "tiny", "prompt": "x", "prompt": "y"}', "'prompt' stands twice"),
        (b"[" * 200_000, "nested too deeply"),
    ],
    ids=["cut", "empty", "list", "bytes", "utf-16", "surrogate", "nan", "twice", "deep"],
)
def test_a_broken_body_is_refused(server: ServerProcess, body: bytes, said: str) -> None:
    for path in PATHS:
        assert said in check(httpx.post(f"{server.url}/v1/{path}", content=body), 400, "invalid_json")


def test_unknown_models_and_addresses(server: ServerProcess) -> None:
    for path, asked in PATHS.items():
        response = httpx.post(f"{server.url}/v1/{path}", json={**asked, "model": "gęś"})
        assert "'tiny'" in check(response, 404, "model_not_found", "model")
    check(httpx.get(f"{server.url}/v1/models/gęś"), 404, "model_not_found", "model")
    check(httpx.post(f"{server.url}/v1/embeddings", json={}), 404, "unknown_url")
    asked = httpx.get(f"{server.url}/v1/completions")
    assert check(asked, 405, "method_not_allowed") == "/v1/completions takes POST only"
    assert asked.headers["allow"] == "POST"
    asked = httpx.delete(f"{server.url}/v1/models")
    assert check(asked, 405, "method_not_allowed") == "/v1/models takes GET or HEAD only"


def test_a_prompt_that_is_too_long_is_refused(server: ServerProcess, served_lm: LocalModel) -> None:
    long = "Żółw " * 3000
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": long}])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert str(served_lm.max_positions) in caught.value.message
    for stream in (False, True):
        asked = {**COMPLETION, "max_tokens": served_lm.max_positions, "stream": stream}
        check(httpx.post(f"{server.url}/v1/completions", json=asked), 400, "context_length_exceeded", "prompt")


def test_ten_megabytes_are_refused_one_way_or_the_other(server: ServerProcess, strict_server: ServerProcess) -> None:
    asked = {**COMPLETION, "prompt": "क्षमा " * (10_000_000 // len("क्षमा ".encode()))}
    content = json.dumps(asked, ensure_ascii=False).encode()
    assert len(content) > 9_990_000
    message = check(httpx.post(f"{server.url}/v1/completions", content=content, timeout=60), 413, "body_too_large")
    assert str(8 << 20) in message
    headers = {"Authorization": f"Bearer {KEY}"}
    address = f"{strict_server.url}/v1/chat/completions"
    response = httpx.post(address, content=b'{"a": "' + b"a" * 30_000 + b'"}', headers=headers)
    check(response, 413, "body_too_large")


def test_only_known_keys_are_let_in(strict_server: ServerProcess) -> None:
    address = f"{strict_server.url}/v1"
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}, {"Authorization": KEY}):
        for response in (
            httpx.post(f"{address}/chat/completions", json=CHAT, headers=given),
            httpx.get(f"{address}/models", headers=given),
            httpx.get(f"{address}/nowhere", headers=given),
        ):
            check(response, 401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
    for key in (KEY, "other-key", "third-key"):
        client = openai.OpenAI(base_url=address, api_key=key, max_retries=0)
        (model,) = client.models.list()
        assert model.id == "mały-model"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=address, api_key="sesam", max_retries=0).models.list()
    assert httpx.get(f"{strict_server.url}/health").status_code == 200


def test_the_log_holds_no_prompt_no_answer_and_no_key(
    server: ServerProcess, strict_server: ServerProcess, served_lm: LocalModel
) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    asked = {**CHAT, "model": "mały-model", "temperature": 0, "max_tokens": 30}
    answer = httpx.post(f"{strict_server.url}/v1/chat/completions", json=asked, headers=headers)
    text = answer.json()["choices"][0]["message"]["content"]
    wrong = {"Authorization": "Bearer tajny-klucz-123"}
    httpx.post(f"{strict_server.url}/v1/Tajne", json={**asked, "stop": ""}, headers=wrong)
    httpx.post(f"{strict_server.url}/v1/chat/completions", json={**asked, "stop": ""}, headers=headers)
    httpx.post(f"{strict_server.url}/v1/chat/completions?q=Tajne", content=b'"Tajne', headers=headers)
    request_id = answer.headers["x-request-id"]
    assert f"request={request_id} POST /v1/chat/completions status=200 choices=1" in strict_server.log
    assert "answer_tokens=" in strict_server.log
    for log in (server.log, strict_server.log):
        for secret in ("Tajne", "गुप्त", KEY, "other-key", "tajny-klucz", "third-key"):
            assert secret not in log
    assert text not in strict_server.log
