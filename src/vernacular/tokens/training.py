"""Train a tokenizer on a curated artifact: the same documents and settings give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import write_json
from vernacular.foundation.progress import progress
from vernacular.tokens.byte_pair_training import train_byte_pairs
from vernacular.tokens.character_training import train_character_pairs, train_character_unigram
from vernacular.tokens.configuration import NUM_BYTES, UNKNOWN_TOKEN, SampleConfiguration, TokenizerConfiguration
from vernacular.tokens.documents import count_documents, document_files, read_documents
from vernacular.tokens.measures import describe_fit, measure_fit
from vernacular.tokens.pre_tokenizer import split_pattern, word_cutter
from vernacular.tokens.sentencepiece import BPE, BYTE, CONTROL, NORMAL, UNIGRAM, UNKNOWN, convert
from vernacular.tokens.sentencepiece_writing import model_proto
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.tokenizer_files import CONFIG_FILE, TOKENIZER_FILE
from vernacular.tokens.unigram_training import train_unigram
from vernacular.tokens.word_counts import WordCounts

_OF_BYTES = {"bpe": train_byte_pairs, "unigram": train_unigram}
_OF_CHARACTERS = {"bpe": train_character_pairs, "unigram": train_character_unigram}
_MEASURED_BYTES = 4 << 20
"""Bytes of text of each language on which the trained tokenizer is measured."""


def train_tokenizer(configuration: TokenizerConfiguration, documents_folder: Path, folder: Path) -> dict[str, Any]:
    """Train on the split `train` of a curated artifact and write a tokenizer folder.

    Args:
        configuration: vocabulary size, digits, shares of the languages, …
        documents_folder: the curated artifact (it holds `documents/train/*.parquet`).
        folder: receives tokenizer.json, tokenizer_config.json, chat_template.jinja and report.json.

    Returns:
        The summary: vocabulary size, hashes, and the fit by language.

    Raises:
        UserError: there is no text, a language with a share is absent, or vocab_size is more than the text supports.
    """
    paths = document_files(documents_folder, "train")
    available = count_bytes(paths)
    wanted = share_bytes(configuration, available, documents_folder)
    words = WordCounts(word_cutter(configuration.digits, configuration.normalisation), configuration.max_words)
    for texts in sample_texts(paths, available, wanted):
        words.add(texts)
    engine = _trained(configuration, words, folder)
    _check_size(engine, configuration, documents_folder)
    _finish(engine)
    contents = {
        TOKENIZER_FILE: engine.to_str(pretty=True).encode("utf-8"),
        CONFIG_FILE: (json.dumps(_published_settings(configuration), ensure_ascii=False, indent=2) + "\n").encode(),
    }
    tokenizer, template = Tokenizer(contents, where=folder), ChatTemplate.default()
    tokenizer.save(folder)
    template.save(folder)
    report = {
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_hash": tokenizer.hash,
        "template_hash": template.hash,
        "sampled_bytes": dict(sorted(wanted.items())),
        "counts_short_by_at_most": words.shortfall,
        **_measure(tokenizer, documents_folder),
    }
    write_json(folder / "report.json", report)
    return report


def count_bytes(paths: list[Path]) -> dict[str, int]:
    """Bytes of text by language."""
    totals: dict[str, int] = {}
    with progress(doing="weighing languages", total=count_documents(paths), unit="documents") as bar:
        for batch in read_documents(paths, ("language", "text")):
            sizes = pyarrow.compute.binary_length(batch.column("text")).to_pylist()
            for language, size in zip(batch.column("language").to_pylist(), sizes, strict=True):
                totals[language] = totals.get(language, 0) + size
            bar.update(batch.num_rows)
    return totals


def share_bytes(configuration: SampleConfiguration, available: dict[str, int], where: Path) -> dict[str, int]:
    """Bytes to learn from by language: the sample, divided by the languages' shares."""
    total = sum(available.values())
    if not total:
        raise UserError("the documents hold no text", where=where, fix="check the sources and filters of the corpus")
    shares = configuration.language_shares
    if shares is None:
        shares = {name: size**configuration.language_exponent for name, size in available.items() if size}
    for language in shares:
        if not available.get(language):
            raise UserError(
                f"the language '{language}' is absent from the text",
                where="language_shares",
                fix=f"use languages that are there: {', '.join(sorted(available))}",
            )
    sample = min(configuration.sample_bytes or total, total)
    return {language: round(sample * share / sum(shares.values())) for language, share in shares.items()}


