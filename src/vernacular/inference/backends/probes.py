"""The texts on which a back-end is compared with our engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import regex
import yaml

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_text

_LEAST_TOKENS = 2
"""One to begin with, and one that has a log-probability."""
_CLUSTER = regex.compile(r"\X")


class Probe(NamedTuple):
    """A text, and what to call it.

    Attributes:
        is_ours: whether it may be cut for a model that cannot read all of it.
    """

    name: str
    text: str
    is_ours: bool = False


def own_probes() -> list[Probe]:
    """Sentences of many scripts."""
    text = (files("vernacular.inference.backends") / "probes.yaml").read_text(encoding="utf-8")
    return [Probe(**one, is_ours=True) for one in yaml.safe_load(text)]


def read_probes(path: Path) -> list[Probe]:
    """A text of each line that is not empty."""
    lines = read_text(path).splitlines()
    probes = [Probe(f"{path.name}:{number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not probes:
        raise UserError("the file holds no prompts", where=path, fix="write one on each line")
    return probes


def fitted(probe: Probe, encode: Callable[[str], Sequence[int]], room: int, num_tokens: int) -> Probe:
    """A probe of at most `room` tokens: of ours the beginning, cut between grapheme clusters; of others all of it.

    Args:
        probe: a text.
        encode: gives its tokens.
        room: most of them.
        num_tokens: of the answer, for the error's words.

    Raises:
        UserError: a text that is not ours is longer, or not even a cluster of ours fits.
    """
    count = len(encode(probe.text))
    if count <= room:
        return probe
    clusters: list[str] = _CLUSTER.findall(probe.text) if probe.is_ours else []
    for end in range(len(clusters) - 1, 0, -1):
        text = "".join(clusters[:end])
        if _LEAST_TOKENS <= len(encode(text)) <= room:
            return probe._replace(text=text)
    raise UserError(
        f"the text has {count} tokens; with an answer of {num_tokens} it may have {room}",
        where=probe.name,
        fix="ask for shorter answers with --max-new-tokens" + ("" if probe.is_ours else ", or shorten it"),
    )
