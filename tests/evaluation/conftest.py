"""A language model that is a dictionary, and small tasks in many scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from tests.harness_tasks import choice_task, task, write_task

from vernacular.models.language_model import Generation, Likelihood, Message, Report, Sampling, TextLikelihood

CAPITALS = [
    ("Jaka jest stolica Polski?", "Warszawa", ["Warszawa", "Kraków", "Łódź", "Gdańsk"]),
    ("भारत की राजधानी क्या है?", "नई दिल्ली", ["मुंबई", "नई दिल्ली", "कोलकाता", "चेन्नई"]),
    ("What is the capital of Wales?", "Cardiff", ["Swansea", "Newport", "Cardiff", "Bangor"]),
    ("தமிழ்நாட்டின் தலைநகரம் எது?", "சென்னை", ["மதுரை", "கோவை", "சேலம்", "சென்னை"]),
    ("Stolica Czech to?", "Praga", ["Praga", "Brno", "Ostrawa", "Pilzno"]),
    ("বাংলাদেশের রাজধানী কী?", "ঢাকা", ["খুলনা", "ঢাকা", "সিলেট", "রাজশাহী"]),
]


class FakeModel:
    """Answers by functions of the text. Implements `LanguageModel`.

    Args:
        score: log-probability of (context, continuation).
        answer: the answer to a prompt.
        template: whether it has a chat template.
    """

    def __init__(
        self,
        score: Callable[[str, str], float] = lambda context, continuation: -1.0,
        answer: Callable[[str], str] = lambda prompt: "",
        template: bool = False,
    ) -> None:
        self.score = score
        self.answer = answer
        self.template = template
        self.prompts: list[str] = []
        self.samplings: list[Sampling] = []

    @property
    def identity(self) -> Mapping[str, str]:
        return {
            "backend": "fake",
            "dtype": "float32",
            "weights": "w" * 64,
            "tokenizer": "t" * 64,
            "template": "c" * 64 if self.template else "none",
        }

    @property
    def max_positions(self) -> int:
        return 512

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, report: Report | None = None) -> list[Likelihood]:
        self.prompts += [context for context, _ in pairs]
        if report is not None:
            report(len(pairs))
        scores = [self.score(context, continuation) for context, continuation in pairs]
        return [
            Likelihood(score, score > -0.5, len(continuation.split()))
            for score, (_, continuation) in zip(scores, pairs, strict=True)
        ]

    def text_loglikelihood(self, texts: Sequence[str], *, report: Report | None = None) -> list[TextLikelihood]:
        if report is not None:
            report(len(texts))
        return [TextLikelihood(self.score("", text), len(text)) for text in texts]

    def complete(
        self, prompts: Sequence[str], samplings: Sequence[Sampling], *, report: Report | None = None
    ) -> list[Generation]:
        self.prompts += prompts
        self.samplings += samplings
        if report is not None:
            report(len(prompts))
        return [Generation(self.answer(prompt), (), "end") for prompt in prompts]

    def stream(self, prompt: str, sampling: Sampling) -> Iterator[str]:
        yield self.answer(prompt)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        text = "".join(f"<{message['role']}>{message['content']}</>" for message in messages)
        return text + ("<assistant>" if add_generation_prompt else "")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with one multiple-choice and one free-answer task over the same questions."""
    return write_tasks(tmp_path / "tasks", CAPITALS)


@pytest.fixture
def capitals() -> list[tuple[str, str, list[str]]]:
    return CAPITALS


@pytest.fixture
def fake_model() -> type[FakeModel]:
    return FakeModel


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Path]:
    """`make_task(items, **changes)`: a folder with one multiple-choice task `one`, its YAML changed."""

    def make(items: Sequence[Mapping[str, Any]], **changes: Any) -> Path:
        folder = tmp_path / "one"
        config = {**_choice_task("one"), **changes}
        write_task(folder, config, items)
        return folder

    return make


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    """The documents of a curated artifact in three languages."""
    texts = {
        "hi": ["एक बच्चा बाग़ में खेल रहा था और माँ उसे देख रही थी।", "बारिश के बाद आसमान साफ़ हो गया।"],
        "pl": ["Żółta łódź płynie po jeziorze, a dzieci machają z brzegu.", "Pies śpi pod stołem."],
        "en": ["The kettle sings while rain taps on the window.", "Nobody had expected the bridge to hold."],
    }
    for split in ("train", "heldout"):
        rows = [
            {"id": f"{number:032x}", "text": text * (3 if split == "train" else 1), "language": language}
            for language, lines in texts.items()
            for number, text in enumerate(lines)
        ]
        folder = tmp_path / "corpus" / "documents" / split
        folder.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "00000.parquet")
    return tmp_path / "corpus"


def write_tasks(folder: Path, questions: Sequence[tuple[str, str, list[str]]]) -> Path:
    items = [
        {"question": question, "answer": answer, "choices": choices, "label": choices.index(answer)}
        for question, answer, choices in questions
    ]
    write_task(folder, _choice_task("capitals_choice"), items)
    write_task(folder, _answer_task("capitals_answer"), items)
    return folder


def _choice_task(name: str) -> dict[str, Any]:
    return choice_task(
        name,
        doc_to_text="{{question}}\n",
        target_delimiter="",
        metric_list=[{"metric": metric} for metric in ("acc", "acc_norm", "acc_bytes", "brier_score")],
        metadata={"version": 1.0, "language": "mul"},
    )


def _answer_task(name: str) -> dict[str, Any]:
    return task(
        name,
        output_type="generate_until",
        doc_to_text="{{question}}\n",
        doc_to_target="{{answer}}",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 16, "do_sample": False},
        metric_list=[{"metric": "exact_match", "ignore_case": True}, {"metric": "chrf"}],
        metadata={"version": 2.0, "language": "mul", "chance": 0.25},
    )
