"""The published systems: their configurations are read, and counted to the last weight; their formulas hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vernacular.foundation.errors import UserError
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure, from_published, to_published
from vernacular.models.position import alibi_slopes

WHERE = Path("config.json")


def llama_like(
    model_type: str, hidden: int, layers: int, heads: int, inner: int, vocab: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        **more,
    }


def granite(model_type: str, scaling: float, attention: float, *shape: int, **more: Any) -> dict[str, Any]:
    multipliers = {
        "embedding_multiplier": 12.0,
        "attention_multiplier": attention,
        "residual_multiplier": 0.22,
        "logits_scaling": scaling,
    }
    hidden, layers, heads, inner = shape
    return llama_like(model_type, hidden, layers, heads, inner, 49155, tie_word_embeddings=True, **multipliers, **more)


KRUTRIM_1 = {
    "model_type": "mpt",
    "d_model": 4608,
    "n_layers": 32,
    "n_heads": 48,
    "expansion_ratio": 4,
    "max_seq_len": 4096,
    "no_bias": True,
    "norm_type": "low_precision_layernorm",
    "learned_pos_emb": False,
    "embedding_fraction": 1,
    "logit_scale": None,
    "vocab_size": 70400,
    "ffn_config": {"ffn_type": "mptmlp", "fc_type": "torch"},
    "attn_config": {
        "alibi": True,
        "alibi_bias_max": 8,
        "attn_impl": "torch",
        "attn_type": "grouped_query_attention",
        "kv_n_heads": 8,
        "clip_qkv": 6,
        "qk_ln": False,
        "qk_gn": False,
        "rope": False,
        "prefix_lm": False,
        "attn_uses_sequence_id": False,
        "sliding_window_size": -1,
        "softmax_scale": None,
    },
}
PARAM_1 = {
    **llama_like("parambharatgen", 2048, 32, 16, 11008, 256000, custom_mlp_ratio=3.5),
    "max_position_embeddings": 2048,
}
EXPERTS_OF_32 = {"num_local_experts": 32, "num_experts_per_tok": 8, "rms_norm_eps": 1e-6}
EXPERTS_OF_40 = {"num_local_experts": 40, "num_experts_per_tok": 8, "rms_norm_eps": 1e-6}
# The published configuration, all weights, and those active for a token.
SYSTEMS: dict[str, tuple[dict[str, Any], int, int]] = {
    "Param-1": (PARAM_1, 2_860_648_448, 2_860_648_448),
    "Krutrim-1": (KRUTRIM_1, 7_345_967_616, 7_345_967_616),
    "Krutrim-2": (
        llama_like("mistral", 5120, 40, 32, 14336, 131072, head_dim=128, rope_theta=1e6, sliding_window=4096),
        12_247_782_400,
        12_247_782_400,
    ),
    "Granite 1B-A400M": (
        granite("granitemoe", 6.0, 0.015625, 1024, 24, 16, 512, **EXPERTS_OF_32),
        1_334_628_352,
        428_658_688,
    ),
    "Granite 3B-A800M": (
        granite("granitemoe", 6.0, 0.015625, 1536, 32, 24, 512, **EXPERTS_OF_40),
        3_298_793_472,
        882_874_368,
    ),
    "Granite 2B": (
        granite("granite", 8.0, 0.015625, 2048, 40, 32, 8192, attention_dropout=0.1),
        2_533_531_648,
        2_533_531_648,
    ),
    "Granite 8B": (granite("granite", 16.0, 0.0078125, 4096, 40, 32, 12800), 8_170_848_256, 8_170_848_256),
    "Bielik-7B": (llama_like("mistral", 4096, 32, 32, 14336, 32000, sliding_window=4096), 7_241_732_096, 7_241_732_096),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_system_is_counted_to_the_last_weight(name: str) -> None:
    config, total, active = SYSTEMS[name]
    configuration = from_published(config, WHERE)
    with torch.device("meta"):
        decoder = Decoder(configuration)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == total
    assert (configuration.num_parameters(), configuration.num_active_parameters()) == (total, active)


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_is_written_is_read_again_as_the_same(name: str) -> None:
    configuration = from_published(SYSTEMS[name][0], WHERE)
    assert from_published(to_published(configuration), WHERE) == configuration


def test_the_published_shapes_of_krutrim() -> None:
    first, second = (from_published(SYSTEMS[name][0], WHERE) for name in ("Krutrim-1", "Krutrim-2"))
    assert (first.head_dim, first.num_key_value_heads, first.intermediate_size) == (96, 8, 18432)
    assert (first.activation, first.clip_qkv, first.tie_embeddings) == ("gelu", 6.0, True)
    assert (second.head_dim, second.window, second.rope_theta) == (128, 4096, 1e6)
    with torch.device("meta"):
        output = Decoder(second).blocks[0].attention.output.weight
    assert tuple(output.shape) == (5120, 4096)


def test_alibi_slopes_of_48_heads() -> None:
    slopes = alibi_slopes(48, 8)
    expected = {0: 0.8408964, 31: 0.00390625, 32: 0.9170040, 47: 0.0681567}
    for head, slope in expected.items():
        assert slopes[head].item() == pytest.approx(slope, rel=1e-6)
    assert alibi_slopes(8, 8).tolist() == [2.0**-i for i in range(1, 9)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_config": {**KRUTRIM_1["attn_config"], "alibi": False}}, "attn_config.alibi: False"),  # type: ignore[dict-item]
        ({"attn_config": {**KRUTRIM_1["attn_config"], "qk_ln": True}}, "attn_config.qk_ln: True"),  # type: ignore[dict-item]
        ({"attn_config": {**KRUTRIM_1["attn_config"], "attn_type": "new"}}, "attn_config.attn_type: new"),  # type: ignore[dict-item]
        ({"ffn_config": {"ffn_act_fn": {"name": "tanh"}}}, "ffn_act_fn"),
        ({"no_bias": None}, "no_bias"),
    ],
)
def test_what_the_blocks_do_not_compute_is_refused_by_its_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_published({**KRUTRIM_1, **changes}, WHERE)


def test_the_activation_of_krutrim_1_is_a_setting() -> None:
    relu = from_published({**KRUTRIM_1, "ffn_config": {"ffn_act_fn": {"name": "relu"}}}, WHERE)
    assert relu.activation == "relu"
    assert to_published(relu)["ffn_config"]["ffn_act_fn"] == {"name": "relu"}


def test_a_setting_that_the_layout_has_no_place_for_is_refused() -> None:
    shape = {"hidden_size": 64, "num_layers": 1, "num_heads": 4, "intermediate_size": 64}
    with pytest.raises(UserError, match="no place for window"):
        configure(ModelShape(**shape, window=8), 100, 32)
    with pytest.raises(UserError, match="family: llama"):
        configure(ModelShape(**shape, family="parambharatgen"), 100, 32)
