"""A weights folder that is made in a second: a tokenizer trained on a few sentences, a decoder of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SENTENCES = {
    "hi": (
        "गाँव के पास एक पुराना कुआँ है, जिसका पानी मीठा है।",
        "बच्चे स्कूल से लौटते समय आम के पेड़ के नीचे रुकते हैं।",
        "उसने क्षण भर सोचा और फिर चिट्ठी लिखने लगी।",
    ),
    "pl": (
        "Żółta łódka kołysze się przy brzegu jeziora.",
        "Wczoraj wieczorem słuchaliśmy, jak deszcz dudni o dach.",
        "Gdzie kupię świeży chleb i gęś na święta?",
    ),
    "en": (
        "The ferry leaves when the tide turns, not before.",
        "She mended the kite with paper and a little glue.",
    ),
    "ta": ("மழை பெய்தால் ஆறு நிரம்பும்; நாம் கரையில் நிற்போம்.",),
    "ar": ("في الصباح يفتح الخبّاز دكانه قبل أن تشرق الشمس.",),
}
VOCAB_SIZE = 420


def make_tokenizer(folder: Path, vocab_size: int = VOCAB_SIZE, **settings: Any) -> Path:
    """Train a tokenizer on `SENTENCES` into `folder`, with the default chat template."""
    import pyarrow
    import pyarrow.parquet

    from vernacular.tokens.configuration import TokenizerConfiguration
    from vernacular.tokens.training import train_tokenizer

    rows = [(language, text) for language, texts in SENTENCES.items() for text in texts]
    documents = folder.parent / f"{folder.name}-documents"
    for split in ("train", "heldout"):
        path = documents / "documents" / split / "00000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = {
            "id": [f"{number:032x}" for number in range(len(rows))],
            "text": [text for _, text in rows],
            "language": [language for language, _ in rows],
            "source": ["sentences" for _ in rows],
        }
        pyarrow.parquet.write_table(pyarrow.table(table), path)
    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer(
        TokenizerConfiguration(vocab_size=vocab_size, reserved_tokens=2, min_frequency=1, **settings), documents, folder
    )
    return folder


def make_weights(folder: Path, tokenizer: Path, *, seed: int = 0, max_positions: int = 128, **shape: object) -> Path:
    """Write random weights beside a copy of `tokenizer`'s files. `shape` overrides fields of the decoder.

    The weights are drawn wide, so that the best-scored token leads by a margin and differs from step to step.
    """
    from vernacular.models.configuration import DecoderConfiguration
    from vernacular.models.decoder import Decoder
    from vernacular.models.weights import copy_tokenizer, save_weights

    values = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 64,
        "max_positions": max_positions,
        "initializer_range": 0.3,
        **shape,
    }
    decoder = Decoder(DecoderConfiguration(**values))  # type: ignore[arg-type]
    decoder.initialise(seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder, decoder, token_ids={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    copy_tokenizer(tokenizer, folder)
    return folder