def sample_texts(paths: list[Path], available: dict[str, int], wanted: dict[str, int]) -> Iterator[list[str]]:
    """Texts in batches, each language thinned out or repeated evenly along the corpus until it has its bytes."""
    seen = dict.fromkeys(available, 0)
    given = dict.fromkeys(available, 0)
    with progress(doing="reading text", total=sum(wanted.values()), unit="B") as bar:
        for batch in read_documents(paths, ("language", "text")):
            texts: list[str] = []
            for language, text in zip(
                batch.column("language").to_pylist(), batch.column("text").to_pylist(), strict=True
            ):
                size = len(text.encode("utf-8"))
                seen[language] += size
                # Whole-number arithmetic: given/seen follows wanted/available, on every machine alike.
                while size and given[language] * available[language] < wanted.get(language, 0) * seen[language]:
                    texts.append(text)
                    given[language] += size
                    bar.update(size)
            yield texts


def _trained(configuration: TokenizerConfiguration, words: WordCounts, where: Path) -> Engine:
    """The engine, in the writing asked for."""
    algorithm = configuration.algorithm
    if configuration.writing == "byte-level":
        return _built(_OF_BYTES[algorithm](configuration, words), configuration)
    special = [
        (token, 0.0, UNKNOWN if token == UNKNOWN_TOKEN else CONTROL) for token in configuration.all_special_tokens
    ]
    in_bytes = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(NUM_BYTES)]
    learnt = [(text, score, NORMAL) for text, score in _OF_CHARACTERS[algorithm](configuration, words)]
    kind = BPE if algorithm == "bpe" else UNIGRAM
    return convert(model_proto(kind, [*special, *in_bytes, *learnt], _published_settings(configuration)), where)


def _built(model: Any, configuration: TokenizerConfiguration) -> Engine:
    """The trained model with the same cuts that its words were counted with."""
    engine = Engine(model)
    if configuration.normalisation == "nfc":
        engine.normalizer = normalizers.NFC()
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split_pattern(configuration.digits)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([_special(token) for token in configuration.all_special_tokens])
    return engine


def _special(token: str) -> AddedToken:
    return AddedToken(token, special=True, normalized=False)


def _check_size(engine: Engine, configuration: TokenizerConfiguration, where: Path) -> None:
    reached = engine.get_vocab_size()
    if reached < configuration.vocab_size:
        least = f"with min_frequency {configuration.min_frequency} " if configuration.algorithm == "bpe" else ""
        raise UserError(
            f"vocab_size {configuration.vocab_size} is larger than the text supports:"
            f" {least}it yields {reached} tokens",
            where=where,
            fix=f"set vocab_size to at most {reached}, or give it more text",
        )


def _finish(engine: Engine) -> None:
    """Plain `tokenizer(text)` in other libraries puts the begin token first, as training does."""
    begin = "<|begin|>"
    engine.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, engine.token_to_id(begin))]
    )


def _published_settings(configuration: TokenizerConfiguration) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        **({"unk_token": UNKNOWN_TOKEN} if configuration.writing == "sentencepiece" else {}),
        "model_max_length": configuration.max_positions,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }


def _measure(tokenizer: Tokenizer, curated: Path) -> dict[str, Any]:
    """The fit by language."""
    measured_on, batches = measured_texts(curated)
    return {"measured_on": measured_on, "languages": describe_fit(measure_fit(tokenizer, batches))}


def measured_texts(curated: Path) -> tuple[str, Iterator[tuple[list[str], list[str]]]]:
    """The split a tokenizer is measured on, held out where the corpus has one, and batches (languages, texts) of it."""
    heldout = sorted((Path(curated) / "documents" / "heldout").glob("*.parquet"))
    if heldout and count_documents(heldout):
        return "heldout", _first_bytes(heldout)
    return "train", _first_bytes(document_files(curated, "train"))


def _first_bytes(paths: list[Path]) -> Iterator[tuple[list[str], list[str]]]:
    """Batches (languages, texts) of documents, up to a few MB of each language."""
    taken: dict[str, int] = {}
    with progress(doing="measuring the fit", total=count_documents(paths), unit="documents") as bar:
        for batch in read_documents(paths, ("language", "text")):
            languages, texts = [], []
            for language, text in zip(
                batch.column("language").to_pylist(), batch.column("text").to_pylist(), strict=True
            ):
                if taken.get(language, 0) < _MEASURED_BYTES:
                    taken[language] = taken.get(language, 0) + len(text.encode("utf-8"))
                    languages.append(language)
                    texts.append(text)
            yield languages, texts
            bar.update(batch.num_rows)
