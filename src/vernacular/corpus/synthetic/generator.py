"""The synthetic corpus: clean documents among labelled noise, conversations, tasks and the demo's questions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import ftfy

from vernacular.corpus.synthetic import noise, tasks
from vernacular.corpus.synthetic.configuration import SyntheticConfiguration
from vernacular.corpus.synthetic.conversations import ConversationWriter
from vernacular.corpus.synthetic.documents import DocumentWriter
from vernacular.corpus.synthetic.held_out import HeldOut
from vernacular.corpus.synthetic.templates import templates

Record = dict[str, Any]


def generate(configuration: SyntheticConfiguration) -> SyntheticCorpus:
    """The corpus that `configuration` describes; nothing is written until it is asked for."""
    return SyntheticCorpus(configuration)


class SyntheticCorpus:
    """Equal configurations give equal records in equal order."""

    def __init__(self, configuration: SyntheticConfiguration) -> None:
        self.configuration = configuration

    @cached_property
    def _held_out(self) -> HeldOut:
        return HeldOut(self.configuration)

    def _random(self, purpose: str) -> Random:
        return Random(f"{self.configuration.seed}:{purpose}")

    def documents(self) -> Iterator[Record]:
        """Documents in random order, an original before its copies.

        Keys: `text`; `language` (ISO 639-1, what it is really written in); `label` (clean, repairable,
        broken_encoding, boilerplate, spam, near_duplicate, exact_duplicate, wrong_language); `group` (shared by an
        original and its copies, otherwise unique); `provenance`.
        """
        records = [record for language in self.configuration.languages for record in self._of_language(language)]
        random = self._random("order")
        place: dict[str, float] = {}
        for record in records:
            earliest = place.get(record["group"], 0.0)
            record["_place"] = random.uniform(earliest, 1.0)
            place.setdefault(record["group"], record["_place"])
        records.sort(key=lambda record: record["_place"])
        for record in records:
            del record["_place"]
            yield record

    def conversations(self) -> Iterator[Record]:
        """Conversations, the languages in turn, with the keys `id`, `language`, `messages` and, if set, `weight`."""
        languages, weights = self.configuration.languages, self.configuration.weights
        writers = [
            ConversationWriter(language, self._held_out, self._random(f"conversations:{language}"))
            for language in languages
        ]
        for number in range(self.configuration.conversations):
            turn, place = divmod(number, len(writers))
            writer = writers[place]
            record = {
                "id": f"synthetic-{writer.language}-{number:06d}",
                "language": writer.language,
                "messages": writer.write(),
            }
            yield record | ({"weight": weights[turn % len(weights)]} if weights else {})

    def write_tasks(self, folder: Path) -> list[str]:
        """Write every task's NAME.yaml and NAME.jsonl, and `questions.jsonl`, into `folder`; returns the names."""
        return tasks.write_tasks(folder, self.configuration, self._held_out)

    def questions(self) -> list[dict[str, str]]:
        """One held-out question per language: `language`, `question`, `answer`."""
        return tasks.demo_questions(self.configuration, self._held_out)

    def _of_language(self, language: str) -> list[Record]:
        """All documents made for one language; copies stand after their originals."""
        shares = self.configuration.noise
        total = self.configuration.documents // len(self.configuration.languages)
        counts = {name: round(total * getattr(shares, name)) for name in type(shares).model_fields}
        random = self._random(f"documents:{language}")
        clean = self._clean(language, total - sum(counts.values()) + counts["repairable"], random)
        self._garble(clean, counts["repairable"])
        records = clean + self._copies(clean, counts, random) + self._rubbish(language, counts, random)
        for number, record in enumerate(records):
            record.setdefault("group", f"{language}-{number:06d}")
        return records

    def _clean(self, language: str, count: int, random: Random) -> list[Record]:
        writer = DocumentWriter(language, self._held_out, random)
        seen: set[str] = set()
        records: list[Record] = []
        while len(records) < count:
            kind, text = writer.write()
            if text not in seen:
                seen.add(text)
                provenance = f"synthetic/{language}/{kind}:{len(records) + 1}"
                records.append({"text": text, "language": language, "label": "clean", "provenance": provenance})
        for number, record in enumerate(records):
            record["group"] = f"{language}-{number:06d}"
        return records

    def _garble(self, clean: list[Record], count: int) -> None:
        """Turn the first `count` documents that allow it into mojibake that can be repaired."""
        for record in clean:
            if not count:
                return
            damaged = noise.mojibake(record["text"])
            if damaged is not None:
                record["text"], record["label"] = damaged, "repairable"
                count -= 1

    def _copies(self, clean: list[Record], counts: dict[str, int], random: Random) -> list[Record]:
        """Copies of clean documents, never two of one document."""
        originals = [record for record in clean if record["label"] == "clean"]
        long_ones = [r for r in originals if len(r["text"].split(" ")) >= noise.MIN_WORDS_NEAR_DUPLICATE]
        copied = random.sample(long_ones, counts["near_duplicate"])
        taken = {record["group"] for record in copied}
        records = [self._copy(r, "near_duplicate", self._near_duplicate(r["text"], random)) for r in copied]
        rest = [record for record in originals if record["group"] not in taken]
        for record in random.sample(rest, counts["exact_duplicate"]):
            records.append(self._copy(record, "exact_duplicate", noise.exact_duplicate(record["text"], random)))
        return records

    def _near_duplicate(self, text: str, random: Random) -> str:
        """A shorter copy in which no missing word has made a held-out number or date."""
        while True:
            copy = noise.near_duplicate(text, random)
            if self._held_out.leaked(copy) is None:
                return copy

    def _copy(self, original: Record, label: str, text: str) -> Record:
        return {**original, "text": text, "label": label, "provenance": f"{original['provenance']}:{label}"}

    def _rubbish(self, language: str, counts: dict[str, int], random: Random) -> list[Record]:
        """Everything of no use: broken encoding, boilerplate, spam, and text in other languages."""
        words = templates(language)
        writer = DocumentWriter(language, self._held_out, random)
        made: list[tuple[str, str, str]] = []
        for _ in range(counts["broken_encoding"]):
            text = writer.write()[1]
            damaged = noise.break_encoding(text, random)
            while ftfy.fix_text(damaged) == text:
                damaged = noise.break_encoding(text, random)
            made.append(("broken_encoding", language, damaged))
        made += [("boilerplate", language, noise.boilerplate(words, random)) for _ in range(counts["boilerplate"])]
        made += [("spam", language, noise.spam(words, random)) for _ in range(counts["spam"])]
        made += [
            ("wrong_language", *noise.wrong_language(number, random)) for number in range(counts["wrong_language"])
        ]
        return [
            {
                "text": text,
                "language": spoken,
                "label": label,
                "provenance": f"synthetic/{language}/{label}:{number + 1}",
            }
            for number, (label, spoken, text) in enumerate(made)
        ]
