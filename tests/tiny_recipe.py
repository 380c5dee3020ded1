"""A recipe that runs from text to scores in seconds, on sentences made up from lists of words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

_PARTS = {
    "hi": (
        ("मेरी दादी", "गाँव का डाकिया", "छोटा लड़का", "हमारी पड़ोसन", "बूढ़ा माली", "नई अध्यापिका"),
        ("सुबह जल्दी", "हर शाम", "बारिश के बाद", "त्योहार के दिन", "बिना कुछ कहे", "धीरे धीरे"),
        ("बाज़ार से फल लाता है", "नदी के किनारे बैठता है", "चिट्ठियाँ पढ़कर सुनाता है", "बगीचे में पौधे लगाता है"),
    ),
    "pl": (
        ("Moja babcia", "Wiejski listonosz", "Mały chłopiec", "Nasza sąsiadka", "Stary ogrodnik", "Nowa nauczycielka"),
        ("wcześnie rano", "każdego wieczoru", "po deszczu", "w dzień święta", "bez słowa", "powoli"),
        ("przynosi owoce z targu", "siada nad brzegiem rzeki", "czyta na głos listy", "sadzi kwiaty w ogrodzie"),
    ),
    "en": (
        (
            "My grandmother",
            "The village postman",
            "A small boy",
            "Our neighbour",
            "The old gardener",
            "The new teacher",
        ),
        ("early in the morning", "every evening", "after the rain", "on the holiday", "without a word", "slowly"),
        ("brings fruit from the market", "sits down by the river", "reads letters aloud", "plants flowers outside"),
    ),
}
_END = {"hi": "।", "pl": ".", "en": "."}


def sentence(language: str, random_: random.Random) -> str:
    """A sentence of three parts, drawn."""
    return " ".join(random_.choice(part) for part in _PARTS[language]) + _END[language]


def write_texts(folder: Path, *, documents: int = 60, seed: int = 1) -> Path:
    """A folder with one JSON Lines file per language, a document of six different sentences a line."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    random_ = random.Random(seed)
    for language in _PARTS:
        with open(folder / f"{language}.jsonl", "w", encoding="utf-8") as file:
            for _ in range(documents):
                text = " ".join(sentence(language, random_) for _ in range(6))
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return folder


def write_conversations(path: Path, *, count: int = 40, seed: int = 2) -> Path:
    """A JSON Lines file of two-turn conversations."""
    import json

    random_ = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            language = random_.choice(list(_PARTS))
            messages = [
                {"role": "user", "content": _PARTS[language][0][number % 6]},
                {"role": "assistant", "content": sentence(language, random_)},
            ]
            file.write(json.dumps({"language": language, "messages": messages}, ensure_ascii=False) + "\n")
    return path


def write_recipe(path: Path, texts: Path, conversations: Path | None = None, **stages: Any) -> Path:
    """A recipe file; `stages` adds or replaces keys of stages: `base={"steps": 3}`."""
    training = {
        "sequence_length": 64,
        "batch_tokens": 256,
        "log_every": 1,
        "checkpoint_every": 4,
        "threads": 1,
        "optimiser": {"learning_rate": 0.01, "warmup_steps": 2},
    }
    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    recipe: dict[str, Any] = {
        "name": "tiny",
        "stages": {
            "corpus": {"do": "curate", "sources": [{"name": "texts", "path": str(texts)}], "languages": [*_PARTS]},
            "tokenizer": {"do": "train-tokenizer", "documents": "corpus", "vocab_size": 420, "reserved_tokens": 2},
            "tokens": {"do": "tokenize", "documents": "corpus", "tokenizer": "tokenizer"},
            "base": {"do": "pretrain", "tokens": "tokens", "model": shape, "steps": 12, **training},
        },
    }
    if conversations is not None:
        recipe["stages"]["instruct"] = {
            "do": "sft",
            "weights": "base",
            "conversations": str(conversations),
            "steps": 6,
            **training,
        }
    for name, changes in stages.items():
        recipe["stages"][name] = recipe["stages"].get(name, {}) | changes
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path
