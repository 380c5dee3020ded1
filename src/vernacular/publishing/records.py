"""What a release carries as proof: its ancestors' records and reports, and the evaluation's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vernacular.evaluation.records import RECORDS as EVALUATION_RECORDS
from vernacular.evaluation.scores import SCORES
from vernacular.foundation.artifact import LOGS, Artifact, read_artifact
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import atomic_path, files_under, read_json, write_json
from vernacular.publishing.layout import EVALUATION, metrics_file, report_file, stage_file

_CURATION_REPORT = "report.json"
_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def copy_weights(weights: Path, release: Path) -> list[str]:
    """Put the weights folder's files into the release; tensors by a second name for the same bytes where possible."""
    names = [path.name for pattern in _WEIGHTS for path in sorted(weights.glob(pattern))]
    if not any(name.endswith(".safetensors") for name in names):
        raise UserError("the folder holds no weights (no .safetensors file)", where=weights, fix="check the path")
    for name in names:
        with atomic_path(release / name) as temporary:
            if name.endswith(".safetensors"):
                _link_or_copy(weights / name, temporary)
            else:
                shutil.copyfile(weights / name, temporary)
    return names


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink()
    try:
        os.link(source, target)
    except OSError:  # Another disk, or a file system without links; a full disk shows when copying.
        shutil.copyfile(source, target)


def copy_evaluation(scores: Path, release: Path) -> None:
    """Copy the evaluation's record."""
    for path in [scores / SCORES, *files_under(scores / EVALUATION_RECORDS)]:
        with atomic_path(release / EVALUATION / path.relative_to(scores)) as temporary:
            shutil.copyfile(path, temporary)


def copy_stages(ancestry: Sequence[tuple[str, Path]], release: Path) -> list[str]:
    """Write each ancestor's record, and its metrics or report, without this machine's folders; the names, in order."""
    names: list[str] = []
    for name, folder in ancestry:
        artifact = read_artifact(folder)
        if name in names:
            raise UserError(f"two ancestors are called '{name}'", where=folder, fix="rename one of the stages")
        names.append(name)
        write_json(release / stage_file(name), _without_folders(_record(name, artifact)))
        if artifact.do == "curate":
            write_json(release / report_file(name), _without_folders(read_json(folder / _CURATION_REPORT)))
        metrics = folder / LOGS / "metrics.jsonl"
        if metrics.is_file():
            with atomic_path(release / metrics_file(name)) as temporary:
                shutil.copyfile(metrics, temporary)
    return names


def _record(name: str, artifact: Artifact) -> dict[str, Any]:
    record = asdict(artifact)
    del record["outputs"]
    return {**record, "stage": name}


def _without_folders(value: Any) -> Any:
    """JSON with every absolute path cut to its last part: whose folder it was is nobody's business."""
    if isinstance(value, Mapping):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    if isinstance(value, str) and value.startswith(("/", "~/")) and "\n" not in value:
        return Path(value).name
    return value
