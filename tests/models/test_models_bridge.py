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
from safetensors.torch import load_file

from published_weights import SHAPES, as_legacy, change_json, change_tensors, contents, logits
from vernacular.foundation.errors import UserError
from vernacular.models.bridge import export_weights, import_weights
from vernacular.models.weights import load_decoder, read_config
from vernacular.tokens.tokenizer import Tokenizer


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
