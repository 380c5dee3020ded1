"""Everything a card can say, read from a release's own files: the same for making the card and for verifying it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vernacular.evaluation.scores import is_hardly_read
from vernacular.foundation.files import read_json
from vernacular.models.family import from_published
from vernacular.publishing.layout import (
    CARD,
    CONFIG,
    EVALUATION,
    SCORES,
    metrics_file,
    report_file,
    stage_file,
)
from vernacular.publishing.ledger import Sourced, plain


def read_facts(release: Path) -> dict[str, Any]:
    """The names a card's template can use."""
    card = _sourced(release, CARD)
    config = _sourced(release, CONFIG)
    decoder = from_published(read_json(release / CONFIG), release / CONFIG)
    scores = _sourced(release, f"{EVALUATION}/{SCORES}")
    stages = [_sourced(release, stage_file(name)) for name in plain(card.stages)]
    training = [stage for stage in stages if "final_loss" in stage.summary]
    curations = [plain(stage.stage) for stage in stages if stage.do == "curate"]
    return {
        "card": card,
        "config": config,
        "model": Sourced(decoder.model_dump(), f"{CONFIG} (as our configuration)"),
        "dtype": config.dtype if "dtype" in config else config.torch_dtype,
        "parameters": Sourced(decoder.num_parameters(), f"{CONFIG} (parameters, counted)"),
        "embedding_parameters": Sourced(decoder.embedding_parameters(), f"{CONFIG} (parameters, counted)"),
        "scores": scores,
        "task_scores": [score for score in scores.scores if score.task != "heldout"],
        "hardly_read": hardly_read(scores),
        "cut": [(task, scores.tasks[task]) for task in scores.tasks if plain(scores.tasks[task]).get("cut")],
        "heldout": heldout_by_language(scores),
        "stages": stages,
        "training": training,
        "merges": [stage for stage in stages if stage.do == "merge"],
        "tokenizers": [stage for stage in stages if stage.do == "train-tokenizer"],
        "token_stages": [stage for stage in stages if stage.do == "tokenize"],
        "curation": [(stage, _sourced(release, report_file(stage))) for stage in curations],
        "plots": plain(card.plots),
        "uses_chat": plain(card.uses_chat),
    }


def hardly_read(scores: Sourced) -> list[Sourced]:
    """A score of each task and filter with so many unread answers that a reader must be warned."""
    found: dict[tuple[str, str], Sourced] = {}
    for score in scores.scores:
        if plain(score.subset) == "all" and is_hardly_read(plain(score)):
            found.setdefault((plain(score.task), plain(score.filter)), score)
    return list(found.values())


def heldout_by_language(scores: Sourced) -> list[dict[str, Sourced]]:
    """For each language its scores on held-out text: bits per byte and per grapheme."""
    found: dict[str, dict[str, Sourced]] = {}
    for score in scores.scores:
        if score.task == "heldout":
            found.setdefault(plain(score.language), {})[plain(score.metric)] = score
    return [found[language] for language in sorted(found)]


def read_metrics(release: Path, stage: str) -> list[Mapping[str, Any]]:
    """A training stage's lines of metrics; empty where it logged none."""
    path = release / metrics_file(stage)
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _sourced(release: Path, name: str) -> Sourced:
    return Sourced(read_json(release / name), name)
