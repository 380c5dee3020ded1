"""A weights folder as one GGUF file for llama.cpp, written tensor by tensor.

What llama.cpp's code would compute differently is refused, or said where it is a matter of rounding.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError, missing_extra, unknown_name
from vernacular.foundation.files import atomic_path
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.gguf.pre_tokenizer import Agreement, choose, has_llama_cpp, measure
from vernacular.models.gguf.tensors import TYPES, layout, most_common, plan, write_tensors
from vernacular.models.gguf.vocabulary import Vocabulary, read_vocabulary
from vernacular.models.tensor_files import TensorFolder, tensor_files
from vernacular.models.weights import read_config, stated_end_ids
from vernacular.tokens.template import TEMPLATE_FILE, ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer

# End of text, of a turn, of a message.
_MOST_END_IDS = 3
_MAGIC = b"GGUF"


def write_gguf(weights: Path, out: Path, *, dtype: str | None, force: bool, ids_only: bool) -> list[str]:
    """Write the file; sentences that its reader should know.

    Args:
        weights: a weights folder with its tokenizer.
        out: the file; appears when it is whole.
        dtype: float32, float16, bfloat16 or q8_0 (norms and routers stay float32); None: as most tensors are stored.
        force: replace the file where it exists.
        ids_only: write it even where llama.cpp cuts text into other tokens.

    Raises:
        UserError: the file exists, or llama.cpp has no words for the model or its tokenizer.
        MachineError: the extra `[gguf]` is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise missing_extra("gguf", "gguf", "exporting to GGUF")
    if out.is_dir() or (out.exists() and not force):
        raise UserError("the output exists already", where=out, fix="choose another file, or replace it with --force")
    if out.exists() and not _is_gguf(out):
        raise UserError(
            "the output exists and is no GGUF file, so it is not replaced",
            where=out,
            fix="choose another name, or remove it yourself",
        )
    configuration = read_config(weights)
    notes = check_computed(configuration)
    tokenizer = Tokenizer.load(weights)
    vocabulary = read_vocabulary(weights, tokenizer, configuration.vocab_size)
    agreement = _agreement(tokenizer, vocabulary, configuration)
    if agreement.differing and not ids_only:
        raise UserError(
            f"llama.cpp has no way to cut text that gives this tokenizer's tokens: {agreement.sentence}, "
            f"for one '{agreement.differing[0]}' (closest: {agreement.pre_tokenizer})",
            where=weights / "tokenizer.json",
            fix="--ids-only writes the file for programs that hand llama.cpp token ids, as Vernacular's back-end does",
        )
    notes.append(f"tokenizer: {agreement.sentence}")
    if len(stated_end_ids(weights)) > _MOST_END_IDS:
        notes.append(f"the file names {_MOST_END_IDS} of the {len(stated_end_ids(weights))} tokens that end an answer")
    with TensorFolder(tensor_files(weights)) as tensors, atomic_path(out) as temporary:
        dtype = dtype or most_common(tensors)
        if dtype not in TYPES:
            raise unknown_name("dtype", dtype, TYPES)
        entries = list(plan(configuration, tensors, TYPES[dtype][0]))
        writer = _writer(temporary, configuration)
        _add_settings(writer, configuration, TYPES[dtype][1])
        _add_tokenizer(writer, weights, tokenizer, vocabulary, agreement)
        write_tensors(writer, entries, tensors)
    return notes


def check_computed(configuration: DecoderConfiguration) -> list[str]:
    """Refuse what llama.cpp's code would compute differently; sentences about what differs by rounding or in length."""
    notes = []
    for key, known in layout()["families"][configuration.family]["computes"].items():
        value = getattr(configuration, key)
        if key == "window" and value is not None:
            # The same as long as no window is full.
            if value < configuration.max_positions:
                notes.append(
                    f"llama.cpp does not know this family's window of {value}; the file's context is cut to it, "
                    f"from {configuration.max_positions}"
                )
        elif value not in known:
            raise UserError(
                f"llama.cpp's code for {configuration.family} computes {key} {', '.join(map(str, known))}, not {value}",
                where=key,
                fix="export as transformers",
            )
        elif value == "gelu":
            notes.append("llama.cpp computes GELU by its tanh formula; logits differ in the third decimal")
    return notes


