"""Every back-end is scored by the same command, and the same weights get the same answers behind each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from tests.served import ServerProcess
from tests.tiny import make_tokenizer, make_weights

from vernacular.cli.main import main
from vernacular.foundation.files import read_json
from vernacular.models.bridge import export_weights

HAS_LLAMA_CPP = importlib.util.find_spec("llama_cpp") is not None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    return make_weights(folder / "model", make_tokenizer(folder / "tokenizer"), max_positions=320)


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(weights, "--model-name", "tiny")
    yield running
    assert running.stop() == 0


def score(model: object, tasks: Path, out: Path, *words: str) -> dict:
    """What the command leaves: who answered, what was right, and each answer."""
    asked = ("evaluate", str(model), "--tasks", str(tasks), "--template", "never", "--no-cache", "-o", str(out))
    assert main([*asked, *words]) == 0
    run = read_json(out / "records/run.json")
    rows = [
        row for path in sorted(out.glob("records/capitals*.parquet")) for row in parquet.read_table(path).to_pylist()
    ]
    return {"model": run["model"], "rows": rows, "scores": read_json(out / "scores.json")["scores"]}


def assert_same(theirs: dict, ours: dict) -> None:
    assert len(theirs["rows"]) == len(ours["rows"]) > 0
    for one, other in zip(theirs["rows"], ours["rows"], strict=True):
        for name in ("prompt", "continuation", "response", "extracted", "is_greedy", "chosen", "correct", "num_tokens"):
            assert one[name] == other[name], name
        assert one["log_probability"] == pytest.approx(other["log_probability"], abs=1e-4)
    values = [[score["value"] for score in side["scores"]] for side in (theirs, ours)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)


def test_a_server_of_the_same_weights_gets_the_same_record(
    weights: Path, server: ServerProcess, tasks: Path, tmp_path: Path
) -> None:
    address = f"openai:{server.url}/v1?model=tiny&weights={weights}&dtype=float32"
    theirs = score(address, tasks, tmp_path / "theirs")
    assert theirs["model"]["backend"] == "openai"
    assert theirs["model"]["weights"] == f"tiny at {server.url}/v1"
    assert_same(theirs, score(weights, tasks, tmp_path / "ours"))


@pytest.mark.skipif(not HAS_LLAMA_CPP, reason="needs llama-cpp-python: the extra [llama-cpp]")
def test_llama_cpp_with_the_same_weights_gets_the_same_record(weights: Path, tasks: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    export_weights(weights, file, "gguf", dtype="float32", ids_only=True)
    theirs = score(f"llama.cpp:{file}?weights={weights}", tasks, tmp_path / "theirs")
    assert theirs["model"]["backend"].startswith("llama.cpp")
    assert_same(theirs, score(weights, tasks, tmp_path / "ours"))


def test_our_own_engine_takes_its_settings_from_the_address(weights: Path, tasks: Path, tmp_path: Path) -> None:
    found = score(f"vernacular:{weights}?dtype=int8", tasks, tmp_path / "out")
    assert found["model"]["dtype"] == "int8"
    assert "dtype" not in read_json(tmp_path / "out/records/run.json")["settings"]


def test_answers_of_a_server_are_not_kept_for_the_next_evaluation(
    weights: Path,
    server: ServerProcess,
    tasks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = f"openai:{server.url}/v1?model=tiny&weights={weights}"
    asked = ["evaluate", address, "--tasks", str(tasks), "--template", "never", "--limit", "2"]
    for name in ("first", "second"):
        assert main([*asked, "-o", str(tmp_path / name)]) == 0
    assert "from earlier evaluations" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "words", "message"),
    [
        ("openai:{url}/v1?model=tiny", (), "log-probabilities are of tokens"),
        ("openai:{url}/v1?model=tiny&weights={weights}", ("--dtype", "bfloat16"), "a setting of our own engine"),
        ("vernacular:{weights}?dtype=int8", ("--dtype", "bfloat16"), "stands in the address and beside it"),
        ("lama.cpp:{weights}", (), "did you mean 'llama.cpp'?"),
    ],
)
def test_what_a_back_end_cannot_do_is_refused(
    address: str,
    words: tuple[str, ...],
    message: str,
    weights: Path,
    server: ServerProcess,
    tasks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = address.format(url=server.url, weights=weights)
    asked = ["evaluate", model, "--tasks", str(tasks), "--template", "never", "--no-cache", "-o", str(tmp_path / "out")]
    assert main([*asked, *words]) != 0
    assert message in capsys.readouterr().err


def test_a_comparison_names_the_server_whole(
    weights: Path, server: ServerProcess, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(weights, tasks, tmp_path / "ours", "--limit", "1")
    score(f"openai:{server.url}/v1?model=tiny&weights={weights}", tasks, tmp_path / "theirs", "--limit", "1")
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "ours"), str(tmp_path / "theirs")]) == 0
    assert f"weights tiny at {server.url}/v1," in capsys.readouterr().out
