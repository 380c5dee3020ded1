"""The report page of a curated corpus: one file of HTML beside report.json, the same bytes for the same artifact."""

from __future__ import annotations

from pathlib import Path

from vernacular.corpus.page import exhibits, figures
from vernacular.corpus.page.sheet import isolated, note, section, sheet, table
from vernacular.foundation.artifact import LOGS
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json, read_json_object, write_text

_NOT_READ = 20
TITLE = "A curated corpus"


def write_report_page(folder: Path, out: Path, *, samples: bool = True, title: str = TITLE) -> None:
    """Draw the page of the curated artifact in `folder` into the file `out`.

    Args:
        folder: what a stage that does `curate` has written.
        out: the page.
        samples: whether documents are shown, and the places of broken records; without, the page holds figures alone
            and none of the corpus's text.
        title: of the page.

    Raises:
        UserError: the folder holds no curated corpus, or one of a version without these figures.
    """
    if not (folder / "report.json").is_file():
        raise UserError(
            "this is no curated corpus: report.json is missing",
            where=folder,
            fix="give the folder of a stage that does `curate`, e.g. runs/demo/corpus",
        )
    report = read_json_object(folder / "report.json")
    for key in ("removed", "languages", "lengths", "mended"):
        if key not in report:
            raise UserError(
                f"the report has no '{key}'",
                where=folder / "report.json",
                fix="give the folder of a stage that does `curate`; one of an older version has to be made again",
            )
    languages = figures.languages_by_text(report)
    kept = {name: report["languages"][name]["kept"]["documents"] for name in languages}
    reasons = {name: each["documents"] for name, each in report["removed"]["reasons"].items()}
    sections = [
        ("Steps", figures.funnel_section(report)),
        ("Languages", figures.languages_section(report)),
        ("Sources", figures.sources_section(report)),
        ("Repairs", figures.mended_section(report)),
        ("Lengths", figures.lengths_section(report)),
        ("Quality", figures.quality_section(report)),
        ("Benchmarks", figures.benchmarks_section(report)),
        ("Planted noise", figures.labels_section(report)),
        ("Near-duplicates", exhibits.cluster_section(folder, samples)),
    ]
    if samples:
        sections += [
            ("Kept", exhibits.kept_section(folder, languages, kept)),
            ("Removed", exhibits.removed_section(folder, reasons)),
            ("Broken records", exhibits.broken_section(folder, report["quarantined"]["documents"])),
            ("Not read", _not_read_section(folder)),
        ]
    write_text(out, sheet(title, sections))


def _not_read_section(folder: Path) -> str:
    path = folder / LOGS / "not_read.json"
    entries = read_json(path) if path.is_file() else []
    if not entries:
        return ""
    rows = [(isolated(entry["file"]), isolated(entry["source"]), entry["why"]) for entry in entries[:_NOT_READ]]
    more = f"{len(rows)} of {len(entries):,} files; logs/not_read.json has all." if len(entries) > len(rows) else ""
    return section(
        "not-read",
        "Files not read",
        table(("file", "source", "why"), rows, name="files-not-read"),
        note(more) if more else "",
    )
