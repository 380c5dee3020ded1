"""What a stage needs: nothing, to go on, or to be done anew; and why."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vernacular.foundation.artifact import (
    UNFINISHED,
    Artifact,
    Input,
    check_sizes,
    is_finished,
    read_artifact,
)
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import files_under, read_json, sha256_file, sha256_json
from vernacular.lifecycle.stage import Stage
from vernacular.tokens.elsewhere import address_of
from vernacular.tokens.shard import INDEX

Action = Literal["keep", "begin", "continue"]
_SHOWN_CHANGES = 3


@dataclass(frozen=True)
class Decision:
    """What to do with a stage, and the reason for people to read."""

    action: Action
    reason: str


def digest_input(path: Path) -> str:
    """What an input is: an artifact's digest; else a hash of names, sizes and times of the files.

    Of token shards at an address, without an artifact's record, the index says it: it holds their checksums.
    """
    if path.is_dir() and is_finished(path):
        return read_artifact(path).digest
    if address_of(path) is not None:
        return sha256_file(path / INDEX)
    if not path.exists():
        raise UserError("file or folder not found", where=path, fix="check the path")
    root = path if path.is_dir() else path.parent
    files = files_under(path) if path.is_dir() else [path]
    return sha256_json([[str(f.relative_to(root)), (stat := f.stat()).st_size, stat.st_mtime_ns] for f in files])


def digest_outside(patterns: list[str]) -> dict[str, str]:
    """The digest of every local path or pattern read directly; addresses of other file systems count by name."""
    digests = {}
    for pattern in patterns:
        if "://" in pattern:
            digests[pattern] = sha256_json(pattern)
            continue
        paths = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
        if not paths:
            raise UserError("no file matches the pattern", where=pattern, fix="check the path")
        digests[pattern] = sha256_json([digest_input(Path(path)) for path in paths])
    return digests


def fingerprint(stage: Stage, inputs: Mapping[str, Input], outside: Mapping[str, str]) -> str:
    """Hash of what is asked for: verb and its version, decisive settings, inputs."""
    return sha256_json(
        {
            "do": stage.do,
            "version": stage.version,
            "settings": stage.decisive_settings(),
            "inputs": {key: value.digest for key, value in inputs.items()},
            "outside": dict(outside),
        }
    )


def decide(folder: Path, stage: Stage, wanted: str, inputs: Mapping[str, Input]) -> Decision:
    """Compare what lies in `folder` with what is wanted (a fingerprint)."""
    if is_finished(folder):
        artifact = read_artifact(folder)
        if artifact.fingerprint == wanted:
            check_sizes(folder, artifact)
            return Decision("keep", f"up to date ({artifact.seconds:.0f} s, {artifact.finished})")
        return Decision("begin", _what_changed(artifact, stage, inputs))
    marker = folder / UNFINISHED
    if marker.is_file():
        if not stage.continues:
            return Decision("begin", "was interrupted")
        if read_json(marker)["fingerprint"] == wanted:
            return Decision("continue", "was interrupted")
        return Decision("begin", "was interrupted, and its settings or inputs changed since")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(
            "the folder of this stage holds files that no stage wrote",
            where=folder,
            fix="move them away, or choose another place with --out",
        )
    return Decision("begin", "not made yet")


def _what_changed(artifact: Artifact, stage: Stage, inputs: Mapping[str, Input]) -> str:
    changes = [
        f"{key} changed"
        for key, value in inputs.items()
        if key in artifact.inputs and artifact.inputs[key].digest != value.digest
    ]
    changes += [f"{key} is new" for key in inputs if key not in artifact.inputs]
    changes += [f"{key} is gone" for key in artifact.inputs if key not in inputs]
    changes += list(_differences("", dict(artifact.configuration), stage.settings()))
    if not changes:
        changes = ["its source files or the program changed"]
    more = f" and {len(changes) - _SHOWN_CHANGES} more" if len(changes) > _SHOWN_CHANGES else ""
    return ", ".join(changes[:_SHOWN_CHANGES]) + more


def _differences(prefix: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [change for key in keys for change in _differences(f"{prefix}{key}.", old.get(key), new.get(key))]
    return [] if old == new else [f"{prefix.rstrip('.')}: {_short(old)} → {_short(new)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
