"""Several evaluations side by side: one page of HTML that needs nothing else, with published scores beside them.

Everything that comes from a record is text of somebody's, and is escaped. The page has no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from vernacular.evaluation.causes import in_short
from vernacular.evaluation.plot import Bar, bars_svg
from vernacular.evaluation.published.scores import PublishedScore, published_scores
from vernacular.evaluation.scores import is_hardly_read, read_scores
from vernacular.evaluation.suites.report import suite_report
from vernacular.evaluation.suites.suite import Headline, Member, Suite, headlines, published_shares
from vernacular.foundation.errors import UserError


@dataclass(frozen=True)
class Entry:
    """An evaluation of the leaderboard: its name, its folder, and what its scores.json holds."""

    name: str
    folder: Path
    evaluation: Mapping[str, Any]


NOT_WHOLE = "which no headline counts"

Place = tuple[str, str, str]
"""Task (with the language of held-out text, or the items that it is over where not all), metric, filter."""


def leaderboard(folders: Sequence[Path], suite: Suite | None = None) -> str:
    """The page.

    Args:
        folders: evaluations.
        suite: whose headlines and published scores stand beside; None for none.

    Raises:
        UserError: a folder has no scores, or none was given.
    """
    if not folders:
        raise UserError("there is nothing to compare", where="RUNS", fix="give the folders of evaluations")
    entries = [Entry(name, folder, read_scores(folder)) for name, folder in zip(_names(folders), folders, strict=True)]
    body = [
        _models(entries),
        *([_suite(entries, suite)] if suite is not None else []),
        _scores(entries),
        _plot(entries),
        _warnings(entries),
    ]
    title = f"Leaderboard: {suite.name}" if suite is not None else "Leaderboard"
    style = (files("vernacular.evaluation") / "data" / "leaderboard.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}</style></head>\n'
        f"<body><main>\n<h1>{escape(title)}</h1>\n" + "\n".join(filter(None, body)) + "\n</main></body></html>\n"
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' last parts, with as many of those before as tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError("one folder stands twice", where="RUNS", fix="give each once")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table; the cells are HTML already."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f'<th scope="row">{cell}</th>' if not n else f"<td>{cell}</td>" for n, cell in enumerate(row))
        for row in rows
    )
    return (
        f"<section><h2>{escape(caption)}</h2><div class=wide><table><thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div></section>"
    )


def _models(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        model, template = entry.evaluation["model"], entry.evaluation["template"]
        limit = entry.evaluation["settings"]["limit"]
        rows.append(
            [
                escape(entry.name),
                f"<code>{escape(in_short(model['weights']))}</code>",
                f"<code>{escape(in_short(model['tokenizer']))}</code>",
                escape(f"{'applied' if template['applied'] else 'not applied'} ({template['reason']})"),
                escape(str(model["dtype"])),
                "all" if limit is None else f"first {int(limit):,} of each task",
            ]
        )
    return _table(["run", "weights", "tokenizer", "chat template", "precision", "items"], rows, "Runs")


# ------------------------------------------------------------------------------------------------------- scores


def _by_place(entry: Entry) -> dict[Place, Mapping[str, Any]]:
    return {(_task(score), score["metric"], score["filter"]): score for score in entry.evaluation["scores"]}


def _task(score: Mapping[str, Any]) -> str:
    if score["task"] == "heldout":
        return f"heldout {score['language']}"
    return str(score["task"]) + (f" ({score['subset']} items)" if score["subset"] != "all" else "")


def _scores(entries: Sequence[Entry]) -> str:
    scores = [_by_place(entry) for entry in entries]
    places = sorted({place for own in scores for place in own})
    rows = []
    for place in places:
        found = [own.get(place) for own in scores]
        known = [score for score in found if score is not None]
        best = _best(known)
        chance = next((score["chance"] for score in known if score["chance"] is not None), None)
        shots = sorted({score["num_fewshot"] for score in known if score["num_fewshot"] is not None})
        task, metric, name = place
        rows.append(
            [
                escape(task),
                escape(metric + (f" ({name})" if name != "none" else ""))
                + (" ↓" if not known[0]["higher_is_better"] else ""),
                ", ".join(map(str, shots)),
                "" if chance is None else f"{chance:.3f}",
                *[_score_cell(score, best) for score in found],
            ]
        )
    header = ["task", "metric", "shots", "chance", *[escape(entry.name) for entry in entries]]
    return _table(header, rows, "Scores")


def _best(scores: Sequence[Mapping[str, Any]]) -> float | None:
    """The best value; None where there is no other, or where they are not over as many items."""
    if len(scores) == 1 or len({score["n"] for score in scores}) > 1:
        return None
    return float((max if scores[0]["higher_is_better"] else min)(score["value"] for score in scores))


def _score_cell(score: Mapping[str, Any] | None, best: float | None) -> str:
    """Value, standard error, n; the share of unread answers where answers are read. The best are bold."""
    if score is None:
        return "–"
    value = f"{score['value']:.3f}"
    text = f"<b>{value}</b>" if score["value"] == best else value
    text += "" if score["stderr"] is None else f" <small>± {score['stderr']:.3f}</small>"
    text += f" <small>n={score['n']:,}</small>"
    if score["parse_failures"] is not None:
        share = score["parse_failures"] / score["n"]
        mark = " class=warn" if is_hardly_read(score) else ""
        text += f" <small{mark}>unread {share:.1%}</small>"
    return text


def _plot(entries: Sequence[Entry]) -> str:
    """Shares of right answers with their 95% intervals, and chance."""
    scores = [_by_place(entry) for entry in entries]
    places = sorted({place for own in scores for place, score in own.items() if score["is_share"]})
    groups = [
        (
            f"{place[0]}, {place[1]}" + (f" ({place[2]})" if place[2] != "none" else ""),
            next((own[place]["chance"] for own in scores if place in own), None),
            [
                Bar(number, own[place]["value"], own[place]["low"], own[place]["high"])
                for number, own in enumerate(scores)
                if place in own
            ],
        )
        for place in places
    ]
    if not groups:
        return ""
    svg = bars_svg(groups, [entry.name for entry in entries])
    return (
        f"<section><h2>Shares of right answers, 95% intervals; dashed: chance</h2><div class=wide>{svg}</div></section>"
    )


def _warnings(entries: Sequence[Entry]) -> str:
    lines = [
        f"<li>{escape(entry.name)}: {escape(text)}</li>" for entry in entries for text in entry.evaluation["warnings"]
    ]
    return f"<section class=warn><h2>Warnings</h2><ul>{''.join(lines)}</ul></section>" if lines else ""


# ------------------------------------------------------------------------------------------------------- suites


def _suite(entries: Sequence[Entry], suite: Suite) -> str:
    """The suite's benchmarks and headlines: ours, and what its card prints, in the card's unit."""
    reports = [suite_report(suite, entry.folder) for entry in entries]
    models = _models_on_card(suite)
    theirs = [published_shares(suite, model) for model in models]
    rows = []
    for member in suite.members:
        cells = [_our_share(report, member) for report in reports]
        cells += [_as_printed(shares.get(member.benchmark), member.scale) for shares in theirs]
        shots = "" if member.shots is None else str(member.shots)
        rows.append([escape(member.benchmark), escape(member.metric), shots, *cells])
    found = [[Headline(**one) for one in report["headlines"]] for report in reports]
    found += [headlines(suite, shares) for shares in theirs]
    for number, rule in enumerate(suite.headlines):
        rows.append([f"<b>{escape(rule.name)}</b>", escape(rule.rule), "", *[_headline(one[number]) for one in found]])
    header = ["benchmark", "metric", "shots", *[escape(entry.name) for entry in entries]]
    header += [f"{escape(model)} <small>published</small>" for model in models]
    computed = "<p>Headlines beside published numbers are computed from those numbers by the same rule.</p>"
    note = (computed if suite.headlines else "") + f"<p>{escape(suite.about)}</p>"
    notes = [note for entry, report in zip(entries, reports, strict=True) for note in _suite_notes(entry.name, report)]
    return _table(header, rows, f"Suite {suite.name}") + note + (f"<ul>{''.join(notes)}</ul>" if notes else "")


def _our_share(report: Mapping[str, Any], member: Member) -> str:
    """A share of ours; one that no headline counts has an asterisk."""
    mark = f'<small title="{NOT_WHOLE}">*</small>' if member.benchmark in report["incomplete"] else ""
    return _share(report["shares"].get(member.benchmark), member.scale) + mark


def _suite_notes(name: str, report: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of a run's numbers must know, as items of a list."""
    for benchmark, (ours, theirs) in report["shots"].items():
        text = f"{name}, {benchmark}: {ours} examples, the suite has {theirs}"
        yield f"<li class=warn>{escape(text)}</li>"
    for benchmark, why in report["incomplete"].items():
        if benchmark in report["shares"]:
            yield f"<li>{escape(f'{name}, {benchmark}*, {NOT_WHOLE}: {why}')}</li>"
    for text in report["notes"]:
        yield f"<li>{escape(f'{name}: {text}')}</li>"


def _models_on_card(suite: Suite) -> list[str]:
    """Models of the card with a number for any of the suite's benchmarks."""
    scores: tuple[PublishedScore, ...] = published_scores(suite.card) if suite.card else ()
    known = {member.benchmark for member in suite.members}
    return list(dict.fromkeys(score.model for score in scores if score.benchmark in known))


def _share(share: float | None, scale: float) -> str:
    return "–" if share is None else f"{share * scale:.2f}" if scale > 1 else f"{share:.3f}"


def _as_printed(share: float | None, scale: float) -> str:
    """A published number with the digits it was published with; a mean over languages to four."""
    return "–" if share is None else f"{round(share * scale, 4):g}"


def _headline(one: Headline) -> str:
    if one.value is not None:
        return f"<b>{one.value:.3f}</b>"
    return f'<small title="{escape(", ".join(one.missing))}">{len(one.missing)} missing</small>'
