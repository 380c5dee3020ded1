"""A file of prompts into a file of answers, through the command line and killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from served import wait_until
from vernacular.foundation.errors import UserError
from vernacular.inference.batch import Summary, answer_file
from vernacular.inference.model import LocalModel, load
from vernacular.models.language_model import Sampling

SHORT = Sampling(max_new_tokens=10)
TEXTS = ["Żółta łódka kołysze się", "क्षण", "The ferry leaves when the tide turns", "மழை", "خبّاز", "a"]


def write(path: Path, lines: list[Any]) -> Path:
    parts = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
    path.write_bytes(b"\n".join(parts) + b"\n")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_come_in_order_with_what_was_asked(lm: LocalModel, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Co?"}]
    lines = [{"prompt": text, "id": f"q{number}"} for number, text in enumerate(TEXTS)]
    lines += [{"messages": chat, "id": 7}, {"prompt": "a", "temperature": 0.9, "seed": 3, "max_new_tokens": 5}]
    prompts = write(tmp_path / "prompts.jsonl", lines)
    summary = answer_file(lm, prompts, tmp_path / "answers.jsonl", SHORT, window=3)
    assert summary == Summary(answered=8, failures=[])
    answers = read(tmp_path / "answers.jsonl")
    assert [answer["text"] for answer in answers[:6]] == lm.generate(TEXTS, max_new_tokens=10)
    assert answers[6]["text"] == lm.chat(chat, max_new_tokens=10)
    assert answers[7]["text"] == lm.generate("a", temperature=0.9, seed=3, max_new_tokens=5)
    assert [answer.get("id") for answer in answers] == [*[f"q{number}" for number in range(6)], 7, None]
    assert [answer["line"] for answer in answers] == list(range(1, 9))
    assert answers[0]["prompt_tokens"] == len(lm.encode_prompt(TEXTS[0]))
    assert answers[7]["answer_tokens"] <= 5
    assert {answer["stopped_by"] for answer in answers} <= {"end", "length"}
    assert not (tmp_path / "answers.jsonl.partial").exists()


def test_log_probabilities_and_schemas_of_a_line(lm: LocalModel, tmp_path: Path) -> None:
    lines = [
        {"prompt": "क", "log_probabilities": 2, "max_new_tokens": 4},
        {"prompt": "k", "json_schema": '{"enum": ["Łódź", "पुणे"]}'},
    ]
    answer_file(lm, write(tmp_path / "p.jsonl", lines), tmp_path / "a.jsonl", SHORT)
    scored, bound = read(tmp_path / "a.jsonl")
    (expected,) = lm.complete(["क"], [Sampling(max_new_tokens=4, log_probabilities=2)])
    assert [entry["log_probability"] for entry in scored["log_probabilities"]] == [
        entry.log_probability for entry in expected.log_probabilities
    ]
    assert len(scored["log_probabilities"][0]["best"]) == 2
    assert json.loads(bound["text"]) in {"Łódź", "पुणे"}


def test_a_line_that_fails_leaves_the_others_alone(lm: LocalModel, tmp_path: Path) -> None:
    lines: list[tuple[Any, str]] = [
        (b'{"prompt": ', "not valid JSON"),
        (b'{"prompt": "\xff"}', "not valid UTF-8 at byte 12"),
        (b'{"prompt": "\\ud800"}', "surrogate"),
        ({"prompt": "x", "temprature": 1, "id": "typo"}, "unknown key 'temprature'"),
        ({"prompt": "x", "temperature": -1}, "at least 0"),
        ({"prompt": "x", "messages": []}, "either prompt or messages"),
        ({"id": 5}, "either prompt or messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
        ({"prompt": "Żółw " * 200}, "too many"),
        ({"prompt": "x", "json_schema": '{"type": "objekt"}'}, "objekt"),
        ({"prompt": "x", "stop": ""}, "a stop string is empty"),
        ({"prompt": "x", "tools": [{"name": "f"}]}, "go with messages"),
        ([1], "no JSON object"),
        ({"messages": []}, "no messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "not text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, "not text"),
        ({"prompt": "x", "temperature": "0.5"}, "number"),
        ({"prompt": "x", "temperature": True}, "number"),
        ({"prompt": "x", "temperature": 1e308}, "100"),
        ({"prompt": "x", "max_new_tokens": "3"}, "number"),
        ({"prompt": "x", "seed": -1}, "0"),
        ({"prompt": "x", "json_schema": 5}, "text"),
        ({"prompt": "x", "id": True}, "true"),
        (b'{"prompt": "x", "prompt": "y"}', "'prompt' stands twice"),
        (b'{"messages": [{"role": "user", "content": "x", "role": "user"}]}', "'role' stands twice"),
    ]
    mixed = [part for line, _ in lines for part in (line, {"prompt": "a"})]
    prompts = write(tmp_path / "p.jsonl", [b"", *mixed])
    summary = answer_file(lm, prompts, tmp_path / "a.jsonl", SHORT, window=4)
    answers = read(tmp_path / "a.jsonl")
    assert summary == Summary(answered=len(lines), failures=[2 * place + 2 for place in range(len(lines))])
    assert {answer["text"] for answer in answers[1::2]} == {lm.generate("a", max_new_tokens=10)}
    for (_, said), answer in zip(lines, answers[::2], strict=True):
        assert said in answer["error"]["message"]
    assert answers[6]["id"] == "typo"
    assert "did you mean 'temperature'" in answers[6]["error"]["fix"]


def test_lines_are_read_as_the_server_reads_them(lm: LocalModel, tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Co "}, {"type": "text", "text": "słychać?"}]
    lines = [
        {"messages": [{"role": "user", "content": parts, "name": None}]},
        {"messages": [{"role": "developer", "content": "क"}, {"role": "user", "content": "x"}]},
        {"prompt": "k", "json_schema": {"enum": ["Łódź", "पुणे"]}},
    ]
    answer_file(lm, write(tmp_path / "p.jsonl", lines), tmp_path / "a.jsonl", SHORT)
    joined, developed, bound = read(tmp_path / "a.jsonl")
    assert joined["text"] == lm.chat([{"role": "user", "content": "Co słychać?"}], max_new_tokens=10)
    turns = [{"role": "system", "content": "क"}, {"role": "user", "content": "x"}]
    assert developed["text"] == lm.chat(turns, max_new_tokens=10)
    assert json.loads(bound["text"]) in {"Łódź", "पुणे"}


def test_line_ends_and_byte_order_marks(lm: LocalModel, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_bytes(b"\xef\xbb\xbf" + b'{"prompt": "a"}\r\n\r\n{"prompt": "b"}')
    assert answer_file(lm, prompts, tmp_path / "a.jsonl", SHORT) == Summary(2, [])
    assert [answer["line"] for answer in read(tmp_path / "a.jsonl")] == [1, 3]


def interrupted(lm: LocalModel, prompts: Path, answers: Path, sampling: Sampling, after: int) -> None:
    """Answer some lines, then stop as a kill would, in the middle of a record."""
    number = 0
    original = lm.engine.step

    def step() -> Any:
        nonlocal number
        number += 1
        if number > after:
            raise KeyboardInterrupt
        return original()

    lm.engine.step = step
    try:
        with pytest.raises(KeyboardInterrupt):
            answer_file(lm, prompts, answers, sampling, window=4)
    finally:
        del lm.engine.step
    partial = answers.with_name(f"{answers.name}.partial")
    assert partial.read_bytes().count(b"\n") > 1
    with open(partial, "ab") as file:
        file.write(b'3 abc 0 {"line": 3, "te')


def test_what_was_finished_is_not_done_again(lm: LocalModel, tmp_path: Path) -> None:
    prompts = write(tmp_path / "p.jsonl", [{"prompt": text, "temperature": 1.0} for text in TEXTS * 2] + [b"{"])
    answer_file(lm, prompts, tmp_path / "whole.jsonl", SHORT)
    interrupted(lm, prompts, tmp_path / "a.jsonl", SHORT, after=12)
    before = lm.engine.statistics.generated_tokens
    assert answer_file(lm, prompts, tmp_path / "a.jsonl", SHORT) == Summary(12, [13])
    assert lm.engine.statistics.generated_tokens - before < 12 * 10
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def damaged(lm: LocalModel, tmp_path: Path, damage: Callable[[bytes], bytes]) -> bytes:
    """The answers after a run that was interrupted, and whose unfinished file was then damaged."""
    prompts = tmp_path / "p.jsonl"
    interrupted(lm, prompts, tmp_path / "a.jsonl", SHORT, after=12)
    partial = tmp_path / "a.jsonl.partial"
    partial.write_bytes(damage(partial.read_bytes()))
    answer_file(lm, prompts, tmp_path / "a.jsonl", SHORT)
    return (tmp_path / "a.jsonl").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content + b"\nnonsense\n",
        lambda content: content[:-200] + b"\0" * 200,
        lambda content: content + b"\n\n\n1 2 3 4\n",
        lambda content: content + b"\n" + b"0" * 40 + b" x 0 {}\n",
        lambda content: content[: content.index(b"\n") // 2],
        lambda content: b"",
    ],
    ids=["nonsense", "zeros", "blank", "numbers", "half a header", "empty"],
)
def test_a_damaged_ledger_is_cut_where_it_is_whole(lm: LocalModel, tmp_path: Path, damage: Any) -> None:
    prompts = write(tmp_path / "p.jsonl", [{"prompt": text} for text in TEXTS])
    answer_file(lm, prompts, tmp_path / "whole.jsonl", SHORT)
    assert damaged(lm, tmp_path, damage) == (tmp_path / "whole.jsonl").read_bytes()


def test_other_kernels_do_not_continue_it(lm: LocalModel, weights_folder: Path, tmp_path: Path) -> None:
    prompts = write(tmp_path / "p.jsonl", [{"prompt": text} for text in TEXTS])
    interrupted(lm, prompts, tmp_path / "a.jsonl", SHORT, after=12)
    with pytest.raises(UserError, match="kernels was 'native', is 'torch'"):
        answer_file(load(weights_folder, kernels="torch"), prompts, tmp_path / "a.jsonl", SHORT)


def test_a_changed_line_is_answered_anew_and_the_others_are_not(lm: LocalModel, tmp_path: Path) -> None:
    lines = [{"prompt": text} for text in TEXTS]
    interrupted(lm, write(tmp_path / "p.jsonl", lines), tmp_path / "a.jsonl", SHORT, after=12)
    changed = [{"prompt": f"{line['prompt']}?"} for line in lines]
    answer_file(lm, write(tmp_path / "p.jsonl", changed), tmp_path / "a.jsonl", SHORT)
    expected = lm.generate([line["prompt"] for line in changed], max_new_tokens=10)
    assert [answer["text"] for answer in read(tmp_path / "a.jsonl")] == expected


def test_other_settings_do_not_continue_it(lm: LocalModel, tmp_path: Path) -> None:
    prompts = write(tmp_path / "p.jsonl", [{"prompt": text} for text in TEXTS])
    interrupted(lm, prompts, tmp_path / "a.jsonl", SHORT, after=12)
    with pytest.raises(UserError, match="max_new_tokens was 10, is 11") as caught:
        answer_file(lm, prompts, tmp_path / "a.jsonl", Sampling(max_new_tokens=11))
    assert "a.jsonl.partial" in caught.value.where
    assert "to start anew" in caught.value.fix
    assert answer_file(lm, prompts, tmp_path / "a.jsonl", SHORT).answered == len(TEXTS)


def test_files_that_are_not_as_they_should_be(lm: LocalModel, tmp_path: Path) -> None:
    prompts = write(tmp_path / "p.jsonl", [{"prompt": "a"}])
    (tmp_path / "a.jsonl").write_text("mine")
    with pytest.raises(UserError, match="there already"):
        answer_file(lm, prompts, tmp_path / "a.jsonl", SHORT)
    with pytest.raises(UserError, match="file not found"):
        answer_file(lm, tmp_path / "nowhere.jsonl", tmp_path / "b.jsonl", SHORT)
    (tmp_path / "b.jsonl.partial").write_text("something else\n")
    with pytest.raises(UserError, match="no unfinished batch"):
        answer_file(lm, prompts, tmp_path / "b.jsonl", SHORT)
    cut = '{"vernacular_batch": 1, "depends_on": {"mine'
    for mine in ("a letter without a line's end", "{}", cut, "\0" * 50, "\n"):
        (tmp_path / "b.jsonl.partial").write_text(mine)
        with pytest.raises(UserError, match="no unfinished batch"):
            answer_file(lm, prompts, tmp_path / "b.jsonl", SHORT)
        assert (tmp_path / "b.jsonl.partial").read_text() == mine
    with pytest.raises(UserError, match="no prompts"):
        answer_file(lm, write(tmp_path / "empty.jsonl", [b""]), tmp_path / "c.jsonl", SHORT)
    assert (tmp_path / "a.jsonl").read_text() == "mine"


def test_killed_and_run_again_gives_the_same_file(
    run_cli: Callable[..., Any], tokenizer_folder: Path, tmp_path: Path
) -> None:
    weights = tiny.make_weights(tmp_path / "weights", tokenizer_folder, max_positions=512)
    lines: list[Any] = [
        {"prompt": f"{TEXTS[number % 6]} {number}", "temperature": 0.8, "seed": number, "id": number}
        for number in range(150)
    ]
    prompts = write(tmp_path / "p.jsonl", [*lines, b"{broken"])
    words = [str(weights), str(prompts), "--max-new-tokens", "150"]
    whole = run_cli("batch", *words, "-o", tmp_path / "whole.jsonl", code=1)
    assert "150 lines answered, 1 failed" in whole.stderr
    assert "failed: line 151" in whole.stderr
    partial = tmp_path / "a.jsonl.partial"
    command = [sys.executable, "-m", "vernacular.cli.main", "batch", *words, "-o", str(tmp_path / "a.jsonl")]
    source = str(Path(__file__).resolve().parents[2] / "src")
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": source}, stderr=subprocess.DEVNULL)
    wait_until(lambda: partial.exists() and partial.read_bytes().count(b"\n") > 20)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "a.jsonl").exists()
    others = tmp_path / "others"
    shutil.copytree(weights, others)
    tiny.make_weights(others, tokenizer_folder, max_positions=512, seed=1)
    refused = run_cli("batch", others, *words[1:], "-o", tmp_path / "a.jsonl", code=2)
    assert "weights was" in refused.stderr
    run_cli("batch", *words, "-o", tmp_path / "a.jsonl", code=1)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not partial.exists()


@pytest.mark.parametrize(
    ("weights", "prompts", "out", "said"),
    [
        ("weights", "p.jsonl", "/proc/x/y.jsonl", "cannot be written there: No such file"),
        ("weights", "p.jsonl", "p.jsonl/y.jsonl", "cannot be written there: "),
        ("weights", "p.jsonl", "p.jsonl", "there already"),
        ("weights", "none.jsonl", "a.jsonl", "file not found"),
        ("weights", ".", "a.jsonl", "Is a directory"),
        ("openai:http://localhost/v1?model=x", "p.jsonl", "a.jsonl", "batch takes weights folders only"),
    ],
)
def test_files_are_checked_before_weights_are_loaded(
    run_cli: Callable[..., Any], tmp_path: Path, weights: str, prompts: str, out: str, said: str
) -> None:
    write(tmp_path / "p.jsonl", [{"prompt": "a"}])
    # There are no weights: were they read first, they would be what is refused.
    done = run_cli("batch", weights, prompts, "-o", out, code=2, cwd=tmp_path)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_two_runs_do_not_write_the_same_answers(lm: LocalModel, tmp_path: Path) -> None:
    from vernacular.inference.batch_ledger import Ledger

    prompts = write(tmp_path / "p.jsonl", [{"prompt": "a"}])
    first = Ledger(tmp_path / "a.jsonl", {})
    with pytest.raises(UserError, match="another run"):
        answer_file(lm, prompts, tmp_path / "a.jsonl", SHORT)
    first.close()
