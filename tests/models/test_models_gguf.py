"""GGUF files: read back value by value, and by llama.cpp itself where it is installed."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from vernacular.foundation.errors import MachineError, UserError
from vernacular.models.bridge import export_weights, import_weights
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.gguf import pre_tokenizer
from vernacular.models.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED
from vernacular.models.weights import copy_tokenizer, load_decoder, published_token_ids, save_weights
from vernacular.tokens.tokenizer import Tokenizer

gguf = pytest.importorskip("gguf", reason="needs the extra [gguf]")

PROBES = ["W 1999 r. było 12 345,67 zł", "क्षत्रिय, वर्ष २०२४", "it's late, WE'LL wait", "iPhone i LaTeX", "a\n\nb\r\n c"]
GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.05,
    "residual_multiplier": 0.22,
    "logits_scaling": 6.0,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama, one key head": {"family": "llama", "num_heads": 3, "num_key_value_heads": 1, "head_dim": 32},
    "llama, tied": {"family": "llama", "num_key_value_heads": 2, "rope_theta": 1e6, "tie_embeddings": True},
    "mistral": {"family": "mistral", "num_key_value_heads": 2, "head_dim": 40, "window": 48},
    "granite": {"family": "granite", **GRANITE, "tie_embeddings": True},
    "granitemoe": {"family": "granitemoe", "num_experts": 5, "experts_per_token": 2, **GRANITE, "tie_embeddings": True},
    "granitemoe, untied": {"family": "granitemoe", "num_experts": 32, "experts_per_token": 8, **GRANITE},
    "mpt": {"family": "mpt", "tie_embeddings": True, "intermediate_size": 384},
    "mpt, grouped": {
        "family": "mpt",
        "num_heads": 6,
        "num_key_value_heads": 2,
        "clip_qkv": 0.5,
        "tie_embeddings": True,
        "intermediate_size": 384,
    },
}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tokenizer(tmp_path_factory.mktemp("gguf") / "tokenizer")


@pytest.fixture
def weights(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., Path]:
    def make(name: str, *, dtype: str = "float32", vocab_size: int = tiny.VOCAB_SIZE, **changes: Any) -> Path:
        shape = {"hidden_size": 96, "num_layers": 2, "num_heads": 4, "intermediate_size": 64, "initializer_range": 0.2}
        decoder = Decoder(configure(ModelShape(**{**shape, **SHAPES[name], **changes}), vocab_size, 64))
        decoder.initialise(seed=3)
        with torch.no_grad():  # Norms of ones would hide one that is not applied.
            generator = torch.Generator().manual_seed(8)
            for parameter in decoder.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        folder = tmp_path / "weights"
        folder.mkdir()
        token_ids = published_token_ids(Tokenizer.load(tokenizer_folder))
        save_weights(folder, decoder, token_ids=token_ids, dtype=dtype)
        copy_tokenizer(tokenizer_folder, folder)
        return folder

    return make


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The file's settings, and its tensors as float32."""
    reader = gguf.GGUFReader(path)
    settings = {name: field.contents() for name, field in reader.fields.items()}
    return settings, {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}


