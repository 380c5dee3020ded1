"""The verbs `import`, `export` and `inspect`, as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tiny
from vernacular.cli.main import main
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import copy_tokenizer, published_token_ids, save_weights
from vernacular.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mistral folder with a window, as its publisher has it."""
    base = tmp_path_factory.mktemp("cli-bridge")
    tokenizer = tiny.make_tokenizer(base / "tokenizer")
    shape = ModelShape(family="mistral", hidden_size=64, num_layers=2, num_heads=4, intermediate_size=96, window=16)
    decoder = Decoder(configure(shape, tiny.VOCAB_SIZE, 128))
    decoder.initialise(0)
    folder = base / "published"
    folder.mkdir()
    token_ids = published_token_ids(Tokenizer.load(tokenizer))
    save_weights(folder, decoder, token_ids=token_ids, dtype="bfloat16")
    copy_tokenizer(tokenizer, folder)
    return folder


def test_import_then_export(run_cli, published: Path, tmp_path: Path) -> None:
    shown = run_cli("import", published, "weights", "--window", "none", cwd=tmp_path).stdout
    assert shown.startswith("weights: mistral, ")
    assert json.loads((tmp_path / "weights/config.json").read_text())["sliding_window"] is None
    shown = run_cli("export", "weights", "release", cwd=tmp_path).stdout
    assert shown.startswith("release: mistral, ")
    assert (tmp_path / "release/model.safetensors").read_bytes() == (published / "model.safetensors").read_bytes()
    assert not (tmp_path / "release/provenance.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--window", "wide"), "'wide' is no window"),
        (("--shard-gb", "0"), "holds nothing"),
        (("--shard-gb", "inf"), "inf is not finite"),
        (("--shard-gb", "nan"), "nan is not finite"),
        (("--dtype", "int8"), "unknown dtype 'int8'"),
        (("--template", "krutrim-3"), "krutrim-"),
        (("--template", "nowhere.jinja"), "the chat template does not exist"),
        (("--windwo", "3"), "did you mean '--window'?"),
    ],
)
def test_import_refuses_what_it_cannot_do(run_cli, published: Path, tmp_path: Path, words, said: str) -> None:
    done = run_cli("import", published, tmp_path / "out", *words, code=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said", "flag"),
    [
        (("import", "--dtype", "int8"), "unknown dtype 'int8'", "--dtype"),
        (("import", "--template", "krutrim-3"), "unknown chat template 'krutrim-3'", "--template"),
        (("import", "--template", "nowhere.jinja"), "the chat template does not exist", "nowhere.jinja"),
        (("export", "--dtype", "q8_0"), "unknown dtype 'q8_0'", "--dtype"),
        (("export", "--dtype", "q4", "--format", "gguf"), "unknown dtype 'q4'", "--dtype"),
    ],
)
def test_a_flag_is_refused_before_a_file_is_read(run_cli, tmp_path: Path, words, said: str, flag: str) -> None:
    verb, *flags = words
    shown = run_cli(verb, tmp_path / "not-there", tmp_path / "out", *flags, code=2).stderr
    assert shown.startswith(f"error: {said}\n  where: {flag}\n  fix: ")


def test_a_folder_is_replaced_only_by_force(run_cli, published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "out")
    assert "exists already" in run_cli("import", published, tmp_path / "out", code=2).stderr
    run_cli("import", published, tmp_path / "out", "--force")
    assert (tmp_path / "out/provenance.json").is_file()


