"""Curation: from a recipe's sources to clean, deduplicated documents, with an account of every one.

read → normalise → identify → measure → judge      sorted runs, task by task (assessment.py)
  → items of benchmarks, where wished          (decontamination/)
→ repeated lines, where wished                 (repetition.py)
→ equal documents → near-duplicates            range by range of ids (distinct.py, deduplication.py)
→ held-out split → write, in order of ids      (this file, output.py)
→ report.json, which must balance              (report.py)
→ report.html, the same to look at             (page/)

A killed run goes on: what is finished is entered in a ledger below `checkpoints`, which is removed at the end.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vernacular.corpus.assessment import assess_sources
from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.decontamination.benchmark import Benchmark
from vernacular.corpus.decontamination.contamination import CONTAMINATION, write_contamination
from vernacular.corpus.decontamination.findings import Findings
from vernacular.corpus.decontamination.search import prepare_search
from vernacular.corpus.deduplication import Removals, find_distinct, near_duplicates
from vernacular.corpus.distinct import Distinct
from vernacular.corpus.filters import check_names
from vernacular.corpus.heldout import choose_heldout
from vernacular.corpus.languages import canonical_language
from vernacular.corpus.memory import give_back_memory, keep_memory
from vernacular.corpus.observations import Observations
from vernacular.corpus.output import Verdicts, write_documents, write_quarantine
from vernacular.corpus.page.report_page import write_report_page
from vernacular.corpus.repetition import drop_repeated
from vernacular.corpus.report import HELDOUT, Account, funnel
from vernacular.corpus.runs import Part, Runs
from vernacular.corpus.sources import Found, find_files
from vernacular.foundation.artifact import CHECKPOINTS, LOGS, PAGE
from vernacular.foundation.errors import UserError, machine_errors
from vernacular.foundation.files import atomic_path, sha256_json, write_json
from vernacular.foundation.ledger import Ledger

if TYPE_CHECKING:
    from vernacular.corpus.synthetic.asking import Outcome

# Raised when the same settings and files come to give other runs.
_LEDGER_VERSION = 4
# A part of the rows is held, sorted and copied: so many times its size at most.
_COPIES_OF_A_PART = 128


def curate(configuration: CurateConfiguration, folder: Path, benchmarks: Sequence[Benchmark] = ()) -> dict[str, Any]:
    """Curate a corpus into `folder`.

    Writes documents/train, documents/heldout and removed (Parquet), report.json and report.html, logs/ (where every
    record stood, the broken ones, the files not read), and conversations.jsonl and tasks/ where a source provides
    them. Prints the funnel. A run that was killed goes on from `folder`/checkpoints.

    Args:
        configuration: the settings.
        folder: receives the corpus.
        benchmarks: what `decontamination` searches for (`vernacular.evaluation.items.read_benchmarks`).

    Returns:
        A summary: documents and bytes in and kept, reasons, languages, labels' figures.

    Raises:
        UserError: a source cannot be read, nothing is left, or a language of the recipe is not in the text.
        MachineError: the disk is full, or a package is missing.
    """
    keep_memory()
    check_names(configuration.filters)
    _check_benchmarks(configuration, benchmarks)
    found = find_files(configuration.sources)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("documents", "removed", "tasks", LOGS):
        shutil.rmtree(folder / name, ignore_errors=True)
    asked = _ask_endpoints(configuration)
    ledger = Ledger.open(folder / CHECKPOINTS, _key(configuration, found, benchmarks, asked))
    account, observations = Account(), Observations(configuration.quality)
    findings: Findings | None = None
    try:
        with machine_errors("curating documents", folder):
            if configuration.decontamination is not None:
                findings = Findings(benchmarks, prepare_search(benchmarks, configuration, ledger))
            _curate(configuration, found, ledger, folder, account, observations, findings)
    except UserError:
        # What has to be changed changes the work.
        ledger.discard()
        raise
    provided = _write_synthetic_parts(configuration, folder)
    report = {**account.report(), **observations.report(), **provided}
    if findings is not None:
        report["benchmarks"] = findings.report()
        write_contamination(folder / CONTAMINATION, findings.tasks())
    if asked:
        report["endpoints"] = {name: outcome.figures() for name, outcome in asked.items()}
    write_json(folder / "report.json", report)
    write_json(folder / LOGS / "not_read.json", found.not_read)
    write_report_page(folder, folder / PAGE)
    ledger.discard()
    print(funnel(report, found.not_read))
    print(f"to look at: {folder / PAGE}")
    return _summary(report)


def _check_benchmarks(configuration: CurateConfiguration, benchmarks: Sequence[Benchmark]) -> None:
    if (configuration.decontamination is None) != (not benchmarks):
        raise UserError(
            "the settings of decontamination and the benchmarks to search for come together or not at all",
            where="decontamination",
            fix="give curate() what vernacular.evaluation.items.read_benchmarks makes of the settings",
        )


def _ask_endpoints(configuration: CurateConfiguration) -> dict[str, Outcome]:
    """Have the servers of the sources write what their caches lack."""
    sources = [source for source in configuration.sources if source.endpoint is not None]
    if not sources:
        return {}
    from vernacular.corpus.synthetic.asking import ask

    return {source.name: ask(source.name, source.endpoint) for source in sources if source.endpoint is not None}


def _key(
    configuration: CurateConfiguration, found: Found, benchmarks: Sequence[Benchmark], asked: Mapping[str, Outcome]
) -> dict[str, Any]:
    """What the work in progress depends on."""
    settings = configuration.model_dump(mode="json", exclude={"engine"})
    files = [[file.source.name, file.shown, file.size] for file in found.files]
    items = [[benchmark.name, [[*item.question, item.answer] for item in benchmark.items]] for benchmark in benchmarks]
    return {
        "version": _LEDGER_VERSION,
        "settings": sha256_json(settings),
        "files": sha256_json(files),
        "benchmarks": sha256_json(items),
        "answers": {name: outcome.digest for name, outcome in asked.items()},
    }


def _curate(
    configuration: CurateConfiguration,
    found: Found,
    ledger: Ledger,
    folder: Path,
    account: Account,
    observations: Observations,
    findings: Findings | None,
) -> None:
    engine, near = configuration.engine, configuration.near_duplicates
    wanted = frozenset(canonical_language(code) for code in configuration.languages or ())
    paths, tally = assess_sources(found.files, configuration, wanted, ledger)
    write_quarantine(ledger.part("broken"), folder, account)
    give_back_memory()
    runs = Runs(paths)
    if not runs.num_rows:
        broken = account.quarantined
        raise _empty(f"removed: broken record: {broken:,}" if broken else "the sources hold no documents", account)
    parts = runs.parts(engine.memory_bytes // _COPIES_OF_A_PART)
    if configuration.exact_duplicates.unit != "document":
        runs = Runs(drop_repeated(runs, parts, configuration, ledger))
    distinct = find_distinct(runs, parts, near, ledger.part("bands"), engine)
    removals = near_duplicates(runs, parts, distinct, near, ledger, engine) if near.enabled else Removals.together([])
    give_back_memory()
    verdicts = _decide(distinct, removals, configuration)
    _check_result(runs, parts, distinct, verdicts, wanted, account)
    write_documents(runs, parts, distinct, verdicts, folder, account, observations, findings)
    account.check(tally)


def _decide(distinct: Distinct, removals: Removals, configuration: CurateConfiguration) -> Verdicts:
    """What becomes of each distinct document."""
    kept = np.ones(len(distinct), dtype=bool)
    kept[removals.removed] = False
    held = np.zeros(len(distinct), dtype=bool)
    held[kept] = choose_heldout(distinct.ids[kept], distinct.languages[kept], configuration.heldout, configuration.seed)
    return Verdicts(kept, held, removals)


def _check_result(
    runs: Runs, parts: list[Part], distinct: Distinct, verdicts: Verdicts, wanted: frozenset[str], account: Account
) -> None:
    """Refuse an empty corpus and a language that is not there, saying what became of the text."""
    counts = np.bincount(distinct.languages[verdicts.kept], minlength=len(distinct.names))
    kept = {name for name, count in zip(distinct.names, counts.tolist(), strict=True) if count}
    missing = sorted(wanted - kept)
    if kept and not missing:
        return
    languages: Counter[str] = Counter()
    reasons: Counter[str] = Counter({"broken record": account.quarantined})
    lost: Counter[str] = Counter()
    for part in parts:
        grouped = runs.read(part, ["id", "language", "reason"]).group_by(["language", "reason"])
        for row in grouped.aggregate([([], "count_all")]).to_pylist():
            languages[row["language"]] += row["count_all"]
            if row["reason"]:
                reasons[row["reason"]] += row["count_all"]
                if row["language"] in missing:
                    lost[f"{row['reason']} ({row['language']})"] += row["count_all"]
    if missing and any(languages.values()):
        removed = f"; removed: {_listed(lost)}" if lost else ""
        raise UserError(
            f"no document in {', '.join(missing)} is left; the text has {_listed(languages)}{removed}",
            where="languages",
            fix=f"add text in {', '.join(missing)}, or take it off `languages`",
        )
    raise _empty(f"removed: {_listed(reasons)}", account)


def _empty(why: str, account: Account) -> UserError:
    """The error names the first broken record itself: what is refused leaves no quarantine to look into."""
    first = "" if account.first_broken is None else f"; the first broken record is {account.first_broken}"
    return UserError(
        f"the corpus is empty: {why}{first}",
        where="sources",
        fix="look at the reasons; `filters.disable` switches a rule off",
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.most_common() if count) or "nothing"


def _write_synthetic_parts(configuration: CurateConfiguration, folder: Path) -> dict[str, Any]:
    """Conversations and tasks of the sources that provide them, and how many there are."""
    sources = [source for source in configuration.sources if source.synthetic is not None]
    if not sources:
        return {}
    from vernacular.corpus.synthetic.generator import generate

    count = 0
    tasks: list[str] = []
    with atomic_path(folder / "conversations.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        for source in sources:
            assert source.synthetic is not None
            corpus = generate(source.synthetic)
            for conversation in corpus.conversations():
                file.write(json.dumps(conversation, ensure_ascii=False) + "\n")
                count += 1
            tasks += corpus.write_tasks(folder / "tasks")
    return {"conversations": count, "tasks": tasks}


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    kept = report["kept"]
    summary = {
        "documents_in": report["in"]["documents"],
        "bytes_in": report["in"]["bytes"],
        "documents": kept["documents"],
        "bytes": kept["bytes_after_normalisation"],
        "heldout_documents": kept[HELDOUT]["documents"],
        "removed": {reason: figures["documents"] for reason, figures in report["removed"]["reasons"].items()},
        "quarantined": report["quarantined"]["documents"],
        "languages": {
            name: figures["kept"]["documents"]
            for name, figures in report["languages"].items()
            if figures["kept"]["documents"]
        },
    }
    if "benchmarks" in report:
        summary["contaminated"] = {name: own["contaminated"] for name, own in report["benchmarks"].items()}
    if "labels" in report:
        summary["labels"] = {key: report["labels"][key] for key in ("noise_removed", "clean_kept", "precision")}
    return {**summary, **{key: report[key] for key in ("conversations", "tasks") if key in report}}
