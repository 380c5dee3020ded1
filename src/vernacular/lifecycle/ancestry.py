"""Where an artifact comes from, drawn as a tree."""

from __future__ import annotations

from pathlib import Path

from vernacular.foundation.artifact import Artifact, is_finished, read_artifact

_SHOWN_RESULTS = 6


def draw(folder: Path) -> str:
    """The artifact and everything it descends from, a line each, newest first."""
    lines: list[str] = []
    _draw(folder, read_artifact(folder), "", "", lines)
    return "\n".join(lines)


def _draw(folder: Path, artifact: Artifact, first: str, rest: str, lines: list[str]) -> None:
    lines.append(f"{first}{artifact.stage}  [{artifact.do}]  {artifact.digest[:12]}  {artifact.seconds:.0f} s")
    results = {key: value for key, value in artifact.summary.items() if isinstance(value, int | float | str)}
    for key, value in list(results.items())[:_SHOWN_RESULTS]:
        lines.append(f"{rest}{'│' if artifact.inputs else ' '}    {key}: {_shown(value)}")
    inputs = list(artifact.inputs.items())
    for position, (key, source) in enumerate(inputs):
        is_last = position == len(inputs) - 1
        branch, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        parent = folder.parent / source.name
        if not is_finished(parent):
            lines.append(f"{rest}{branch}{key}: {source.name}  {source.digest[:12]}")
            continue
        found = read_artifact(parent)
        drift = "" if found.digest == source.digest else f"  (changed since: was {source.digest[:12]})"
        mark = len(lines)
        _draw(parent, found, f"{rest}{branch}{key}: ", f"{rest}{below}", lines)
        lines[mark] += drift


def _shown(value: float | str) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
