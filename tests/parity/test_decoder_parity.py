"""The decoder against transformers, family by family: same folder, same logits; what is read is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vernacular.models.configuration import DecoderConfiguration, ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import load_decoder, save_weights

TOKEN_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GRANITE = {
    "family": "granite",
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.05,
    "residual_multiplier": 0.22,
    "logits_scaling": 6.0,
    "tie_embeddings": True,
}
EXPERTS = {**GRANITE, "family": "granitemoe", "intermediate_size": 40, "num_heads": 4, "num_key_value_heads": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "llama, grouped": {"num_heads": 6, "num_key_value_heads": 2, "head_dim": 16},
    "llama, one key head, head_dim not hidden/heads": {"num_heads": 4, "num_key_value_heads": 1, "head_dim": 20},
    "llama, tied, all key heads": {"num_heads": 4, "head_dim": 24, "tie_embeddings": True},
    "llama, other constants": {"num_heads": 2, "head_dim": 48, "rope_theta": 1e6, "norm_epsilon": 1e-3},
    "mistral, window shorter than the prompt": {
        "family": "mistral",
        "num_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 20,
        "window": 9,
    },
    "mistral, no window": {"family": "mistral", "num_heads": 4, "num_key_value_heads": 1, "rope_theta": 1e6},
    "granite": {**GRANITE, "num_heads": 4, "num_key_value_heads": 2},
    "granite, untied, no multiplier stated": {"family": "granite", "num_heads": 4},
    "granite moe, 5 experts, 2 chosen": {**EXPERTS, "num_experts": 5, "experts_per_token": 2},
    "granite moe, 32 experts, 8 chosen": {**EXPERTS, "num_experts": 32, "experts_per_token": 8},
    "granite moe, 3 experts, 1 chosen, untied": {
        **EXPERTS,
        "num_experts": 3,
        "experts_per_token": 1,
        "tie_embeddings": False,
    },
    "mpt, all key heads": {"family": "mpt", "num_heads": 4, "tie_embeddings": True, "intermediate_size": 384},
    "mpt, heads not a power of two": {
        "family": "mpt",
        "num_heads": 6,
        "tie_embeddings": True,
        "intermediate_size": 384,
        "clip_qkv": 0.5,
    },
}


def make_decoder(vocab_size: int = 333, **changes: Any) -> Decoder:
    values: dict[str, Any] = {
        "hidden_size": 96,
        "num_layers": 3,
        "intermediate_size": 200,
        "initializer_range": 0.2,
        **changes,
    }
    decoder = Decoder(configure(ModelShape(**values), vocab_size, max_positions=128))
    decoder.initialise(seed=7)
    with torch.no_grad():  # Norms of ones would hide one that is not applied.
        generator = torch.Generator().manual_seed(8)
        for parameter in decoder.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return decoder


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    decoder = make_decoder(**SHAPES[name])
    save_weights(tmp_path, decoder, token_ids=TOKEN_IDS)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(0, 333, (2, 57), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(ids).logits
        assert (decoder.logits(decoder(ids)) - expected).abs().max() <= 1e-4
        loaded = load_decoder(tmp_path)
        assert torch.equal(loaded.logits(loaded(ids)), decoder.logits(decoder(ids)))
    assert decoder.configuration.num_parameters() == sum(p.numel() for p in reference.parameters())
    assert expected.std() > 0.05, "the comparison would be empty"
    assert loaded.configuration == decoder.configuration


@pytest.mark.parametrize("name", [name for name in SHAPES if not name.startswith("llama")])
def test_a_constant_of_the_family_is_not_idle(name: str) -> None:
    """Each setting that a family adds changes the logits, so that parity with it is parity about it."""
    shape = {"num_heads": 4, **SHAPES[name]}
    plain = {"window": None, "clip_qkv": None, "alibi_bias_max": 8}
    plain |= dict.fromkeys(("embedding_multiplier", "residual_multiplier", "logits_scaling"), 1.0)
    ids = torch.randint(0, 333, (1, 57), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        decoder = make_decoder(**shape)
        expected = decoder.logits(decoder(ids))
        for setting in plain.keys() & shape.keys():
            other = make_decoder(**{**shape, setting: plain[setting]})
            if plain[setting] != shape[setting]:
                assert (other.logits(other(ids)) - expected).abs().max() > 1e-3, setting


SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"intermediate_size": 96, "rope_theta": 5e5}),
    "granite moe": (
        "GraniteMoe",
        {
            "intermediate_size": 24,
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
            "initializer_range": 0.2,
            "logits_scaling": 3.0,
            "residual_multiplier": 0.3,
        },
    ),
}


@pytest.mark.parametrize("name", SAVED)
def test_what_transformers_saves_is_read(name: str, tmp_path: Path) -> None:
    import transformers

    model, settings = SAVED[name]
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = getattr(transformers, f"{model}Config")(**shape, vocab_size=200, max_position_embeddings=64, **settings)
    torch.manual_seed(0)
    reference = getattr(transformers, f"{model}ForCausalLM")(config).eval()
    reference.save_pretrained(tmp_path)
    decoder = load_decoder(tmp_path)
    ids = torch.randint(0, 200, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (decoder.logits(decoder(ids)) - reference(ids).logits).abs().max() <= 1e-4


@pytest.mark.parametrize(
    "name", ["llama, grouped", "mpt, heads not a power of two", "granite moe, 5 experts, 2 chosen"]
)
def test_reading_and_writing_returns_the_same_tensors_and_shape(name: str, tmp_path: Path) -> None:
    save_weights(tmp_path / "a", make_decoder(**SHAPES[name]), token_ids=TOKEN_IDS)
    save_weights(tmp_path / "b", load_decoder(tmp_path / "a"), token_ids=TOKEN_IDS)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert json.loads((tmp_path / "a/config.json").read_text()) == json.loads((tmp_path / "b/config.json").read_text())


def test_param_is_llama_with_a_ratio_for_a_width(tmp_path: Path) -> None:
    decoder = make_decoder(num_heads=4, num_key_value_heads=2, intermediate_size=336)
    save_weights(tmp_path, decoder, token_ids=TOKEN_IDS)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["head_dim"]
    published = {
        **config,
        "model_type": "parambharatgen",
        "architectures": ["ParamBharatGenForCausalLM"],
        "custom_mlp_ratio": 3.5,
        "intermediate_size": 11008,  # The ratio overrides it.
    }
    (tmp_path / "config.json").write_text(json.dumps(published))
    loaded = load_decoder(tmp_path)
    ids = torch.randint(0, 333, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(ids), decoder(ids))
    assert loaded.configuration.family == "llama"


def mpt_by_the_formula(
    tensors: dict[str, torch.Tensor], ids_T: torch.Tensor, configuration: DecoderConfiguration
) -> Any:
    """Logits of an MPT with grouped queries from the published formulas, head by head, in float64."""
    heads, key_heads, head_dim = configuration.num_heads, configuration.num_key_value_heads, configuration.head_dim
    tensors = {name.removeprefix("transformer."): tensor.double() for name, tensor in tensors.items()}

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + configuration.norm_epsilon).sqrt() * weight

    power = 1
    while power < heads:
        power *= 2
    slopes = [2.0 ** (-(i + 1) * configuration.alibi_bias_max / power) for i in range(power)]
    if power != heads:
        slopes = (slopes[1::2] + slopes[0::2])[:heads]
    x = tensors["wte.weight"][ids_T]
    length = len(ids_T)
    for layer in range(configuration.num_layers):
        block = {name.split(".", 2)[2]: t for name, t in tensors.items() if name.startswith(f"blocks.{layer}.")}
        fused = norm(x, block["norm_1.weight"]) @ block["attn.Wqkv.weight"].T
        if configuration.clip_qkv is not None:
            fused = fused.clamp(-configuration.clip_qkv, configuration.clip_qkv)
        gathered = []
        for head in range(heads):
            key_head = head // (heads // key_heads)
            query = fused[:, head * head_dim : (head + 1) * head_dim]
            key = fused[:, (heads + key_head) * head_dim : (heads + key_head + 1) * head_dim]
            start = (heads + key_heads + key_head) * head_dim
            value = fused[:, start : start + head_dim]
            scores = query @ key.T / head_dim**0.5 + slopes[head] * (torch.arange(length) - (length - 1))
            scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
            gathered.append(scores.softmax(-1) @ value)
        x = x + torch.cat(gathered, -1) @ block["attn.out_proj.weight"].T
        up = norm(x, block["norm_2.weight"]) @ block["ffn.up_proj.weight"].T
        x = x + 0.5 * up * (1 + torch.erf(up / 2**0.5)) @ block["ffn.down_proj.weight"].T
    return norm(x, tensors["norm_f.weight"]) @ tensors["wte.weight"].T


@pytest.mark.parametrize(
    "shape",
    [
        {"num_heads": 6, "num_key_value_heads": 2, "clip_qkv": 1.0},
        {"num_heads": 4, "num_key_value_heads": 1},
        {"num_heads": 12, "num_key_value_heads": 4, "alibi_bias_max": 6},
    ],
)
def test_mpt_with_grouped_queries_is_its_formula(shape: dict[str, Any], tmp_path: Path) -> None:
    decoder = make_decoder(family="mpt", tie_embeddings=True, intermediate_size=384, **shape)
    save_weights(tmp_path, decoder, token_ids=TOKEN_IDS)
    ids_T = torch.randint(0, 333, (41,), generator=torch.Generator().manual_seed(1))
    expected = mpt_by_the_formula(load_file(tmp_path / "model.safetensors"), ids_T, decoder.configuration)
    with torch.no_grad():
        assert (decoder.logits(decoder(ids_T[None]))[0] - expected).abs().max() <= 1e-4
