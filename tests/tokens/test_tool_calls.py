"""Tool calls: written as JSON, read back, and given back as text with a reason where they are malformed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.tokens.tool_calls import parse_tool_calls, tool_calls_text

CALLS = [{"name": "pogoda", "arguments": {"miasto": "Łódź", "dni": 3}}, {"name": "समय", "arguments": {}}]


def test_openais_shape_and_the_plain_one_are_written_alike() -> None:
    wrapped = [
        {
            "id": str(number),
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
        }
        for number, call in enumerate(CALLS)
    ]
    assert tool_calls_text(wrapped) == tool_calls_text(CALLS) == json.dumps(CALLS, ensure_ascii=False)


def test_calls_are_read_back() -> None:
    assert parse_tool_calls("<|tool_call|>" + tool_calls_text(CALLS)) == (CALLS, None, None)
    assert parse_tool_calls(" <|tool_call|> \n" + json.dumps(CALLS[0])) == (CALLS[:1], None, None)
    assert parse_tool_calls('<tool>[{"name": "a"}]', "<tool>").calls == [{"name": "a", "arguments": {}}]
    assert parse_tool_calls('<|tool_call|>[{"name": "a", "arguments": "{\\"b\\": 1}"}]').calls[0]["arguments"] == {
        "b": 1
    }


def test_a_text_is_content() -> None:
    for text in ("Dobrze.", "", '[{"name": "a"}]', "x <|tool_call|>[]"):
        assert parse_tool_calls(text) == ([], text, None)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ('[{"name": "a", "arguments": {"b": ', "not valid JSON at character"),
        ('[{"name": "a"}] i tyle', "not valid JSON at character 16: Extra data"),
        ("", "not valid JSON at character 0"),
        ("[]", "not a list of calls"),
        ("3", "not a list of calls"),
        ("[3]", "a call has no name: 3"),
        ('[{"arguments": {}}]', "a call has no name"),
        ('[{"name": "a", "arguments": [1]}]', "the arguments of 'a' are not an object"),
        ('[{"name": "a", "arguments": "{"}]', "the arguments of 'a' are not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_calls_are_content_with_a_reason(written: str, reason: str) -> None:
    text = "<|tool_call|>" + written
    turn = parse_tool_calls(text)
    assert (turn.calls, turn.content) == ([], text)
    assert reason in str(turn.reason)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
calls = st.lists(
    st.fixed_dictionaries({"name": st.text(min_size=1), "arguments": st.dictionaries(st.text(), values, max_size=3)}),
    min_size=1,
    max_size=3,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(calls=calls)
def test_any_calls_come_back(calls: list[dict[str, object]]) -> None:
    assert parse_tool_calls("<|tool_call|>" + tool_calls_text(calls)).calls == calls


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    turn = parse_tool_calls("<|tool_call|>" + text)
    assert turn.calls or turn.content == "<|tool_call|>" + text