def unrotated(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Queries or keys as they were: within a head, rows 2c and 2c + 1 of the file are rows c and c + C/2."""
    half = head_dim // 2
    order = [2 * row if row < half else 2 * (row - half) + 1 for row in range(head_dim)]
    return rows.reshape(-1, head_dim, rows.shape[-1])[:, order].reshape(rows.shape)


@pytest.mark.parametrize("name", SHAPES)
def test_every_value_is_in_the_file(name: str, weights: Callable[..., Path], tmp_path: Path) -> None:
    folder = weights(name)
    export_weights(folder, tmp_path / "a.gguf", "gguf")
    decoder = load_decoder(folder)
    shape = decoder.configuration
    _, tensors = read(tmp_path / "a.gguf")
    state = {key: value.numpy() for key, value in decoder.state_dict().items()}
    expected = {"token_embd": state["embedding.weight"], "output_norm": state["final_norm.weight"]}
    if not shape.tie_embeddings:
        expected["output"] = state["head.weight"]
    for layer in range(shape.num_layers):
        ours = {key.removeprefix(f"blocks.{layer}."): value for key, value in state.items() if f".{layer}." in key}
        block: dict[str, np.ndarray] = {
            "attn_norm": ours["attention_norm.weight"],
            "ffn_norm": ours["feed_forward_norm.weight"],
            "attn_output": ours["attention.output.weight"],
        }
        projections = [ours[f"attention.project.{part}.weight"] for part in ("query", "key", "value")]
        if shape.family == "mpt":
            block["attn_qkv"] = np.concatenate(projections)
            block["ffn_up"], block["ffn_down"] = ours["feed_forward.up.weight"], ours["feed_forward.down.weight"]
        else:
            block |= dict(zip(("attn_q", "attn_k", "attn_v"), projections, strict=True))
            for part in ("attn_q", "attn_k"):
                found = f"blk.{layer}.{part}.weight"
                assert not np.array_equal(tensors[found], block[part])
                tensors[found] = unrotated(tensors[found], shape.head_dim)
        if shape.family == "granitemoe":
            inner = shape.intermediate_size
            block["ffn_gate_inp"] = ours["feed_forward.router.weight"]
            block["ffn_gate_exps"] = ours["feed_forward.experts.input"][:, :inner]
            block["ffn_up_exps"] = ours["feed_forward.experts.input"][:, inner:]
            block["ffn_down_exps"] = ours["feed_forward.experts.output"]
        elif shape.family != "mpt":
            for theirs, part in (("ffn_gate", "project.gate"), ("ffn_up", "project.up"), ("ffn_down", "down")):
                block[theirs] = ours[f"feed_forward.{part}.weight"]
        expected |= {f"blk.{layer}.{theirs}": value for theirs, value in block.items()}
    assert tensors.keys() == {f"{key}.weight" for key in expected}
    for key, value in expected.items():
        assert np.array_equal(tensors[f"{key}.weight"], value), key


@pytest.mark.parametrize(
    ("dtype", "file_type", "error"), [("bfloat16", 32, 2**-8), ("float16", 1, 2**-11), ("q8_0", 7, 1 / 127)]
)
def test_types_round_as_they_should(
    dtype: str, file_type: int, error: float, weights: Callable[..., Path], tmp_path: Path
) -> None:
    folder = weights("granitemoe")
    export_weights(folder, tmp_path / "whole.gguf", "gguf")
    export_weights(folder, tmp_path / "a.gguf", "gguf", dtype=dtype)
    settings, tensors = read(tmp_path / "a.gguf")
    _, whole = read(tmp_path / "whole.gguf")
    assert settings["general.file_type"] == file_type
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert kinds["blk.0.attn_norm.weight"] == kinds["blk.0.ffn_gate_inp.weight"] == "F32"
    assert kinds["blk.0.ffn_up_exps.weight"] == {"bfloat16": "BF16", "float16": "F16", "q8_0": "Q8_0"}[dtype]
    for key, value in tensors.items():
        largest = np.abs(whole[key]).max()
        assert np.abs(value - whole[key]).max() <= error * largest, key
        assert key.endswith("norm.weight") or "gate_inp" in key or not np.array_equal(value, whole[key])


def test_the_settings_say_what_the_model_computes(weights: Callable[..., Path], tmp_path: Path) -> None:
    export_weights(weights("granitemoe, untied"), tmp_path / "a.gguf", "gguf")
    settings, _ = read(tmp_path / "a.gguf")
    said = {key.removeprefix("granitemoe."): value for key, value in settings.items() if key.startswith("granitemoe.")}
    assert settings["general.architecture"] == "granitemoe"
    assert {key: said[key] for key in ("expert_count", "expert_used_count", "block_count", "context_length")} == {
        "expert_count": 32, "expert_used_count": 8, "block_count": 2, "context_length": 64
    }  # fmt: skip
    scales = [said[key] for key in ("embedding_scale", "attention.scale", "residual_scale", "logit_scale")]
    assert scales == pytest.approx([12.0, 0.05, 0.22, 6.0])


def test_a_window_cuts_the_context_and_says_so(weights: Callable[..., Path], tmp_path: Path) -> None:
    exported = export_weights(weights("mistral"), tmp_path / "a.gguf", "gguf")
    settings, _ = read(tmp_path / "a.gguf")
    assert settings["llama.context_length"] == 48
    assert any("window of 48" in note for note in exported.notes)


def test_what_llama_cpp_computes_otherwise_is_refused(weights: Callable[..., Path], tmp_path: Path) -> None:
    folder = weights("mpt", activation="relu")
    with pytest.raises(UserError, match=r"computes activation gelu, gelu_tanh, not relu"):
        export_weights(folder, tmp_path / "a.gguf", "gguf")
    assert not (tmp_path / "a.gguf").exists()


def test_values_and_rows_that_do_not_fit_are_refused(weights: Callable[..., Path], tmp_path: Path) -> None:
    folder = weights("llama, tied", intermediate_size=72)
    with pytest.raises(UserError, match=r"blocks of 32, and those of '.*down_proj.weight' have 72"):
        export_weights(folder, tmp_path / "a.gguf", "gguf", dtype="q8_0")
    with pytest.raises(UserError, match="unknown dtype 'q4_0'"):
        export_weights(folder, tmp_path / "a.gguf", "gguf", dtype="q4_0")
    decoder = load_decoder(folder)
    with torch.no_grad():
        decoder.embedding.weight[5, 5] = 1e6
    save_weights(folder, decoder, token_ids={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    with pytest.raises(UserError, match=r"float16 cannot hold a value of 'model\.embed_tokens\.weight'"):
        export_weights(folder, tmp_path / "a.gguf", "gguf", dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_file_is_replaced_only_when_told_so(weights: Callable[..., Path], tmp_path: Path) -> None:
    folder = weights("llama, tied")
    (tmp_path / "a.gguf").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_weights(folder, tmp_path / "a.gguf", "gguf")
    with pytest.raises(UserError, match="is no GGUF file"):
        export_weights(folder, tmp_path / "a.gguf", "gguf", force=True)
    assert (tmp_path / "a.gguf").read_text() == "mine"
    with pytest.raises(UserError, match="lies inside the folder that is read"):
        export_weights(folder, folder / "model.gguf", "gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF, cut short")
    export_weights(folder, tmp_path / "a.gguf", "gguf", force=True)
    assert gguf.GGUFReader(tmp_path / "a.gguf").tensors


# ------------------------------------------------------------------------------------------------------- tokenizer


def test_the_tokenizer_and_template_travel_along(weights: Callable[..., Path], tmp_path: Path) -> None:
    folder = weights("llama, tied", vocab_size=tiny.VOCAB_SIZE + 12)
    export_weights(folder, tmp_path / "a.gguf", "gguf")
    settings, _ = read(tmp_path / "a.gguf")
    tokenizer = Tokenizer.load(folder)
    tokens, types = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    assert settings["tokenizer.ggml.model"] == "gpt2"
    assert tokens[: tokenizer.vocab_size] == [tokenizer.token_text(n) for n in range(tokenizer.vocab_size)]
    assert len(tokens) == len(types) == tiny.VOCAB_SIZE + 12
    assert types[-1] == UNUSED and types[tokenizer.end_id] == CONTROL and types[300] == NORMAL
    assert settings["tokenizer.ggml.bos_token_id"] == tokenizer.begin_id
    assert settings["tokenizer.ggml.eos_token_id"] == tokenizer.end_id
    assert settings["tokenizer.ggml.add_bos_token"] is True
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    assert settings["tokenizer.ggml.merges"] == [" ".join(merge) for merge in merges]
    assert settings["tokenizer.chat_template"] == (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert "probe texts" in settings["vernacular.tokenizer"]


def test_every_token_that_ends_an_answer_is_named(weights: Callable[..., Path], tmp_path: Path) -> None:
    folder = weights("llama, tied")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5, 6, 7]}))
    exported = export_weights(folder, tmp_path / "a.gguf", "gguf")
    settings, _ = read(tmp_path / "a.gguf")
    named = [settings[f"tokenizer.ggml.{kind}_token_id"] for kind in ("eos", "eot", "eom")]
    assert named == [2, 5, 6]
    assert any("names 3 of the 4 tokens that end an answer" in note for note in exported.notes)


def test_the_template_for_tools_has_its_own_name(weights: Callable[..., Path], tmp_path: Path) -> None:
    folder = weights("llama, tied")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/tool_use.jinja").write_text("{{ tools }}{{ messages }}")
    imported = import_weights(folder, tmp_path / "ours").folder
    export_weights(imported, tmp_path / "a.gguf", "gguf")
    settings, _ = read(tmp_path / "a.gguf")
    assert settings["tokenizer.chat_template.tool_use"] == "{{ tools }}{{ messages }}"
    assert settings["tokenizer.chat_template"] == (folder / "chat_template.jinja").read_text(encoding="utf-8")


def test_a_missing_package_is_named(weights: Callable[..., Path], tmp_path: Path, monkeypatch: Any) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(MachineError, match="needs the package 'gguf'") as caught:
        export_weights(weights("llama, tied"), tmp_path / "a.gguf", "gguf")
    assert "vernacular[gguf]" in str(caught.value)


def test_a_tokenizer_that_llama_cpp_cannot_follow_is_refused_or_marked(
    weights: Callable[..., Path], tmp_path: Path
) -> None:
    folder = weights("llama, tied")
    contents = json.loads((folder / "tokenizer.json").read_text())
    contents["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(contents))
    with pytest.raises(UserError, match="other tokens than the original on") as caught:
        export_weights(folder, tmp_path / "a.gguf", "gguf")
    assert "--ids-only" in str(caught.value)
    assert not (tmp_path / "a.gguf").exists()
    exported = export_weights(folder, tmp_path / "a.gguf", "gguf", ids_only=True)
    assert any("other tokens than the original" in note for note in exported.notes)
    assert "other tokens" in read(tmp_path / "a.gguf")[0]["vernacular.tokenizer"]


@pytest.mark.parametrize("name", [pattern.name for pattern in pre_tokenizer.known_patterns()])
def test_a_tokenizer_that_cuts_as_llama_cpp_does_is_recognised(
    name: str, weights: Callable[..., Path], tmp_path: Path
) -> None:
    """A tokenizer trained with one of llama.cpp's cuts is written with that cut's name."""
    import tokenizers
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    pattern = next(known for known in pre_tokenizer.known_patterns() if known.name == name)
    engine = tokenizers.Tokenizer(models.BPE(ignore_merges=pattern.ignore_merges))
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(regex), "isolated") for regex in pattern.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    engine.decoder = decoders.ByteLevel()
    texts = [text for texts in tiny.SENTENCES.values() for text in texts] + PROBES
    trainer = trainers.BpeTrainer(
        vocab_size=tiny.VOCAB_SIZE * 3, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    engine.train_from_iterator(texts, trainer)
    folder = weights("llama, tied", vocab_size=tiny.VOCAB_SIZE * 3)
    for path in folder.glob("*token*"):
        path.unlink()
    engine.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    exported = export_weights(folder, tmp_path / "a.gguf", "gguf")
    assert any("the same tokens as the original" in note for note in exported.notes)
    written = read(tmp_path / "a.gguf")[0]["tokenizer.ggml.pre"]
    assert written == name


def make_sentencepiece(folder: Path) -> None:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for texts in tiny.SENTENCES.values() for text in texts]),
        model_writer=model, vocab_size=500, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2, pad_id=-1, hard_vocab_limit=False,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_a_sentencepiece_model_comes_in_and_goes_out(weights: Callable[..., Path], tmp_path: Path) -> None:
    folder = weights("mistral", vocab_size=512)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    make_sentencepiece(folder)
    imported = import_weights(folder, tmp_path / "ours").folder
    assert (imported / "tokenizer.json").is_file() and not (imported / "tokenizer.model").exists()
    export_weights(imported, tmp_path / "a.gguf", "gguf")
    settings, _ = read(tmp_path / "a.gguf")
    tokenizer = Tokenizer.load(imported)
    tokens, types = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    scores = dict(zip(tokens, settings["tokenizer.ggml.scores"], strict=True))
    assert settings["tokenizer.ggml.model"] == "llama"
    assert types[0] == UNKNOWN and types[1] == CONTROL and types[tokens.index("<0x41>")] == BYTE
    assert settings["tokenizer.ggml.add_space_prefix"] is True
    import sentencepiece

    original = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    merged = [n for n in range(original.vocab_size()) if len(original.id_to_piece(n)) > 1 and types[n] == NORMAL]
    by_original = sorted(merged, key=lambda n: -original.get_score(n))
    assert [scores[tokens[n]] for n in by_original] == sorted((scores[tokens[n]] for n in merged), reverse=True)
    assert tokenizer.vocab_size == original.vocab_size()


def test_our_own_pieces_of_characters_are_written_for_llama_cpp(weights: Callable[..., Path], tmp_path: Path) -> None:
    """`writing: sentencepiece` needs no name of a cut, so nothing is refused and no flag is needed."""
    folder = weights("llama, tied", vocab_size=480)
    for path in folder.glob("*token*"):
        path.unlink()
    trained = tiny.make_tokenizer(tmp_path / "tokenizer", 480, writing="sentencepiece")
    tokenizer = Tokenizer.load(trained)
    tokenizer.save(folder)
    export_weights(folder, tmp_path / "a.gguf", "gguf")
    settings, _ = read(tmp_path / "a.gguf")
    tokens, types = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    assert settings["tokenizer.ggml.model"] == "llama"
    assert settings["tokenizer.ggml.add_space_prefix"] is False
    assert tokens == [tokenizer.token_text(token_id) for token_id in range(480)]
    assert types[tokens.index("<unk>")] == UNKNOWN and types[tokens.index("<|user|>")] == CONTROL
    # What is joined first by the highest score gives our ids.
    scores = dict(zip(tokens, settings["tokenizer.ggml.scores"], strict=True))
    for text in [text for texts in tiny.SENTENCES.values() for text in texts]:
        parts = list(text.replace(" ", "▁"))
        while joined := [
            (-scores[left + right], place)
            for place, (left, right) in enumerate(itertools.pairwise(parts))
            if types[tokens.index(left + right) if left + right in scores else 0] == NORMAL
        ]:
            place = min(joined)[1]
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        spelt = [
            token_id
            for part in parts
            for token_id in ([tokens.index(part)] if part in scores else [_byte(tokens, b) for b in part.encode()])
        ]
        assert spelt == tokenizer.encode(text)


def _byte(tokens: list[str], byte: int) -> int:
    return tokens.index(f"<0x{byte:02X}>")


# ------------------------------------------------------------------------------------------------ llama.cpp itself


@pytest.fixture
def llama_cpp() -> Any:
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("needs llama-cpp-python: the extra [llama-cpp]")
    import llama_cpp

    return llama_cpp


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SHAPES)
def test_llama_cpp_gives_our_greedy_tokens(
    name: str, dtype: str, llama_cpp: Any, weights: Callable[..., Path], tmp_path: Path
) -> None:
    folder = weights(name, dtype=dtype)
    export_weights(folder, tmp_path / "a.gguf", "gguf", ids_only=True)
    decoder = load_decoder(folder)
    prompt = torch.randint(8, tiny.VOCAB_SIZE, (9,), generator=torch.Generator().manual_seed(1)).tolist()
    # Its cache in float32, as ours: at half precision the best two tokens may change places.
    theirs = llama_cpp.Llama(
        str(tmp_path / "a.gguf"), n_ctx=48, n_threads=1, type_k=0, type_v=0, logits_all=True, verbose=False
    )
    theirs.eval(prompt)
    ids = list(prompt)
    bound = {"float32": 1e-3, "bfloat16": 0.5}[dtype] + (0.01 if decoder.configuration.family == "mpt" else 0)
    for _ in range(24):
        with torch.no_grad():
            ours = decoder.logits(decoder(torch.tensor([ids])))[0, -1]
        found = torch.from_numpy(np.array(theirs.scores[len(ids) - 1]))
        assert (found - ours).abs().max() < bound
        best: Sequence[float] = ours.topk(2).values.tolist()
        # bfloat16 rounds every product's input; tokens nearer to each other than that are a toss.
        if dtype == "float32" or best[0] - best[1] > bound:
            assert int(found.argmax()) == int(ours.argmax())
        ids.append(int(ours.argmax()))
        theirs.eval(ids[-1:])
