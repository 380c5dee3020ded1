"""Documents on the page: kept, removed for each reason, near-duplicates beside each other, and broken records."""

from __future__ import annotations

import difflib
import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import regex

from vernacular.corpus.page.names import language_name, reason_words
from vernacular.corpus.page.sheet import Markup, isolated, note, passage, section, table, text
from vernacular.corpus.page.specimens import EXCERPT, Cluster, clusters, kept_documents, removed_documents
from vernacular.foundation.artifact import LOGS

_LANGUAGES = 24
_BROKEN = 20
_ERROR = 240


def kept_section(folder: Path, languages: Sequence[str], counts: dict[str, int]) -> str:
    """Some documents of each language, the languages with most text first."""
    groups: list[str] = [
        _folded(language_name(language), counts[language], [_article(row) for row in rows], is_open=place < 1)
        for place, (language, rows) in enumerate(kept_documents(folder, languages[:_LANGUAGES]).items())
    ]
    return section("kept", "Documents kept", note(_DRAWN + _CUT) if groups else "", *groups)


def removed_section(folder: Path, counts: dict[str, int]) -> str:
    """Some documents that each reason removed, the commonest reason first."""
    found = removed_documents(folder)
    groups: list[str] = []
    for reason in sorted(found, key=lambda name: (-counts[name], name)):
        shown = _folded(reason, counts[reason], [_article(row, gone=True) for row in found[reason]], is_open=not groups)
        groups.append(shown.replace("</summary>", f" <small>{text(reason_words(reason))}</small></summary>", 1))
    return section("removed", "Documents removed", note(_DRAWN + _CUT) if groups else "", *groups)


def cluster_section(folder: Path, with_samples: bool) -> str:
    """How large clusters of near-duplicates are, and some of them with what differs marked."""
    sizes, shown = clusters(folder)
    if not sizes:
        return ""
    rows = [(Markup(f"{size:,}"), number, number * (size - 1)) for size, number in sorted(sizes.items())]
    if len(rows) > _BROKEN:
        rest = rows[_BROKEN:]
        more = Markup(f"more, up to {max(sizes):,}")
        rows = [*rows[:_BROKEN], (more, sum(row[1] for row in rest), sum(row[2] for row in rest))]
    head = ("documents in a cluster", "clusters", "documents removed")
    parts = [table(head, rows, name="clusters")]
    if with_samples:
        words = (
            "Of each cluster the document that stays, and some that went; words that the two do not share are marked. "
        )
        parts += [note(words + "The largest clusters first, then a draw."), *map(_cluster, shown)]
    return section("near-duplicates", "Near-duplicates", *parts)


def broken_section(folder: Path, number: int) -> str:
    """Broken records by what is wrong, and where some of them stood."""
    path = folder / LOGS / "quarantine.jsonl"
    if not number or not path.is_file():
        return ""
    problems: Counter[str] = Counter()
    drawn: list[tuple[bytes, str]] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            problems[_kind_of(json.loads(line)["error"])] += 1
            # The least hashes are a fair draw. heapq keeps the greatest out: so of each the complement.
            key = bytes(255 - byte for byte in hashlib.sha256(line.encode("utf-8", "surrogatepass")).digest())
            (heapq.heappush if len(drawn) < _BROKEN else heapq.heappushpop)(drawn, (key, line))
    entries = [json.loads(line) for _, line in drawn]
    entries.sort(key=lambda entry: (entry["file"], entry["line"] or 0, entry["error"]))
    kinds = [(isolated(kind), count) for kind, count in sorted(problems.items(), key=lambda item: (-item[1], item[0]))]
    places = [
        (isolated(_placed(entry)), Markup(f"<bdi class='long'>{text(entry['error'][:_ERROR])}</bdi>"))
        for entry in entries
    ]
    more = f"{len(entries)} of {number:,} records; logs/quarantine.jsonl has all."
    return section(
        "broken",
        "Broken records",
        table(("what is wrong", "records"), kinds[:_BROKEN], name="problems"),
        note(more),
        table(("place", "error"), places, name="quarantined"),
    )


_DRAWN = "Drawn by their ids, which are hashes of the texts: the same documents each time, and none picked by hand. "
_CUT = f"Texts are cut after {EXCERPT} characters; personal data is masked here even where the corpus keeps it."


def _kind_of(error: str) -> str:
    """What is wrong without the figures that differ from record to record."""
    return regex.sub(r"\d+", "…", error.split("\n")[0])[:_ERROR]


def _placed(entry: dict[str, Any]) -> str:
    return entry["file"] if entry["line"] is None else f"{entry['file']}:{entry['line']}"


def _folded(name: str, number: int, articles: Sequence[str], is_open: bool) -> str:
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{text(name)} · {number:,}</summary>\n" + "\n".join(articles) + "\n</details>"


def _article(row: dict[str, Any], *, gone: bool = False) -> str:
    return (
        f"<article class='{'gone' if gone else 'kept'}'>{_facts(row)}{passage(row['text'], row['language'])}</article>"
    )


def _facts(row: dict[str, Any], *more: str) -> str:
    facts = [
        *more,
        row.get("detail", ""),
        language_name(row["language"]),
        row["script"],
        f"{row['length']:,} characters",
        "" if row["quality"] is None else f"quality {row['quality']:.3f}",
        row["source"],
        row["provenance"],
    ]
    return f"<div class='facts'>{' · '.join(isolated(fact).html for fact in facts if fact)}</div>"


def _cluster(cluster: Cluster) -> str:
    kept = cluster.kept
    parts = [_facts(kept, f"cluster of {cluster.size:,}: this one stays"), passage(kept["text"], kept["language"])]
    for member in cluster.members:
        facts = {**member, "detail": ""}
        parts += [_facts(facts, f"similarity {member['similarity']:.3f}"), _compared(kept, member)]
    return f"<article>{''.join(parts)}</article>"


def _compared(kept: dict[str, Any], member: dict[str, Any]) -> str:
    """A text with the words marked that the kept one does not have in that place."""
    ours, theirs = (regex.findall(r"\s+|[\p{L}\p{M}\p{N}]+|\X", row["text"]) for row in (kept, member))
    pieces = []
    for what, _, _, begin, end in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        shown = text("".join(theirs[begin:end]))
        pieces.append(shown if what == "equal" or not shown.strip() else f"<mark>{shown}</mark>")
    return passage(Markup("".join(pieces)), member["language"])
