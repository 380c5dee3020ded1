"""IFEval's four numbers: the share of prompts, and of instructions, that are followed strictly and loosely.

Loosely, an instruction is followed where any of eight forms of the answer follows it: as it is, without its first line,
without its last, without both, and each of these without asterisks. An empty answer follows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vernacular.evaluation.instructions.checks import CHECKS, Asked
from vernacular.evaluation.instructions.language import language_of, table
from vernacular.evaluation.metrics.metric import Metric, Options, mean
from vernacular.evaluation.records import Row
from vernacular.foundation.errors import unknown_name


def follows(answer: str, instruction: str, arguments: Mapping[str, Any], language: str) -> bool:
    """Whether an answer follows an instruction as it stands.

    Args:
        answer: the answer.
        instruction: its name in `instructions.yaml`, the code of a language before it or not.
        arguments: the item's; None values count as absent.
        language: of the task, for instructions that name none.
    """
    known = table("instructions.yaml")
    head, _, rest = instruction.partition(":")
    name, code = (rest, head) if rest in known else (instruction, language)
    if name not in known:
        raise unknown_name("instruction", instruction, known)
    given = {key: value for key, value in arguments.items() if value is not None}
    asked = Asked(given, known[name], language_of(code.partition("-")[0]))
    return bool(answer.strip()) and CHECKS[known[name]["check"]](answer, asked)


def follows_loosely(answer: str, instruction: str, arguments: Mapping[str, Any], language: str) -> bool:
    """Whether any of the eight forms of the answer follows the instruction."""
    return any(follows(form, instruction, arguments, language) for form in loose_forms(answer))


def loose_forms(answer: str) -> list[str]:
    """The answer; without its first line, its last, both; and each of these without asterisks."""
    lines = answer.split("\n")
    cut = [answer, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()]
    return [*cut, *[form.replace("*", "") for form in cut]]


Follows = Callable[[str, str, Mapping[str, Any], str], bool]


def _by_instruction(check: Follows) -> Callable[[Sequence[Row], Options], tuple[int, int]]:
    """(instructions followed, instructions asked)."""

    def of_item(rows: Sequence[Row], options: Options) -> tuple[int, int]:
        facts = json.loads(rows[0]["facts"])
        pairs = zip(facts["instruction_id_list"], facts["kwargs"], strict=True)
        language = rows[0]["language"] or ""
        followed = [check(rows[0]["response"], name, arguments or {}, language) for name, arguments in pairs]
        return sum(followed), len(followed)

    return of_item


def _by_prompt(check: Follows) -> Callable[[Sequence[Row], Options], float]:
    def of_item(rows: Sequence[Row], options: Options) -> float:
        followed, asked = _by_instruction(check)(rows, options)
        return float(followed == asked)

    return of_item


def _over_all(items: Sequence[tuple[int, int]]) -> float:
    followed, asked = np.asarray(items, dtype=np.float64).sum(axis=0)
    return float(followed / asked)


INSTRUCTION_METRICS: Mapping[str, Metric] = {
    "prompt_level_strict_acc": Metric(_by_prompt(follows), mean, "mean", True, True),
    "inst_level_strict_acc": Metric(_by_instruction(follows), _over_all, "inst_level", False, True),
    "prompt_level_loose_acc": Metric(_by_prompt(follows_loosely), mean, "mean", True, True),
    "inst_level_loose_acc": Metric(_by_instruction(follows_loosely), _over_all, "inst_level", False, True),
}
