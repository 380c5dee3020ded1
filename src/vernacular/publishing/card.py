"""Weights and scores become a release: the weights, a model card written from the records, and the records."""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from vernacular import __version__
from vernacular.evaluation.scores import SCORES, differences, read_scores, rescore
from vernacular.foundation.artifact import learned_to_answer
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import files_under, read_json, sha256_file, write_json, write_text
from vernacular.publishing import plots
from vernacular.publishing.configuration import PublishConfiguration
from vernacular.publishing.facts import read_metrics
from vernacular.publishing.layout import CARD, FILES, NUMBERS, PLOTS, README, stage_file
from vernacular.publishing.ledger import as_json
from vernacular.publishing.records import copy_evaluation, copy_stages, copy_weights
from vernacular.publishing.rendering import render_card, template_hash

FORMAT = 1


def publish(
    configuration: PublishConfiguration,
    weights: Path,
    scores: Path,
    ancestry: list[tuple[str, Path]],
    folder: Path,
) -> dict[str, Any]:
    """Write a release.

    Args:
        configuration: the card's words.
        weights: weights folder to release.
        scores: evaluation of these very weights.
        ancestry: (stage name, folder) of every artifact the release descends from, oldest first.
        folder: receives the release.

    Returns:
        The summary: title, how many numbers the card has, and its plots.

    Raises:
        UserError: there are no scores, they belong to other weights, or their records do not bear them out.
    """
    evaluation = _check_scores(weights, scores)
    copy_weights(weights, folder)
    copy_evaluation(scores, folder)
    stages = copy_stages(ancestry, folder)
    records = [read_json(folder / stage_file(name)) for name in stages]
    languages = _languages(configuration, records, evaluation)
    names = {code: _language_name(code) for code in _all_languages(languages, records, evaluation)}
    uses_chat = _uses_chat(weights, records, evaluation)
    card = {
        "format": FORMAT,
        "version": __version__,
        "template_sha256": template_hash(),
        **_words(configuration),
        "languages": languages,
        "language_names": names,
        "example": configuration.example or _example(languages, uses_chat),
        "uses_chat": uses_chat,
        "stages": stages,
        "plots": _draw(folder, stages, evaluation, names),
    }
    write_json(folder / CARD, card)
    text, entries = render_card(folder)
    write_text(folder / README, text)
    write_json(folder / NUMBERS, as_json(entries))
    write_json(folder / FILES, {str(path.relative_to(folder)): sha256_file(path) for path in sealed_files(folder)})
    drawn = [plot["file"] for group in card["plots"].values() for plot in group]
    return {"title": configuration.title, "numbers": len(entries), "plots": drawn, "stages": stages}


def sealed_files(folder: Path) -> list[Path]:
    """The release's files whose checksums are kept; the card and its numbers are checked against the records."""
    own = {README, NUMBERS, FILES, "artifact.json", "unfinished.json"}
    return [path for path in files_under(folder) if str(path.relative_to(folder)) not in own]


def _check_scores(weights: Path, scores: Path) -> dict[str, Any]:
    from vernacular.models.weights import weights_hash

    if not (scores / SCORES).is_file():
        raise UserError("no scores, no card", where=scores, fix="evaluate the weights first: a stage with do: evaluate")
    evaluation = read_scores(scores)
    if not evaluation["scores"]:
        raise UserError("no scores, no card: the evaluation scored nothing", where=scores / SCORES, fix="give it tasks")
    found = weights_hash(weights)
    if evaluation["model"]["weights"] != found:
        raise UserError(
            f"the scores belong to other weights ({evaluation['model']['weights'][:12]}, these are {found[:12]})",
            where=scores / SCORES,
            fix="evaluate these weights",
        )
    if wrong := differences(evaluation["scores"], rescore(scores)):
        place, message = wrong[0]
        raise UserError(
            f"the scores are not what their records say: {message}",
            where=f"{scores / SCORES}#{place}",
            fix="evaluate again",
        )
    return evaluation


# ------------------------------------------------------------------------------------------------------ words


