"""Near-duplicates end to end, from JSON Lines to the documents that stay; the peer is datatrove.

Both with shingles of 5 words and 14 bands of 8 MinHash values. A ninth of the texts have a near-duplicate planted
beside them, with a known Jaccard similarity of at least 0.8; found are those of which one document of the pair went.
Which of them are found is also a matter of luck: each turn has permutations of its own, and the turns are added up.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from claim import Claim
from corpus_rows.documents import drawn, lines_of, passages
from worker import Worker

NAME = "deduplication"
LANGUAGES = ("hi", "en", "de", "pl", "ta", "fr", "bn", "es", "mr", "te", "it", "nl", "pt", "ru", "kn", "gu", "ml", "pa")
DOCUMENTS, TIMES, ONE_IN, TURNS = 2700, 10, 9, 5
SHINGLE = 5


def measure(ours: str, peer: str) -> Iterator[Claim]:
    """Documents per core-second and recall on planted pairs, of two corpora.

    Args:
        ours: the interpreter of this project's environment.
        peer: one whose environment has datatrove.
    """
    generator = random.Random(0)
    yield from _measured("passages of", passages(LANGUAGES, DOCUMENTS), generator, ours, peer)
    # Of the former ours takes a tenth of a second, much of it for memory that lay idle while the peer worked.
    by_language = [lines_of(language) for language in LANGUAGES]
    many = [drawn(by_language, generator) for _ in range(TIMES * DOCUMENTS)]
    yield from _measured("lines drawn from", many, generator, ours, peer)


def _measured(made_of: str, texts: list[str], generator: random.Random, ours: str, peer: str) -> Iterator[Claim]:
    """Of texts, a ninth of which get a copy."""
    planted = len(texts) // ONE_IN
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pairs = _write(folder / "in" / "documents.jsonl", texts, planted, generator)
        with (
            Worker(ours, "our_deduplication_worker.py") as our_worker,
            Worker(peer, "datatrove_deduplication_worker.py") as their_worker,
        ):
            answers: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
            for turn in range(TURNS + 1):
                for name, worker in (("ours", our_worker), ("peer", their_worker)):
                    place = folder / f"{name}-{turn}"
                    answers[name].append(
                        worker.ask({"documents": str(folder / "in"), "folder": str(place), "seed": turn})
                    )
                    shutil.rmtree(place)
            # The first turn imports and compiles.
            answers = {name: several[1:] for name, several in answers.items()}
    count = len(texts) + planted
    rates = {
        name: count / statistics.median(answer["core_seconds"] for answer in several)
        for name, several in answers.items()
    }
    recalls = {
        name: statistics.mean(_recall(answer["kept"], pairs) for answer in several) for name, several in answers.items()
    }
    what = f"{count:,} documents of about 3 kB, {made_of} texts in {len(LANGUAGES)} languages"
    yield Claim(
        f"near-duplicates, documents per core-second, {what}", rates["ours"], rates["peer"], "at least 30 times"
    )
    yield Claim(
        f"recall on {planted:,} planted pairs, {TURNS} seeds", recalls["ours"], recalls["peer"], "at least the peer's"
    )
    lost = {name: len(texts) - len({*several[-1]["kept"]} | _members(pairs)) for name, several in answers.items()}
    alone = len(texts) - planted
    kept = {name: 1 - (number + planted) / alone for name, number in lost.items()}
    yield Claim(f"share kept of {alone:,} documents without a copy", kept["ours"], kept["peer"], "at least the peer's")


def _write(path: Path, texts: list[str], planted: int, generator: random.Random) -> list[tuple[str, str]]:
    """The documents and copies of the first, shuffled, as JSON Lines; returns the ids of the planted pairs."""
    records = [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    pairs = [(f"d{number}", f"c{number}") for number in range(planted)]
    records += [{"id": f"c{number}", "text": _copy(texts[number], generator)} for number in range(planted)]
    generator.shuffle(records)
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return pairs


def _copy(text: str, generator: random.Random) -> str:
    """The text with words changed until its similarity is between 0.8 and 0.95."""
    words = text.split(" ")
    goal = generator.uniform(0.82, 0.95)
    changed = words.copy()
    for place in generator.sample(range(len(words)), len(words)):
        if _similarity(words, changed) <= goal:
            break
        undone, changed[place] = changed[place], "zzz"
        if _similarity(words, changed) < 0.8:
            changed[place] = undone
            break
    return " ".join(changed)


def _similarity(first: list[str], second: list[str]) -> float:
    one, other = (
        {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)} for words in (first, second)
    )
    return len(one & other) / len(one | other)


def _members(pairs: list[tuple[str, str]]) -> set[str]:
    return {member for pair in pairs for member in pair}


def _recall(kept: list[str], pairs: list[tuple[str, str]]) -> float:
    stay = set(kept)
    return sum(not {*pair} <= stay for pair in pairs) / len(pairs)
