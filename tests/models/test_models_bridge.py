"""Published folders of every family and shape come in, go out, and come in again as the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from vernacular.foundation.errors import UserError
from vernacular.models.bridge import export_weights, import_weights
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import copy_tokenizer, load_decoder, published_token_ids, read_config, save_weights
from vernacular.tokens.tokenizer import Tokenizer

GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.05,
    "residual_multiplier": 0.22,
    "logits_scaling": 6.0,
    "tie_embeddings": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "num_key_value_heads": 2, "head_dim": 20},
    "mistral": {"family": "mistral", "num_key_value_heads": 1, "window": 9},
    "granite": {"family": "granite", **GRANITE},
    "granitemoe": {"family": "granitemoe", "num_experts": 5, "experts_per_token": 2, **GRANITE},
    "mpt": {"family": "mpt", "tie_embeddings": True, "clip_qkv": 0.5},
    "mpt, grouped": {"family": "mpt", "tie_embeddings": True, "num_key_value_heads": 2},
}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tokenizer(tmp_path_factory.mktemp("bridge") / "tokenizer")


@pytest.fixture
def publish(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., Path]:
    """`publish("mistral")`: a folder as a publisher would have it; `shard_bytes` and any setting of the shape."""

    def make(name: str = "llama", *, shard_bytes: int = 1 << 30, dtype: str = "float32", **changes: Any) -> Path:
        shape = {"hidden_size": 48, "num_layers": 2, "num_heads": 4, "intermediate_size": 192, "initializer_range": 0.2}
        decoder = Decoder(configure(ModelShape(**{**shape, **SHAPES[name], **changes}), tiny.VOCAB_SIZE, 64))
        decoder.initialise(seed=3)
        folder = tmp_path / "published"
        folder.mkdir()
        token_ids = published_token_ids(Tokenizer.load(tokenizer_folder))
        save_weights(folder, decoder, token_ids=token_ids, dtype=dtype, shard_bytes=shard_bytes)
        copy_tokenizer(tokenizer_folder, folder)
        return folder

    return make


def contents(folder: Path) -> dict[str, bytes]:
    """All that an import writes, but the record of where it came from."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "provenance.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def as_legacy(folder: Path, *, shards: int = 1, zipped: bool = True) -> None:
    """Rewrite a published folder's tensors as PyTorch pickles."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = [names[number::shards] for number in range(shards)]
    files = [f"pytorch_model-{n + 1:05d}-of-{shards:05d}.bin" for n in range(shards)] if shards > 1 else []
    for file, part in zip(files or ["pytorch_model.bin"], parts, strict=True):
        torch.save({name: tensors[name] for name in part}, folder / file, _use_new_zipfile_serialization=zipped)
    if files:
        weight_map = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def change_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


def change_tensors(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path) | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, path, {"format": "pt"})


def logits(folder: Path) -> torch.Tensor:
    decoder = load_decoder(folder)
    with torch.no_grad():
        return decoder.logits(decoder(torch.arange(3, 43)[None]))


# ------------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("name", SHAPES)
def test_import_export_import_gives_the_same_bytes(name: str, publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish(name, dtype="bfloat16")
    import_weights(source, tmp_path / "a")
    export_weights(tmp_path / "a", tmp_path / "exported")
    import_weights(tmp_path / "exported", tmp_path / "b")
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert first == contents(tmp_path / "exported")
    assert {"config.json", "generation_config.json", "model.safetensors", "chat_template.jinja"} <= first.keys()
    assert {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} <= first.keys()
    published, ours = load_file(source / "model.safetensors"), load_file(tmp_path / "a/model.safetensors")
    assert published.keys() == ours.keys()
    assert all(torch.equal(published[key], ours[key]) and ours[key].dtype == torch.bfloat16 for key in ours)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "mpt, grouped"])
def test_transformers_loads_the_export_without_remote_code(
    name: str, publish: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import_weights(publish(name), tmp_path / "a")
    exported = export_weights(tmp_path / "a", tmp_path / "b", shard_bytes=60_000)
    assert exported.notes == ()
    assert len(list(exported.folder.glob("model-*.safetensors"))) > 1
    reference = AutoModelForCausalLM.from_pretrained(exported.folder, dtype=torch.float32, trust_remote_code=False)
    with torch.no_grad():
        difference = reference.eval()(torch.arange(3, 43)[None]).logits - logits(tmp_path / "a")
    assert difference.abs().max() <= 1e-4
    tokenizer = AutoTokenizer.from_pretrained(exported.folder, trust_remote_code=False)
    text = "Żółta łódka. मीठा पानी; மழை"
    assert tokenizer.encode(text, add_special_tokens=False) == Tokenizer.load(exported.folder).encode(text)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("mpt, grouped", {}, "2 key heads for 4 query heads"),
        ("mpt", {"activation": "relu"}, "the activation relu"),
        ("mpt", {"intermediate_size": 96}, "a feed-forward of 96 for a width of 48"),
        ("mpt", {"alibi_bias_max": 4}, "alibi_bias_max 4"),
    ],
)
def test_the_export_says_where_transformers_would_compute_something_else(
    name: str, changes: dict[str, Any], reason: str, publish: Callable[..., Path], tmp_path: Path
) -> None:
    (note,) = export_weights(publish(name, **changes), tmp_path / "out").notes
    assert "llm-foundry" in note and reason in note


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("shards", [1, 3])
def test_legacy_files_are_read_as_safetensors_are(
    shards: int, zipped: bool, publish: Callable[..., Path], tmp_path: Path
) -> None:
    source = publish("granitemoe")
    import_weights(source, tmp_path / "a")
    as_legacy(source, shards=shards, zipped=zipped)
    import_weights(source, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    with pytest.raises(UserError, match="legacy format") as caught:
        load_decoder(source)
    assert "vernacular import" in str(caught.value)


def test_shards_come_in_and_go_out(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish(shard_bytes=50_000)
    assert len(list(source.glob("model-*-of-*.safetensors"))) > 3
    one = import_weights(source, tmp_path / "one").folder
    two = import_weights(source, tmp_path / "two", shard_bytes=100_000).folder
    index = json.loads((two / "model.safetensors.index.json").read_text())
    sizes = [path.stat().st_size for path in sorted(two.glob("model-*.safetensors"))]
    assert len(sizes) > 1 and max(sizes) < 110_000
    assert set(index["weight_map"]) == set(load_file(one / "model.safetensors"))
    assert torch.equal(logits(one), logits(two))


def test_a_dtype_asked_for_is_written(publish: Callable[..., Path], tmp_path: Path) -> None:
    imported = import_weights(publish(), tmp_path / "a", dtype="bfloat16")
    assert {tensor.dtype for tensor in load_file(imported.folder / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((imported.folder / "config.json").read_text())["dtype"] == "bfloat16"


def test_half_precision_is_kept_and_computed_with(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish()
    halves = {name: tensor.half() for name, tensor in load_file(source / "model.safetensors").items()}
    change_tensors(source, dict(halves))
    imported = import_weights(source, tmp_path / "a").folder
    assert json.loads((imported / "config.json").read_text())["dtype"] == "float16"
    assert torch.equal(logits(imported), logits(source))


def test_param_becomes_llama_and_leaves_its_code_behind(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish("llama", head_dim=12, intermediate_size=168)
    plain = import_weights(source, tmp_path / "plain").folder
    change_json(
        source / "config.json",
        model_type="parambharatgen",
        architectures=["ParamBharatGenForCausalLM"],
        auto_map={"AutoModelForCausalLM": "modeling_parambharatgen.ParamBharatGenForCausalLM"},
        custom_mlp_ratio=3.5,
        intermediate_size=11008,
        head_dim="gone",
    )
    (source / "modeling_parambharatgen.py").write_text("raise SystemExit('remote code was run')\n")
    imported = import_weights(source, tmp_path / "a")
    assert imported.family == "llama"
    assert contents(imported.folder) == contents(plain)
    assert any("no remote code" in note for note in imported.notes)
    assert any("code (*.py)" in note for note in imported.notes)


def test_the_window_is_kept_changed_or_taken_away(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish("mistral")
    windows = {"keep": 9, None: None, 17: 17}
    for number, (asked, found) in enumerate(windows.items()):
        folder = import_weights(source, tmp_path / str(number), window=asked).folder  # type: ignore[arg-type]
        assert read_config(folder).window == found
    assert not torch.equal(logits(tmp_path / "0"), logits(tmp_path / "1"))


def test_a_tied_copy_is_left_out_and_a_head_of_its_own_refused(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish("granite")
    plain = import_weights(source, tmp_path / "plain").folder
    table = load_file(source / "model.safetensors")["model.embed_tokens.weight"]
    change_tensors(source, {"lm_head.weight": table.clone()})
    assert contents(import_weights(source, tmp_path / "copy").folder) == contents(plain)
    change_tensors(source, {"lm_head.weight": table + 1})
    with pytest.raises(UserError, match="differs from the embedding table"):
        import_weights(source, tmp_path / "apart")


def test_stored_frequencies_are_left_out_where_they_are_those_of_the_config(
    publish: Callable[..., Path], tmp_path: Path
) -> None:
    source = publish()
    plain = import_weights(source, tmp_path / "plain").folder
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    frequencies = 10000.0 ** -(torch.arange(0, 20, 2) / 20)
    change_tensors(source, {name: frequencies.bfloat16()})
    assert contents(import_weights(source, tmp_path / "a").folder) == contents(plain)
    change_tensors(source, {name: frequencies / 8})
    with pytest.raises(UserError, match="other rotary frequencies"):
        import_weights(source, tmp_path / "b")


def test_loading_imports_no_compiler(publish: Callable[..., Path]) -> None:
    """Drawing weights on the meta device, the usual way, imports PyTorch's compiler, which takes a second."""
    code = (
        "import sys; from pathlib import Path; from vernacular.models.weights import load_decoder;"
        "load_decoder(Path(sys.argv[1]), dtype='bfloat16');"
        "print(*(name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(publish())], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


# --------------------------------------------------------------------------------------- tokens, template, settings


def test_the_template_moves_into_its_own_file(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish()
    plain = import_weights(source, tmp_path / "plain").folder
    template = (source / "chat_template.jinja").read_text(encoding="utf-8")
    (source / "chat_template.jinja").unlink()
    change_json(source / "tokenizer_config.json", chat_template=template)
    imported = import_weights(source, tmp_path / "a").folder
    assert (imported / "chat_template.jinja").read_text(encoding="utf-8") == template
    assert json.loads((imported / "tokenizer_config.json").read_text()) == json.loads(
        (plain / "tokenizer_config.json").read_text()
    )


def test_a_template_may_be_given(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish()
    mine = tmp_path / "mine.jinja"
    mine.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", encoding="utf-8")
    imported = import_weights(source, tmp_path / "a", template=mine).folder
    assert (imported / "chat_template.jinja").read_bytes() == mine.read_bytes()
    known = import_weights(source, tmp_path / "b", template="krutrim-2").folder
    assert "<|assistant|>" in (known / "chat_template.jinja").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="krutrim-3"):
        import_weights(source, tmp_path / "c", template="krutrim-3")
    assert not (tmp_path / "c").exists()


def test_generation_settings_are_kept_where_they_are_sound(publish: Callable[..., Path], tmp_path: Path) -> None:
    source = publish()
    stated = {"do_sample": True, "temperature": 0.6, "top_k": 50, "eos_token_id": [2, 5], "top_p": 7, "num_beams": 3}
    (source / "generation_config.json").write_text(json.dumps(stated))
    imported = import_weights(source, tmp_path / "a")
    written = json.loads((imported.folder / "generation_config.json").read_text())
    assert {key: written[key] for key in ("do_sample", "temperature", "top_k", "eos_token_id")} == {
        key: stated[key] for key in ("do_sample", "temperature", "top_k", "eos_token_id")
    }
    assert not {"top_p", "num_beams"} & written.keys()
    assert [note for note in imported.notes if "top_p 7" in note] and [n for n in imported.notes if "num_beams" in n]
    (source / "generation_config.json").write_text(json.dumps({"temperature": 0.6}))
    (note,) = import_weights(source, tmp_path / "b").notes
    assert "temperature 0.6 has no effect without do_sample" in note


def test_the_provenance_names_every_file_with_its_hash(publish: Callable[..., Path], tmp_path: Path) -> None:
    import hashlib

    source = publish()
    folder = import_weights(source, tmp_path / "a").folder
    record = json.loads((folder / "provenance.json").read_text())
    assert record["files"].keys() == {path.name for path in source.iterdir()}
    for name, facts in record["files"].items():
        assert facts["sha256"] == hashlib.sha256((source / name).read_bytes()).hexdigest()


# --------------------------------------------------------------------------------------------------------- refused


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


# ---------------------------------------------------------------------------------------------------------- memory

MEASURE = """
import sys
from pathlib import Path
from vernacular.models.bridge import import_weights
from vernacular.models.weights import load_decoder

def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])

what, source, out, shard = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
import vernacular.models.published_tokens, vernacular.models.decoder
before = peak()
if what == "import":
    import_weights(source, out, shard_bytes=shard)
else:
    load_decoder(source, dtype="bfloat16")
print((peak() - before) * 1024)
"""


@pytest.mark.parametrize("legacy", [False, True])
def test_memory_stays_below_weights_and_a_shard(legacy: bool, publish: Callable[..., Path], tmp_path: Path) -> None:
    """200 MB in 20 MB shards: import holds two shards at most; loading the weights and one."""
    shard = 20_000_000
    source = publish(
        hidden_size=512, num_layers=24, num_heads=8, head_dim=64, intermediate_size=2048, num_key_value_heads=8,
        dtype="bfloat16", shard_bytes=shard,
    )  # fmt: skip
    total = sum(path.stat().st_size for path in source.glob("model-*.safetensors"))
    assert total > 190_000_000
    if legacy:
        files = sorted(source.glob("model-*.safetensors"))
        weight_map = {}
        for file in files:
            torch.save(load_file(file), file.with_suffix(".bin"))
            weight_map |= dict.fromkeys(load_file(file), file.with_suffix(".bin").name)
            file.unlink()
        (source / "model.safetensors.index.json").unlink()
        (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))

    def measure(what: str, folder: Path) -> int:
        words = [sys.executable, "-c", MEASURE, what, str(folder), str(tmp_path / "out"), str(shard)]
        return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    overhead = 15_000_000  # the tokenizer, code that is loaded on the way
    assert measure("import", source) <= 2 * shard + overhead
    assert measure("load", tmp_path / "out") <= total + shard + overhead
