"""The file of labels: SQLite with the documents to grade and every verdict, committed as it is given."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vernacular.corpus.quality.configuration import GRADES
from vernacular.corpus.quality.labelling.agreement import cohens_kappa
from vernacular.foundation.errors import UserError, machine_errors

_FORMAT = 1
_FIRST, _SECOND = 1, 2
# After so many new documents one comes back that was graded before, and nothing says so.
_BLIND_EVERY = 8
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS documents (
    id TEXT PRIMARY KEY, text TEXT NOT NULL, language TEXT NOT NULL, place REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY, document TEXT NOT NULL REFERENCES documents (id), annotator TEXT NOT NULL,
    pass INTEGER NOT NULL, grade TEXT, seconds REAL NOT NULL, given REAL NOT NULL,
    UNIQUE (document, annotator, pass)) STRICT;
"""


@dataclass(frozen=True)
class Task:
    """A document to grade. What others gave it, or whether it was shown before, is not part of it."""

    document: str
    text: str
    language: str


@dataclass(frozen=True)
class Verdict:
    """A document and the grade that most verdicts on it give."""

    document: str
    text: str
    language: str
    grade: str


class LabelStore:
    """The documents and verdicts in one file.

    Args:
        path: made where there is none.

    Raises:
        UserError: the file is something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with machine_errors("opening the labels", path):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(f"this is no file of labels: {error}", where=path, fix="name another file") from error
        if self.fact("format") not in (None, str(_FORMAT)):
            raise UserError("the labels are of another version", where=path)
        self._note("format", str(_FORMAT))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def fact(self, key: str) -> str | None:
        """What was noted under a key."""
        row = self._database.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _note(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def belongs_to(self, corpus: str) -> None:
        """Note the digest of the corpus that is labelled.

        Raises:
            UserError: the labels are of another one.
        """
        noted = self.fact("corpus")
        if noted not in (None, corpus):
            raise UserError(
                "these labels are of another corpus", where=self._path, fix="name another file with -o, or that corpus"
            )
        self._note("corpus", corpus)

    def offer(self, tasks: Iterable[tuple[Task, float]]) -> None:
        """Set which documents wait, by ascending place; those that have a verdict stay."""
        with self._lock, self._database:
            self._database.execute("BEGIN")
            self._database.execute("DELETE FROM documents WHERE id NOT IN (SELECT document FROM verdicts)")
            rows = [(task.document, task.text, task.language, place) for task, place in tasks]
            self._database.executemany("INSERT OR IGNORE INTO documents VALUES (?, ?, ?, ?)", rows)

    def next_task(self, annotator: str) -> Task | None:
        """What the annotator is to grade next, or None when all is done."""
        with self._lock:
            again = self._due_again(annotator)
            if again is not None:
                return again
            # What somebody else has graded comes first, every other time, so that agreement can be measured.
            row = self._database.execute(
                """
                SELECT id, text, language FROM documents AS d
                WHERE NOT EXISTS (SELECT 1 FROM verdicts WHERE document = d.id AND annotator = ?1)
                ORDER BY (?2 AND EXISTS (SELECT 1 FROM verdicts WHERE document = d.id)) DESC, place LIMIT 1
                """,
                (annotator, self._count(annotator, _FIRST) % 2),
            ).fetchone()
            return Task(*row) if row else None

    def _due_again(self, annotator: str) -> Task | None:
        if self._count(annotator, _FIRST) < _BLIND_EVERY * (self._count(annotator, _SECOND) + 1):
            return None
        row = self._database.execute(
            """
            SELECT d.id, d.text, d.language FROM verdicts AS v JOIN documents AS d ON d.id = v.document
            WHERE v.annotator = ?1 AND v.pass = 1 AND v.grade IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM verdicts WHERE document = d.id AND annotator = ?1 AND pass = 2)
            ORDER BY v.number LIMIT 1
            """,
            (annotator,),
        ).fetchone()
        return Task(*row) if row else None

    def _count(self, annotator: str, number: int) -> int:
        query = "SELECT COUNT(*) FROM verdicts WHERE annotator = ? AND pass = ?"
        return int(self._database.execute(query, (annotator, number)).fetchone()[0])

    def give(self, annotator: str, document: str, grade: str | None, seconds: float) -> None:
        """Enter a verdict; None skips the document.

        Raises:
            UserError: the document is not one of these, was graded twice, or the grade is none.
        """
        if grade is not None and grade not in GRADES:
            raise UserError(f"'{grade}' is no grade", fix=f"give one of {', '.join(GRADES)}")
        with self._lock:
            known = self._database.execute("SELECT 1 FROM documents WHERE id = ?", (document,)).fetchone()
            mine = "SELECT COUNT(*) FROM verdicts WHERE document = ? AND annotator = ?"
            before = self._database.execute(mine, (document, annotator)).fetchone()[0]
            if not known or before >= _SECOND:
                raise UserError(f"the document '{document}' is not waiting for a verdict of {annotator}")
            self._database.execute(
                "INSERT INTO verdicts (document, annotator, pass, grade, seconds, given) VALUES (?, ?, ?, ?, ?, ?)",
                (document, annotator, before + 1, grade, seconds, time.time()),
            )

    def undo(self, annotator: str) -> Task | None:
        """Take the annotator's last verdict back; the document it was on."""
        with self._lock:
            last = self._database.execute(
                """
                SELECT v.number, d.id, d.text, d.language FROM verdicts AS v JOIN documents AS d ON d.id = v.document
                WHERE v.annotator = ? ORDER BY v.number DESC LIMIT 1
                """,
                (annotator,),
            ).fetchone()
            if last is None:
                return None
            self._database.execute("DELETE FROM verdicts WHERE number = ?", (last[0],))
            return Task(*last[1:])

    def verdicts(self) -> list[Verdict]:
        """Every graded document with the grade that most give it; a tie decides nothing and is left out."""
        votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for document, grade in self._database.execute(
            "SELECT document, grade FROM verdicts WHERE grade IS NOT NULL ORDER BY number"
        ):
            votes[document][grade] += 1
        found = []
        for document, text, language in self._database.execute("SELECT id, text, language FROM documents ORDER BY id"):
            ranked = votes[document].most_common(2)
            if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
                found.append(Verdict(document, text, language, ranked[0][0]))
        return found

    def progress(self, annotator: str) -> dict[str, Any]:
        """Counts for the page: graded by the annotator, still waiting, and agreement."""
        with self._lock:
            rows = self._database.execute("SELECT document, annotator, pass, grade FROM verdicts").fetchall()
            total = self._database.execute("SELECT COUNT(*) FROM documents").fetchone()[0]
        graded = {(document, who, number): grade for document, who, number, grade in rows if grade is not None}
        people = sorted({who for _, who, _, _ in rows})
        others = [who for who in people if who != annotator]
        mine = {
            document: grade for (document, who, number), grade in graded.items() if who == annotator and number == 1
        }
        done = sum(who == annotator and number == _FIRST for _, who, number, _ in rows)
        again = [
            (grade, graded[document, annotator, 2])
            for document, grade in mine.items()
            if (document, annotator, 2) in graded
        ]
        return {
            "done": done,
            "total": total,
            "grades": dict(Counter(mine.values())),
            "with_herself": _agreement(again),
            "with_others": {
                who: _agreement(
                    [
                        (grade, graded[document, who, 1])
                        for document, grade in mine.items()
                        if (document, who, 1) in graded
                    ]
                )
                for who in others
            },
        }


def _agreement(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "documents": len(pairs),
        "same": sum(first == second for first, second in pairs),
        "kappa": cohens_kappa(pairs),
    }