def _words(configuration: PublishConfiguration) -> dict[str, Any]:
    today = datetime.datetime.now(datetime.UTC).date()
    known = yaml.safe_load(_data("licences.yaml"))
    identifier = configuration.licence.strip().lower()
    return {
        "title": configuration.title,
        "licence": configuration.licence,
        "licence_id": identifier if identifier in known else "other",
        "licence_name": None if identifier in known else configuration.licence,
        "description": configuration.description,
        "intended_use": configuration.intended_use,
        "limitations": configuration.limitations,
        "authors": list(configuration.authors),
        "contact": configuration.contact,
        "repository": configuration.repository,
        "date": today.isoformat(),
        "year": str(today.year),
        "key": f"{_slug(configuration.title)}{today.year}",
    }


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "model"


def _languages(
    configuration: PublishConfiguration, stages: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]
) -> list[str]:
    """As configured; else those of the training data; else those of the scores."""
    found = list(configuration.languages or _data_languages(stages) or _score_languages(evaluation))
    if not found:
        raise UserError("no record names the model's languages", where="languages", fix="set languages: [hi, pl, …]")
    return found


def _data_languages(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Languages of the tokenized training split, most bytes first."""
    sizes: dict[str, int] = {}
    for stage in stages:
        if stage["do"] == "tokenize":
            for code, counts in stage["summary"]["splits"].get("train", {}).get("languages", {}).items():
                sizes[code] = sizes.get(code, 0) + counts["bytes"]
    return [code for code in sorted(sizes, key=lambda code: (-sizes[code], code)) if code != "und"]


def _score_languages(evaluation: Mapping[str, Any]) -> list[str]:
    return sorted({score["language"] for score in evaluation["scores"] if score["language"]} - {"und", "mul"})


def _all_languages(
    languages: Sequence[str], stages: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]
) -> list[str]:
    """Every code that the card may print."""
    found = {*languages, *_score_languages(evaluation), *_data_languages(stages), "und", "mul"}
    for stage in stages:
        found |= set(stage["summary"].get("languages") or {}) if stage["do"] == "train-tokenizer" else set()
        for split in (stage["summary"].get("splits") or {}).values():
            found |= set(split.get("languages") or {})
    return sorted(found)


def _language_name(code: str) -> str:
    """The language's English name, or its code where CLDR has none."""
    from babel import Locale

    return Locale("en").languages.get(code, code)


def _uses_chat(weights: Path, stages: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]) -> bool:
    """Whether the weights were fine-tuned on conversations; where no record tells, whether they were scored so."""
    answers = learned_to_answer(weights)
    return answers if answers is not None else bool(evaluation["template"]["applied"])


def _example(languages: Sequence[str], uses_chat: bool) -> str:
    examples = yaml.safe_load(_data("examples.yaml"))
    for code in languages:
        if code in examples:
            return str(examples[code]["chat" if uses_chat else "text"])
    raise UserError(
        f"no example is known for {', '.join(languages)}", where="example", fix="set example: a prompt in its language"
    )


def _data(name: str) -> str:
    return (files("vernacular.publishing") / "data" / name).read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------ plots


def _draw(
    folder: Path, stages: Sequence[str], evaluation: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, list[dict[str, str]]]:
    """Draw what there is to draw; file and description of each plot, by section."""
    drawn: dict[str, list[dict[str, str]]] = {"training": [], "scores": [], "heldout": []}
    for stage in stages:
        if lines := read_metrics(folder, stage):
            file = f"{PLOTS}/training-{stage}.png"
            plots.plot_training(lines, folder / file)
            text = f"Loss, perplexity and token accuracy of the stage {stage} over its steps"
            drawn["training"].append({"file": file, "text": text})
            record = read_json(folder / stage_file(stage))
            file = f"{PLOTS}/languages-{stage}.png"
            if plots.plot_languages(lines, folder / file, bound=plots.stop_bound(record["summary"])):
                text = f"Bits per byte of each language's held-out text over the steps of the stage {stage}"
                drawn["training"].append({"file": file, "text": text})
    shares = [score for score in evaluation["scores"] if score["is_share"]]
    if shares:
        plots.plot_scores(shares, names, folder / PLOTS / "scores.png")
        text = "Share of right answers of each task with its 95% interval, and chance"
        drawn["scores"].append({"file": f"{PLOTS}/scores.png", "text": text})
    heldout = [
        score for score in evaluation["scores"] if score["metric"] == "bits_per_byte" and score["task"] == "heldout"
    ]
    if heldout:
        plots.plot_heldout(heldout, names, folder / PLOTS / "bits-per-byte.png")
        text = "Bits per byte of held-out text by language, beside xz"
        drawn["heldout"].append({"file": f"{PLOTS}/bits-per-byte.png", "text": text})
    return drawn
