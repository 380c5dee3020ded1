"""What a judge is asked, in the language of the questions; and how its verdict is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

import yaml
from pydantic import Field

from vernacular.foundation.configuration import Configuration, parse_yaml, validate
from vernacular.foundation.errors import UserError
from vernacular.models.language_model import Message

_GRADES = (re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]"), re.compile(r"\[(\d+(?:\.\d+)?)\]"))
_CHOICE = re.compile(r"\[\[([ABC])\]\]")
LOWEST, HIGHEST = 1.0, 10.0


class Rules(Configuration):
    """MT-Bench's own, as `rules.yaml` has them."""

    temperatures: Mapping[str, float]
    answer_tokens: int
    with_reference: tuple[str, ...]
    judge_temperature: float
    retry_temperature: float
    judge_tokens: int


class Prompts(Configuration):
    """The words for one language."""

    grade: str
    compare: str
    with_reference: str
    second_turn: str
    labels: Mapping[str, str] = Field(description="question, answer, reference, assistant")


@functools.cache
def rules() -> Rules:
    """The published rules."""
    text = (files("vernacular.evaluation.judge") / "rules.yaml").read_text(encoding="utf-8")
    return validate(Rules, yaml.safe_load(text))


@functools.cache
def prompts(language: str | None) -> Prompts:
    """The words for a language; one that there are none for is refused."""
    folder = files("vernacular.evaluation.judge") / "prompts"
    known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if language not in known:
        raise UserError(
            f"there are no words for a judge in the language '{language or 'not stated'}'",
            where="language of the task",
            fix=f"state one of {', '.join(known)}, or add a file to evaluation/judge/prompts",
        )
    document = parse_yaml((folder / f"{language}.yaml").read_text(encoding="utf-8"))
    return validate(Prompts, document.value, document)


def grading(words: Prompts, turns: Sequence[str], answers: Sequence[str], reference: Sequence[str]) -> list[Message]:
    """The request for a grade of the last of the answers.

    Args:
        words: of the language.
        turns: the user's questions, as many as there are answers.
        answers: the assistant's.
        reference: the reference answers; none where the category has none.
    """
    system = _system(words, words.grade, len(turns), bool(reference))
    return [system, {"role": "user", "content": "\n\n".join(_conversation(words, turns, answers, reference, ""))}]


def comparing(
    words: Prompts, turns: Sequence[str], pair: tuple[Sequence[str], Sequence[str]], reference: Sequence[str]
) -> list[Message]:
    """The request for a decision between two assistants' answers, A's being first."""
    parts = _references(words, turns, reference)
    for name, answers in zip("AB", pair, strict=True):
        parts += _conversation(words, turns, answers, (), f"{words.labels['assistant']} {name} · ")
    return [
        _system(words, words.compare, len(turns), bool(reference)),
        {"role": "user", "content": "\n\n".join(parts)},
    ]


def read_grade(text: str) -> float | None:
    """The last grade from 1 to 10 in a judge's words, in two brackets or else in one; None where there is none."""
    for pattern in _GRADES:
        found = pattern.findall(text)
        if found:
            grade = float(found[-1])
            return grade if LOWEST <= grade <= HIGHEST else None
    return None


def read_choice(text: str) -> str | None:
    """A, B or C (equal): the last decision in a judge's words; None where there is none."""
    found = _CHOICE.findall(text)
    return found[-1] if found else None


def _system(words: Prompts, first: str, turns: int, referred: bool) -> Message:
    parts = [words.with_reference] if referred else []
    parts += [words.second_turn] if turns > 1 else []
    return {"role": "system", "content": "\n".join([*parts, first])}


def _conversation(
    words: Prompts, turns: Sequence[str], answers: Sequence[str], reference: Sequence[str], name: str
) -> list[str]:
    parts = _references(words, turns, reference)
    for number, (turn, answer) in enumerate(zip(turns, answers, strict=True), start=1):
        parts.append(f"[{name}{words.labels['question']} {number}]\n{turn}")
        parts.append(f"[{name}{words.labels['answer']} {number}]\n{answer}")
    return parts


def _references(words: Prompts, turns: Sequence[str], reference: Sequence[str]) -> list[str]:
    return [
        f"[{words.labels['reference']} {number}]\n{text}"
        for number, (_, text) in enumerate(zip(turns, reference, strict=False), start=1)
    ]
