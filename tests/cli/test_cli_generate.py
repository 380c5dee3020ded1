"""The verbs `generate` and `chat`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from vernacular.inference.model import LocalModel, load

SHORT = ("--max-new-tokens", "12")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    return tiny.make_weights(folder / "weights", tiny.make_tokenizer(folder / "tokenizer"))


@pytest.fixture(scope="module")
def lm(weights: Path) -> LocalModel:
    return load(weights)


def test_generate_prints_the_greedy_text_and_nothing_else(run_cli, weights: Path, lm: LocalModel) -> None:
    expected = lm.generate("Żółta łódka", max_new_tokens=12) + "\n"
    done = run_cli("generate", weights, "Żółta łódka", *SHORT)
    assert done.stdout == expected
    assert done.stderr == ""
    assert run_cli("generate", weights, "-", *SHORT, "--no-stream", stdin="Żółta łódka\n").stdout == expected


def test_generate_takes_several_prompts_and_all_settings(run_cli, weights: Path, lm: LocalModel) -> None:
    prompts = ["क्षण", "The ferry"]
    words = ("--temperature", "0.9", "--top-k", "40", "--top-p", "0.9", "--seed", "3", "--stop", "w", "--stop", "ę")
    words += ("--min-p", "0.01", "--repetition-penalty", "1.1", "--log-probabilities", "2")
    done = run_cli("generate", weights, *prompts, *words, *SHORT, "--json")
    settings = {"max_new_tokens": 12, "temperature": 0.9, "top_k": 40, "top_p": 0.9, "seed": 3, "stop": ["w", "ę"]}
    settings |= {"min_p": 0.01, "repetition_penalty": 1.1}
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["prompt"] for line in lines] == prompts
    assert [line["text"] for line in lines] == lm.generate(prompts, **settings)
    for line in lines:
        assert all(len(of_token["best"]) == 2 for of_token in line["log_probabilities"])
        assert all(of_token["log_probability"] < 0 for of_token in line["log_probabilities"])


def test_generate_takes_a_window_or_none(run_cli, weights: Path, lm: LocalModel) -> None:
    windowless = lm.generate("Żółta łódka", max_new_tokens=12) + "\n"
    assert run_cli("generate", weights, "Żółta łódka", *SHORT, "--window", "none").stdout == windowless
    windowed = load(weights, window=3).generate("Żółta łódka", max_new_tokens=12) + "\n"
    assert run_cli("generate", weights, "Żółta łódka", *SHORT, "--window", "3").stdout == windowed


@pytest.mark.parametrize("kernels", ["native", "torch"])
def test_generate_takes_either_kernels(run_cli, weights: Path, lm: LocalModel, kernels: str) -> None:
    expected = lm.generate("Żółta łódka", max_new_tokens=12) + "\n"
    assert run_cli("generate", weights, "Żółta łódka", *SHORT, "--kernels", kernels).stdout == expected


def test_generate_follows_a_schema_from_a_file(run_cli, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "boolean"}', encoding="utf-8")
    done = run_cli("generate", weights, "Prawda czy fałsz?", *SHORT, "--json-schema", schema)
    assert json.loads(done.stdout) in (True, False)
    gone = run_cli("generate", weights, "x", "--grammar", tmp_path / "none.lark", code=2)
    assert "file not found" in gone.stderr
    assert "none.lark" in gone.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--temperature", "hot"), "temperature"),
        (("--temperature", "inf"), "finite"),
        (("--seed", "-1"), "at least 0"),
        (("--top-p", "1.5"), "--top-p"),
        (("--temprature", "1"), "did you mean '--temperature'?"),
        (("--window", "0"), "'0' is no window: give a number of keys, or none for all before it"),
        (("--window", "-3"), "no window"),
        (("-", "-"), "can be read only once"),
        (("--json", "--stream"), "--stream"),
        (("--log-probabilities", "1"), "add --json"),
    ],
)
def test_generate_refuses_what_it_cannot_do(run_cli, words: tuple[str, ...], said: str) -> None:
    done = run_cli("generate", "weights", "x", *words, code=2)
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_answers_to_several_prompts_stand_apart(run_cli, weights: Path, lm: LocalModel) -> None:
    first, second = lm.generate(["क्षण", "The ferry"], max_new_tokens=12)
    for flag in ("--stream", "--no-stream"):
        done = run_cli("generate", weights, "क्षण", "The ferry", *SHORT, flag)
        assert done.stdout == f"{first}\n\n{second}\n"


def test_an_answer_that_is_cut_off_is_noted(run_cli, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    schema = tmp_path / "schema.json"
    schema.write_text('{"const": "nigdy w całości"}', encoding="utf-8")
    words = ("--max-new-tokens", "2", "--json-schema", schema)
    for verb, flags in (("generate", ("x",)), ("generate", ("x", "--json")), ("chat", ())):
        done = run_cli(verb, weights, *flags, *words, stdin="x")
        assert "stopped by length: not whole JSON" in done.stderr
    whole = run_cli("generate", weights, "x", "--json-schema", schema)
    assert json.loads(whole.stdout) == "nigdy w całości"
    assert whole.stderr == ""


def test_a_wrong_schema_is_named_by_its_file(run_cli, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    (tmp_path / "bad.json").write_text('{"type":\n}', encoding="utf-8")
    (tmp_path / "odd.json").write_text('{"type": "objekt"}', encoding="utf-8")
    early = run_cli("generate", "nowhere", "x", "--json-schema", "bad.json", cwd=tmp_path, code=2)
    assert "where: bad.json:2:1" in early.stderr
    for verb in ("generate", "chat"):
        words = ("x",) if verb == "generate" else ()
        late = run_cli(verb, weights, *words, "--json-schema", "odd.json", cwd=tmp_path, code=2, stdin="x")
        assert "where: odd.json" in late.stderr
        assert "objekt" in late.stderr


def test_a_piped_chat_that_outgrows_the_context_says_what_helps(run_cli, weights: Path) -> None:
    long = "Żółta łódka kołysze się na wodzie. " * 2
    done = run_cli("chat", weights, *SHORT, stdin=f"{long}\n" * 40, code=2)
    assert "too many" in done.stderr
    assert "put a line /reset before it" in done.stderr
    alone = run_cli("chat", weights, *SHORT, stdin=long * 40, code=2)
    assert "standard input:1" in alone.stderr
    assert "shorten the prompt" in alone.stderr


def test_generate_refuses_a_folder_without_weights(run_cli, tmp_path: Path) -> None:
    done = run_cli("generate", tmp_path, "x", code=2)
    assert "no config.json" in done.stderr
    assert str(tmp_path) in done.stderr


def test_chat_takes_a_line_for_a_turn(run_cli, weights: Path, lm: LocalModel) -> None:
    done = run_cli("chat", weights, *SHORT, stdin="Co?\n\n/reset\nCo?\nI?")
    first = lm.chat([{"role": "user", "content": "Co?"}], max_new_tokens=12)
    second = lm.chat(
        [
            {"role": "user", "content": "Co?"},
            {"role": "assistant", "content": first},
            {"role": "user", "content": "I?"},
        ],
        max_new_tokens=12,
    )
    assert done.stdout == f"{first}\n{first}\n{second}\n"


def test_chat_asks_questions_with_known_answers(run_cli, weights: Path, lm: LocalModel, tmp_path: Path) -> None:
    questions = [
        {"language": "hi", "question": "भारत की राजधानी क्या है?", "answer": "नई दिल्ली"},
        {"language": "pl", "question": "Jaka jest stolica Polski?", "answer": "Warszawa"},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps(question) for question in questions), encoding="utf-8")
    done = run_cli("chat", weights, *SHORT, "--questions", path)
    for question in questions:
        answer = lm.chat([{"role": "user", "content": question["question"]}], max_new_tokens=12)
        shown = f"[{question['language']}] {question['question']}\n  model: {answer}\n  known: {question['answer']}\n"
        assert shown in done.stdout
