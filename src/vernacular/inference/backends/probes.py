"""The texts on which a back-end is compared with our engine."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import yaml

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_text


class Probe(NamedTuple):
    """A text, and what to call it."""

    name: str
    text: str


def own_probes() -> list[Probe]:
    """Sentences of many scripts."""
    text = (files("vernacular.inference.backends") / "probes.yaml").read_text(encoding="utf-8")
    return [Probe(**one) for one in yaml.safe_load(text)]


def read_probes(path: Path) -> list[Probe]:
    """A text of each line that is not empty."""
    lines = read_text(path).splitlines()
    probes = [Probe(f"{path.name}:{number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not probes:
        raise UserError("the file holds no prompts", where=path, fix="write one on each line")
    return probes