def test_export_names_the_nearest_format(run_cli, published: Path, tmp_path: Path) -> None:
    done = run_cli("export", published, tmp_path / "out", "--format", "transformer", code=2)
    assert "did you mean 'transformers'?" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ids-only",), "add --format gguf"),
        (("--format", "gguf", "--shard-gb", "2"), "gguf is written as one file"),
    ],
)
def test_export_refuses_a_flag_of_the_other_format(run_cli, published: Path, tmp_path: Path, words, said: str) -> None:
    done = run_cli("export", published, tmp_path / "out", *words, code=2)
    assert said in done.stderr and words[-1 if words[-1].startswith("--") else -2] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_export_writes_a_file_for_llama_cpp(run_cli, published: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the extra [gguf]")
    shown = run_cli("export", published, "model.gguf", "--format", "gguf", "--dtype", "q8_0", cwd=tmp_path).stdout
    assert shown.startswith("model.gguf: mistral, 123,712 parameters, 1 file, ")
    assert "note: llama.cpp does not know this family's window of 16" in shown
    assert "note: tokenizer: " in shown
    assert (tmp_path / "model.gguf").read_bytes()[:4] == b"GGUF"
    assert "exists already" in run_cli("export", published, tmp_path / "model.gguf", "--format", "gguf", code=2).stderr


def test_inspect_shows_the_weights(run_cli, published: Path) -> None:
    shown = run_cli("inspect", published).stdout
    facts = {line[2:].split("  ")[0].strip(): line for line in shown.splitlines()[1:]}
    assert "mistral (MistralForCausalLM)" in facts["family"]
    # V·h·2 + 2 layers of 4·h·h + 3·h·96 + 2·h, + h; h = 64.
    assert "123,712" in facts["parameters"]
    assert "bfloat16 247.42 KB" in facts["files"]
    assert "float32 494.85 KB" in facts["memory"] and "int4" in facts["memory"]
    # Keys and values: 2 · 2 layers · 4 heads · 16 · 2 bytes; the window holds 16 of them.
    assert "512 bytes per token, 8.19 KB for the full context (a window's worth)" in facts["cache bfloat16"]
    assert "420 tokens" in facts["tokenizer"]
    assert "characters" in facts["template"]


def test_inspect_shows_an_artifact_and_its_weights(run_cli, published: Path, tmp_path: Path) -> None:
    import datetime

    from vernacular.foundation.artifact import write_artifact

    folder = tmp_path / "base"
    shutil.copytree(published, folder)
    now = datetime.datetime(2025, 2, 3, tzinfo=datetime.UTC)
    write_artifact(
        folder, stage="base", do="pretrain", fingerprint="f", configuration={}, inputs={}, summary={"steps": 7},
        started=now, seconds=1.0,
    )  # fmt: skip
    shown = run_cli("inspect", folder).stdout
    assert shown.startswith("base  [pretrain]")
    assert "steps: 7" in shown and "mistral (MistralForCausalLM)" in shown


def test_inspect_refuses_what_is_neither(run_cli, tmp_path: Path) -> None:
    done = run_cli("inspect", tmp_path, code=2)
    assert "the folder is no artifact" in done.stderr and "Traceback" not in done.stderr


def test_inspect_says_that_there_is_no_folder(run_cli, published: Path, tmp_path: Path) -> None:
    done = run_cli("inspect", tmp_path / "nowhere", code=2)
    assert "the folder does not exist" in done.stderr and "check the path" in done.stderr
    assert "this is a file, not a folder" in run_cli("inspect", published / "config.json", code=2).stderr


def changed(name: str, **changes: object):
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


BROKEN = {
    "layers": (changed("config.json", num_hidden_layers=9), "the tensor 'model.layers.2."),
    "vocabulary": (changed("config.json", vocab_size=421), "config.json asks for [421, 64]"),
    "tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("മലയാളം"), "tokenizer.json:1:1"),
    "settings": (lambda folder: (folder / "tokenizer_config.json").write_text("[]"), "tokenizer_config.json"),
    "template": (lambda folder: (folder / "chat_template.jinja").write_text("{% for %}"), "chat_template.jinja"),
    "end": (changed("generation_config.json", eos_token_id="koniec"), 'eos_token_id is "koniec"'),
}


@pytest.mark.parametrize("case", BROKEN)
def test_inspect_calls_broken_weights_so(case: str, capsys, published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(published, folder)
    spoil, said = BROKEN[case]
    spoil(folder)
    assert main(["inspect", str(folder)]) == 2
    shown = capsys.readouterr().out
    assert "mistral (MistralForCausalLM)" in shown
    _, *reasons = shown.split("broken: ")
    assert len(reasons) == 1 and said in reasons[0]


def test_weights_without_tokenizer_and_template_are_not_broken(run_cli, published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(published / name, folder / name)
    assert "broken" not in run_cli("inspect", folder).stdout
