"""The artifact: a folder whose `artifact.json` is written last.

It records the stage, its resolved configuration, the digests of its inputs, the checksums of its outputs, versions,
hardware and times. A folder without one is unfinished, and is resumed or redone.

Two hashes tell two things apart. The *fingerprint* says what was asked for (configuration and inputs), so that a
changed wish is noticed before any work is done. The *digest* says what came out (the outputs' checksums), so that
work which turns out the same does not set off the stages after it. Files below `logs/` (metrics, timings) and
`report.html` are checksummed too but do not count towards the digest: the logs differ between two runs that did the
same, and the page shows what the other files hold, logs among them, so that a page drawn better sets off nothing.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vernacular.foundation.errors import UserError, no_folder
from vernacular.foundation.files import files_under, read_json, sha256_file, sha256_json, write_json
from vernacular.foundation.machine import describe_machine, package_versions
from vernacular.foundation.progress import progress

RECORD = "artifact.json"
UNFINISHED = "unfinished.json"
LOGS = "logs"
PAGE = "report.html"
CHECKPOINTS = "checkpoints"
_FORMAT = 1
_BYTES_WITHOUT_BAR = 1 << 30


@dataclass(frozen=True)
class Input:
    """An artifact that was read: where it lay (as the recipe named it) and the digest it had."""

    name: str
    digest: str


@dataclass(frozen=True)
class Output:
    """A file that was written: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """What `artifact.json` holds.

    Attributes:
        stage: the stage's name in its recipe.
        do: the verb that made it (`curate`, `pretrain`, …).
        fingerprint: hash of what was asked for.
        configuration: the stage's resolved configuration.
        inputs: by the configuration's key, what was read.
        outputs: by path relative to the folder, what was written.
        summary: the stage's own results, for people and for the stages after it.
        digest: hash of what came out.
    """

    stage: str
    do: str
    fingerprint: str
    configuration: Mapping[str, Any]
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    summary: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    started: str
    finished: str
    seconds: float
    digest: str
    format: int = field(default=_FORMAT)


def digest_outputs(outputs: Mapping[str, Output]) -> str:
    """Hash of the outputs that count: all but those below `logs/`, and the page that shows them."""
    counted = {path: out.sha256 for path, out in outputs.items() if path != PAGE and not path.startswith(f"{LOGS}/")}
    return sha256_json(counted)


def collect_outputs(folder: Path) -> dict[str, Output]:
    """Size and checksum of every file of a stage's folder, its record and its checkpoints left out."""
    paths = [
        path
        for path in files_under(folder)
        if path.name not in (RECORD, UNFINISHED) and path.relative_to(folder).parts[0] != CHECKPOINTS
    ]
    total = sum(path.stat().st_size for path in paths)
    shown = progress(paths, doing=f"checksums of {folder.name}") if total > _BYTES_WITHOUT_BAR else paths
    return {str(path.relative_to(folder)): Output(path.stat().st_size, sha256_file(path)) for path in shown}


def write_artifact(
    folder: Path,
    *,
    stage: str,
    do: str,
    fingerprint: str,
    configuration: Mapping[str, Any],
    inputs: Mapping[str, Input],
    summary: Mapping[str, Any],
    started: datetime.datetime,
    seconds: float,
) -> Artifact:
    """Checksum everything in `folder` and write its record: the last act of a stage."""
    outputs = collect_outputs(folder)
    artifact = Artifact(
        stage=stage,
        do=do,
        fingerprint=fingerprint,
        configuration=configuration,
        inputs=inputs,
        outputs=outputs,
        summary=summary,
        versions=package_versions(),
        machine=describe_machine(),
        started=started.isoformat(timespec="seconds"),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        digest=digest_outputs(outputs),
    )
    write_json(folder / RECORD, asdict(artifact))
    (folder / UNFINISHED).unlink(missing_ok=True)
    return artifact


def is_finished(folder: str | Path) -> bool:
    """Whether `folder` holds a finished artifact."""
    return (Path(folder) / RECORD).is_file()


def read_artifact(folder: str | Path) -> Artifact:
    """Read a folder's record. A folder without one is refused: it is unfinished, or no artifact."""
    folder = Path(folder)
    if not folder.is_dir():
        raise no_folder("the artifact does not exist", folder)
    if not is_finished(folder):
        begun = (folder / UNFINISHED).is_file()
        raise UserError(
            "the artifact is not finished" if begun else f"the folder is no artifact: it has no {RECORD}",
            where=folder,
            fix="run the recipe that makes it: vernacular run RECIPE" if begun else "name the folder of a stage",
        )
    record = read_json(folder / RECORD)
    try:
        if record["format"] != _FORMAT:
            raise UserError(
                f"{RECORD} has format {record['format']}; this version reads {_FORMAT}",
                where=folder / RECORD,
                fix="remove the folder and run the recipe again",
            )
        record["inputs"] = {key: Input(**value) for key, value in record["inputs"].items()}
        record["outputs"] = {key: Output(**value) for key, value in record["outputs"].items()}
        return Artifact(**record)
    except (KeyError, TypeError) as error:
        raise UserError(f"not an artifact's record: {error}", where=folder / RECORD) from error


def learned_to_answer(folder: Path) -> bool | None:
    """Whether the stage that made these weights taught them to answer; None where that cannot be told."""
    artifact = read_artifact(folder) if is_finished(folder) else None
    if artifact is None or artifact.do == "change-tokenizer":
        return None
    return artifact.summary["learned_to_answer"] if artifact.do == "merge" else artifact.do != "pretrain"


def check_sizes(folder: Path, artifact: Artifact) -> None:
    """Refuse an artifact one of whose files is missing or has another size than recorded. Cheap: reads no content."""
    for path, output in artifact.outputs.items():
        found = os.path.getsize(folder / path) if (folder / path).is_file() else None
        if found != output.bytes:
            state = "is missing" if found is None else f"has {found} bytes"
            raise UserError(
                f"{path} {state}; {output.bytes} bytes with SHA-256 {output.sha256} were recorded",
                where=folder / path,
                fix=f"remove {folder} and run the recipe again",
            )


def check_outputs(folder: Path, artifact: Artifact) -> None:
    """Refuse an artifact one of whose files is missing, truncated or altered; names file and both checksums."""
    check_sizes(folder, artifact)
    for path, output in artifact.outputs.items():
        found = sha256_file(folder / path)
        if found != output.sha256:
            raise UserError(
                f"{path} was altered: its SHA-256 is {found}, recorded was {output.sha256}",
                where=folder / path,
                fix=f"remove {folder} and run the recipe again",
            )
