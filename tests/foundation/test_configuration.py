"""Configuration: unknown keys refused with the nearest named, lines kept, overrides applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from vernacular.foundation.configuration import (
    Configuration,
    apply_override,
    parse_override,
    parse_yaml,
    read_yaml,
    validate,
)
from vernacular.foundation.errors import UserError, nearest


class Inner(Configuration):
    learning_rate: float = Field(gt=0)
    steps: int = 10


class Outer(Configuration):
    name: str
    inner: Inner


def test_an_unknown_key_names_file_line_and_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: demo\ninner:\n  learning_rate: 1\n  stepz: 5\n")
    document = read_yaml(path)
    with pytest.raises(UserError) as caught:
        validate(Outer, document.value, document)
    assert "unknown key 'stepz'" in str(caught.value)
    assert f"{path}:4 (inner.stepz)" in str(caught.value)
    assert "did you mean 'steps'?" in str(caught.value)


class Bounded(Configuration):
    above: int = Field(1, gt=0)
    between: int = Field(1, gt=0, lt=100)
    below: int | None = Field(None, le=5)
    share: float = Field(0.5, ge=0, lt=1)
    choice: Literal["skip", "rollback"] | None = None
    code: str = "hi"
    codes: tuple[str, ...] = Field(("hi",), min_length=1)
    switch: bool = False
    inner: Inner | None = None
    shares: dict[str, tuple[Inner, ...]] = Field(default_factory=dict)
    either: str | tuple[int, ...] = "hi"


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ({"above": 0}, "give a whole number of 1 or more"),
        ({"above": "viel"}, "give a whole number of 1 or more"),
        ({"above": None}, "give a whole number of 1 or more"),
        ({"between": 100}, "give a whole number from 1 to 99"),
        ({"below": 6}, "give a whole number of 5 or less"),
        ({"share": 1}, "give a number that is at least 0 and below 1"),
        ({"choice": "skp"}, "give 'skip' or 'rollback'"),
        ({"code": 7}, "give a text"),
        ({"code": False}, "put it in quotation marks: YAML reads yes, no, on and off as true or false"),
        ({"codes": []}, "give a list of at least 1 entry"),
        ({"codes": ["hi", 7]}, "give a text"),
        ({"switch": "maybe"}, "give true or false"),
        ({"inner": 7}, "give a mapping of keys to values such as {learning_rate: …}"),
        ({"shares": {"hi": [{"learning_rate": 0}]}}, "give a number that is above 0"),
        ({"either": True}, "give a text or a list"),
    ],
)
def test_a_wrong_type_and_a_broken_bound_say_what_to_give(value: dict[str, Any], fix: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Bounded, value)
    assert caught.value.fix == fix


class Window(Configuration):
    first: int
    last: int

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"last {self.last} is before first {self.first}", "raise last, or lower first")
        if self.last == self.first:
            raise ValueError("one step is no window; raise last")
        return self


def test_a_validator_says_what_is_wrong_and_what_to_change() -> None:
    with pytest.raises(UserError) as caught:
        validate(Window, {"first": 3, "last": 2})
    assert (caught.value.message, caught.value.fix) == ("last 2 is before first 3", "raise last, or lower first")
    with pytest.raises(UserError) as caught:
        validate(Window, {"first": 3, "last": 3})
    assert (caught.value.message, caught.value.fix) == ("one step is no window; raise last", None)


class Numbers(Configuration):
    many: int = 1
    rate: float | None = None
    stage: Literal[1, 2, 3] = 3
    rates: dict[str, float] = Field(default_factory=dict)
    either: int | bool = 1
    anything: Any = None


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("many: true", "many", "a whole number is needed, not true"),
        ("many: yes", "many", "a whole number is needed, not true"),
        ("rate: off", "rate", "a number is needed, not false"),
        ("stage: true", "stage", "a whole number is needed, not true"),
        ("rate: .inf", "rate", "a finite number is needed, not inf"),
        ("rate: .nan", "rate", "a finite number is needed, not nan"),
        ("rates: {hi: -.inf}", "rates.hi", "a finite number is needed, not -inf"),
        ("many: 9223372036854775808", "many", "must be at most 9223372036854775807, not 9223372036854775808"),
        ("many: -9223372036854775808", "many", "must be at least -9223372036854775807, not -9223372036854775808"),
    ],
)
def test_what_is_a_number_to_python_only_is_refused(text: str, key: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Numbers, parse_yaml(text).value)
    assert (caught.value.message, caught.value.where) == (message, key)


@pytest.mark.parametrize("text", ["many: 9223372036854775807", "rate: 1" + "0" * 40, "either: true", "anything: .inf"])
def test_other_numbers_are_taken(text: str) -> None:
    ((key, value),) = parse_yaml(text).value.items()
    assert getattr(validate(Numbers, {key: value}), key) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("name: demo\ninner: {steps: 3}\n", "'learning_rate' is missing", 2),
        ("name: demo\ninner: {learning_rate: -1}\n", "above 0", 2),
        ("name: demo\ninner: {learning_rate: .inf}\n", "a finite number is needed, not inf", 2),
        ("name: demo\ninner: {learning_rate: 1.0e+999}\n", "a finite number is needed, not inf", 2),
        ("name: demo\ninner:\n  learning_rate: fast\n", "a number is needed", 3),
    ],
)
def test_a_wrong_value_names_its_line(tmp_path: Path, text: str, message: str, line: int) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    document = read_yaml(path)
    with pytest.raises(UserError) as caught:
        validate(Outer, document.value, document)
    assert message in str(caught.value)
    assert f"{path}:{line}" in str(caught.value)


class Part(Configuration):
    kind: Literal["text"]
    text: str


class Message(Configuration):
    role: Literal["user", "assistant"] = "user"
    content: str | tuple[Part, ...] | None = None
    best_of: int | None = Field(None, ge=1, le=5)


class Conversation(Configuration):
    messages: tuple[Message, ...] = Field(min_length=1)
    stop: dict[str, float] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "where", "message"),
    [
        ({"messages": 3}, "messages", "a list is needed, not 3"),
        ({"messages": []}, "messages", "must have at least 1 entry, not 0"),
        ({"messages": ["जी"]}, "messages.0", "a mapping of keys to values is needed, not 'जी'"),
        ({"messages": [{"content": 3}]}, "messages.0.content", "a text or a list is needed, not 3"),
        ({"messages": [{"content": [{"kind": "text"}]}]}, "messages.0.content.0.text", "the key 'text' is missing"),
        (
            {"messages": [{"content": [{"kind": "image", "text": "x"}]}]},
            "messages.0.content.0.kind",
            "must be 'text', not 'image'",
        ),
        ({"messages": [{"content": [{"kind": "text", "text": None}]}]}, "messages.0.content.0.text", "not null"),
        ({"messages": [{"role": "robot"}]}, "messages.0.role", "must be 'user' or 'assistant', not 'robot'"),
        ({"messages": [{"best_of": 0}]}, "messages.0.best_of", "must be at least 1, not 0"),
        ({"messages": [{"best_of": 6}]}, "messages.0.best_of", "must be at most 5, not 6"),
        ({"messages": [{"best_of": [True]}]}, "messages.0.best_of", "a whole number is needed, not [True]"),
        ({"messages": [{}], "stop": {"str": "wiele"}}, "stop.str", "a number is needed, not 'wiele'"),
        ({"messages": [{}], "stop": {"int": None}}, "stop.int", "a number is needed, not null"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words_at_its_key(value: Any, where: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Conversation, value)
    assert caught.value.where == where
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [1\n", "not valid YAML"),
        ("- a\n- b\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("name: a\nname: b\n", "stands twice"),
    ],
)
def test_yaml_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_yaml(text, Path("recipe.yaml"))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="file not found"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="folder"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: za\xbf")
    with pytest.raises(UserError, match="not valid UTF-8 at byte 8"):
        read_yaml(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("--temp", ("--stream", "--temperature", "--seed"), "--temperature"),
        ("--temp", ("--stream", "--seed"), None),
        ("--temp", ("--stream", "--template", "--temperature"), "--template"),
        ("gpt2", ("mpt", "llama", "granite"), None),
        ("lama", ("llama", "granite"), "llama"),
        ("--oot", ("--out", "--help"), "--out"),
        ("--", ("--out", "--help"), None),
        ("języki", ("język", "model"), "język"),
    ],
)
def test_the_nearest_name_is_begun_or_nearly_spelt(name: str, known: tuple[str, ...], meant: str | None) -> None:
    assert nearest(name, known) == meant


def test_an_override_reaches_into_mappings_and_lists() -> None:
    value: dict[str, Any] = {"stages": {"base": {"steps": 1, "sources": [{"name": "a"}, {"name": "b"}]}}}
    changed = apply_override(value, *parse_override("stages.base.steps=200"))
    assert changed["stages"]["base"]["steps"] == 200
    changed = apply_override(changed, *parse_override("stages.base.sources.1.name=c"))
    assert [source["name"] for source in changed["stages"]["base"]["sources"]] == ["a", "c"]
    changed = apply_override(changed, *parse_override("stages.new={do: sft}"))
    assert changed["stages"]["new"] == {"do": "sft"}
    assert value["stages"]["base"]["steps"] == 1, "the original is not touched"


@pytest.mark.parametrize("text", ["steps", "=3", "a=[1"])
def test_an_override_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_override(text)


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(UserError, match="nothing can stand below it"):
        apply_override({"steps": 3}, ("steps", "more"), 1)


_KEYS = st.text("abcdefgh_", min_size=1, max_size=6)


@given(st.lists(_KEYS, min_size=1, max_size=4), st.integers())
def test_what_an_override_sets_can_be_read_at_its_path(keys: list[str], number: int) -> None:
    path, parsed = parse_override(f"{'.'.join(keys)}={number}")
    changed: Any = apply_override({}, path, parsed)
    for key in keys:
        changed = changed[key]
    assert changed == number
