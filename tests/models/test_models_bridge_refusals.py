"""What is wrong with a published folder, or with where it is to go, is named; and nothing is lost or left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from published_weights import change_json, change_tensors, contents, logits
from vernacular.foundation.errors import UserError
from vernacular.models.bridge import export_weights, import_weights
from vernacular.models.weights import read_config


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: change_tensors(folder, {name: None})


def as_garbage(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (drop("model.norm.weight"), r"'model\.norm\.weight' is missing"),
    "surplus": (
        lambda folder: change_tensors(folder, {"model.layers.0.self_attn.q_proj.bias": torch.zeros(80)}),
        r"unexpected tensor 'model\.layers\.0\.self_attn\.q_proj\.bias'",
    ),
    "misshapen": (
        lambda folder: change_tensors(folder, {"model.norm.weight": torch.ones(47)}),
        r"'model\.norm\.weight' is \[47\]; config\.json asks for \[48\]",
    ),
    "int8": (
        lambda folder: change_tensors(folder, {"model.norm.weight": torch.ones(48, dtype=torch.int8)}),
        r"'model\.norm\.weight' is stored as I8; quantised",
    ),
    "truncated": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
        "cannot be read",
    ),
    "quantised": (
        lambda folder: change_json(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"quantised \(gptq\)",
    ),
    "model type": (
        lambda folder: change_json(folder / "config.json", model_type="mamba"),
        "unknown model_type 'mamba'",
    ),
    "scaled rope": (
        lambda folder: change_json(folder / "config.json", rope_scaling={"rope_type": "yarn", "factor": 8}),
        "scaled rotary positions",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"no config\.json"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), r"holds a list(.|\n)*config\.json"),
    "tokenizer settings are a list": (
        lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
        r"holds a list(.|\n)*tokenizer_config\.json",
    ),
    "named tokens are a list": (
        lambda folder: (folder / "special_tokens_map.json").write_text("[]"),
        r"holds a list(.|\n)*special_tokens_map\.json",
    ),
    "generation settings are a list": (
        lambda folder: (folder / "generation_config.json").write_text("[]"),
        r"holds a list(.|\n)*generation_config\.json",
    ),
    "index is a list": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("[]"),
        r"holds a list(.|\n)*model\.safetensors\.index\.json",
    ),
    "template of another encoding": (
        lambda folder: (folder / "chat_template.jinja").write_bytes("żółw".encode("iso-8859-2")),
        r"not valid UTF-8 at byte 0(.|\n)*chat_template\.jinja",
    ),
    "end token out of range": (
        lambda folder: (folder / "generation_config.json").write_text('{"eos_token_id": [[1]]}'),
        r"eos_token_id is \[\[1\]\](.|\n)*generation_config\.json",
    ),
    **{
        f"garbage of {len(content)} bytes": (
            lambda folder, content=content: as_garbage(folder, content),
            "cannot be read",
        )
        for content in (b"abc", b"\xe6y", b"ci1\xff\xfe\xfd", b"G12345")
    },
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
    "no tensors": (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors is missing"),
    "id out of range": (lambda folder: change_json(folder / "config.json", pad_token_id=-1), "pad_token_id is -1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_named_and_nothing_is_left(case: str, publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish()
    spoil, said = REFUSED[case]
    spoil(source)
    with pytest.raises(UserError, match=said):
        import_weights(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


class Payload:
    """What an attacker would put into a pickle."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_a_pickle_that_is_more_than_tensors_is_never_run(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish()
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save({**tensors, "extra": Payload(tmp_path / "was run")}, source / "pytorch_model.bin")
    with pytest.raises(UserError, match="more than plain tensors, which could run any code"):
        import_weights(source, tmp_path / "out")
    assert not (tmp_path / "was run").exists()
    torch.save({**tensors, "step": 7}, source / "pytorch_model.bin")
    with pytest.raises(UserError, match="'step' is a int, not a tensor"):
        import_weights(source, tmp_path / "out")
    torch.save(tensors, source / "pytorch_model.bin")
    content = (source / "pytorch_model.bin").read_bytes()
    (source / "pytorch_model.bin").write_bytes(content[:-500])
    with pytest.raises(UserError, match="cut short"):
        import_weights(source, tmp_path / "out")


KILLED = """
import os, sys
from pathlib import Path
from vernacular.models import bridge, tensor_files

read = tensor_files.TensorFolder.read

def read_and_die(self, name):
    if name.endswith("layers.1.mlp.up_proj.weight"):
        os._exit(9)
    return read(self, name)

tensor_files.TensorFolder.read = read_and_die
bridge.import_weights(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_import_leaves_nothing_that_looks_finished(publish: Callable[..., Path], tmp_path: Path) -> None:
    source, out = publish(), tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(out)], check=False)
    assert done.returncode == 9
    assert not out.exists()
    assert not list(tmp_path.glob(".out*/**/config.json"))
    import_weights(source, out)
    assert torch.equal(logits(out), logits(source))


def test_a_missing_shard_is_named(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish(shard_bytes=50_000)
    gone = sorted(source.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(UserError, match=f"{gone.name} is missing"):
        import_weights(source, tmp_path / "out")


@pytest.mark.parametrize("write", [import_weights, export_weights])
def test_force_never_removes_the_source_or_what_is_not_weights(
    write: Callable[..., Any], publish: Callable[..., Path], tmp_path: Path
) -> None:
    source = publish()
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "config.json").write_bytes((source / "config.json").read_bytes())
    source = source.rename(parent / "src")
    before = contents(source)
    with pytest.raises(UserError, match=r"the folder that is read \(.*src\) lies inside the output"):
        write(source, parent, force=True)
    with pytest.raises(UserError, match="the output lies inside the folder that is read"):
        write(source, source / "out", force=True)
    (tmp_path / "link").symlink_to(parent)
    with pytest.raises(UserError, match="lies inside the output"):
        write(source, tmp_path / "link", force=True)
    out = write(source, tmp_path / "out").folder
    (out / "additional_chat_templates").mkdir()
    (out / "additional_chat_templates/tool_use.jinja").write_text("{{ messages }}")
    write(source, out, force=True)
    for name in ("मेरी-डायरी.txt", ".hidden", "logs/loss.csv", "additional_chat_templates/mój.jinja"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        with pytest.raises(UserError, match=f"holds more than weights .*{name}"):
            write(source, out, force=True)
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
        if "/" in name:
            (out / name).parent.rmdir()
    assert contents(source) == before


def test_an_output_that_exists_is_replaced_only_when_told_so(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish("mistral")
    out = import_weights(source, tmp_path / "out").folder
    with pytest.raises(UserError, match="exists already"):
        import_weights(source, out)
    import_weights(source, out, window=None, force=True)
    assert read_config(out).window is None
    with pytest.raises(UserError, match="is the folder that is read"):
        export_weights(out, out, force=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/mother.txt").write_text("Kochana Mamo")
    with pytest.raises(UserError, match="holds no weights"):
        import_weights(source, tmp_path / "letters", force=True)
    assert (tmp_path / "letters/mother.txt").read_text() == "Kochana Mamo"
    with pytest.raises(UserError, match="has no window"):
        (tmp_path / "published").rename(tmp_path / "gone")
        import_weights(publish("llama"), tmp_path / "new", window=5)
