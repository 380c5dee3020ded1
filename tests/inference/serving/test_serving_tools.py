"""Tools, with a template that has a place for them. A grammar stands in for a model that has learnt to call."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from served import ServerProcess

TEMPLATE = """\
{{- '<|begin|>' -}}
{%- if tools -%}{{- '<|tools|>' + (tools | tojson) + '<|end|>' -}}{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'assistant_tool_call' -%}{{- '<|assistant|><|tool_call|>' + message['content'] + '<|end|>' -}}
{%- elif message['role'] == 'tool_response' -%}{{- '<|user|>' + message['content'] + '<|end|>' -}}
{%- elif message['role'] in ['system', 'user', 'assistant'] -%}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- else -%}{{- raise_exception('unknown role') -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "pogoda",
            "description": "Jaka jest pogoda?",
            "parameters": {"type": "object", "properties": {"miasto": {"type": "string"}}},
        },
    }
]
QUESTION = [{"role": "user", "content": "Czy w Łodzi pada? दिल्ली में?"}]
CALLS = [{"name": "pogoda", "arguments": {"miasto": "Łódź"}}, {"name": "pogoda", "arguments": {"miasto": "दिल्ली"}}]
WRITES_CALLS = "start: <|tool_call|> " + json.dumps(json.dumps(CALLS, ensure_ascii=False), ensure_ascii=False)


@pytest.fixture(scope="module")
def client(served_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("tools") / "weights"
    shutil.copytree(served_weights, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        text = text.replace("<|reserved_0|>", "<|tool_call|>").replace("<|reserved_1|>", "<|tools|>")
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    running = ServerProcess(folder, "--model-name", "tiny")
    yield openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
    assert running.stop() == 0


def test_calls_come_back_as_calls(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=QUESTION, tools=TOOLS, tool_choice="auto", extra_body={"grammar": WRITES_CALLS}
    ).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    called = answer.message.tool_calls
    assert [{"name": call.function.name, "arguments": json.loads(call.function.arguments)} for call in called] == CALLS
    assert len({call.id for call in called}) == 2
    # The calls and the tool's answers go into the next request as they are.
    results = [{"role": "tool", "tool_call_id": call.id, "content": "15 °C"} for call in called]
    again = [*QUESTION, answer.message.model_dump(), *results]
    following = client.chat.completions.create(model="tiny", messages=again, tools=TOOLS, max_tokens=5)
    assert following.choices[0].finish_reason == "length"


def test_calls_are_streamed(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=QUESTION, tools=TOOLS, stream=True, extra_body={"grammar": WRITES_CALLS}
    )
    calls, text, reason = [], "", None
    for chunk in stream:
        calls += chunk.choices[0].delta.tool_calls or []
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    assert reason == "tool_calls"
    assert text == ""
    assert [call.index for call in calls] == [0, 1]
    assert [json.loads(call.function.arguments) for call in calls] == [call["arguments"] for call in CALLS]


@pytest.mark.parametrize("stream", [False, True])
def test_text_stays_text(client: openai.OpenAI, stream: bool) -> None:
    asked = {"model": "tiny", "messages": QUESTION, "tools": TOOLS, "stream": stream}
    answer = client.chat.completions.create(**asked, extra_body={"grammar": 'start: "नहीं pada"'})
    if stream:
        chunks = list(answer)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "नहीं pada"
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        assert answer.choices[0].message.content == "नहीं pada"
        assert answer.choices[0].message.tool_calls is None


def test_tools_that_may_not_be_called_are_not_shown(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "messages": QUESTION, "max_tokens": 5}
    without = client.chat.completions.create(**asked)
    none = client.chat.completions.create(**asked, tools=TOOLS, tool_choice="none")
    auto = client.chat.completions.create(**asked, tools=TOOLS)
    assert none.usage.prompt_tokens == without.usage.prompt_tokens < auto.usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "pogoda"}}}, "tool_choice"),
        ({"tools": [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}]}, "tools"),
        ({"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls"),
    ],
)
def test_what_cannot_be_promised_is_refused(client: openai.OpenAI, fields: dict, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=QUESTION, **fields)
    assert caught.value.param == param


def test_a_template_without_a_place_for_tools_refuses_them(server: ServerProcess) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="no place for tool calls") as caught:
        client.chat.completions.create(model="tiny", messages=QUESTION, tools=TOOLS)
    assert caught.value.param == "tools"