# ---------------------------------------------------------------------------------------------------------- within


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _writer(path: Path, configuration: DecoderConfiguration) -> Any:
    import gguf

    return gguf.GGUFWriter(path, layout()["families"][configuration.family]["architecture"])


def _add_settings(writer: Any, configuration: DecoderConfiguration, file_type: int) -> None:
    family = layout()["families"][configuration.family]
    window = configuration.window
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    writer.add_size_label(f"{configuration.num_parameters() / 1e9:.2f}B")
    writer.add_vocab_size(configuration.vocab_size)
    writer.add_context_length(min(configuration.max_positions, window or configuration.max_positions))
    writer.add_embedding_length(configuration.hidden_size)
    writer.add_block_count(configuration.num_layers)
    writer.add_feed_forward_length(configuration.intermediate_size)
    writer.add_head_count(configuration.num_heads)
    writer.add_head_count_kv(configuration.num_key_value_heads)
    writer.add_key_length(configuration.head_dim)
    writer.add_value_length(configuration.head_dim)
    writer.add_float32(f"{family['architecture']}.{family['norm_epsilon']}", configuration.norm_epsilon)
    if configuration.position == "rotary":
        writer.add_rope_dimension_count(configuration.head_dim)
        writer.add_rope_freq_base(configuration.rope_theta)
    if configuration.num_experts is not None:
        writer.add_expert_count(configuration.num_experts)
        writer.add_expert_used_count(configuration.experts_per_token)
    for ours, theirs in family.get("scales", {}).items():
        value = getattr(configuration, ours)
        if value is not None:
            writer.add_float32(f"{family['architecture']}.{theirs}", float(value))


def _agreement(tokenizer: Tokenizer, vocabulary: Vocabulary, configuration: DecoderConfiguration) -> Agreement:
    write = partial(_write_vocabulary, tokenizer, vocabulary, configuration)
    if vocabulary.model == "gpt2":
        return choose(tokenizer, vocabulary.contents, write)
    if has_llama_cpp():
        return measure(tokenizer, "default", write)
    return Agreement("default", 0, (), False)


def _write_vocabulary(
    tokenizer: Tokenizer, vocabulary: Vocabulary, configuration: DecoderConfiguration, path: Path, name: str
) -> None:
    """A file with the tokenizer alone."""
    writer = _writer(path, configuration)
    _add_settings(writer, configuration, 0)
    _add_vocabulary(writer, tokenizer, vocabulary, name)
    write_tensors(writer, [], None)


def _add_tokenizer(
    writer: Any, weights: Path, tokenizer: Tokenizer, vocabulary: Vocabulary, agreement: Agreement
) -> None:
    _add_vocabulary(writer, tokenizer, vocabulary, agreement.pre_tokenizer)
    writer.add_string("vernacular.tokenizer", agreement.sentence)
    also_ends = [token_id for token_id in stated_end_ids(weights) if token_id != tokenizer.named_id("eos_token")]
    for token_id, add in zip(also_ends, (writer.add_eot_token_id, writer.add_eom_token_id), strict=False):
        add(token_id)
    if (weights / TEMPLATE_FILE).is_file():
        template = ChatTemplate.load(weights)
        named = {"default": template.source, "tool_use": template.tool_use}
        writer.add_chat_template([{"name": name, "template": text} for name, text in named.items() if text is not None])


def _add_vocabulary(writer: Any, tokenizer: Tokenizer, vocabulary: Vocabulary, pre_tokenizer: str) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.model == "gpt2":
        writer.add_token_merges(list(vocabulary.merges))
    else:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.adds_blank)
    for name, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("pad_token", writer.add_pad_token_id),
        ("unk_token", writer.add_unk_token_id),
    ):
        token_id = tokenizer.named_id(name)
        if token_id is not None:
            add(token_id)
    writer.add_add_bos_token(tokenizer.begin_ids == (tokenizer.named_id("bos_token"),))
    writer.add_add_eos_token(False)
