"""Loss on held-out text: of each language and source, and of all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vernacular.tokens.packing import Rows
from vernacular.training.objectives.objective import Stratum

_KINDS = ("loss", "accuracy", "bits_per_byte")


@dataclass
class HeldoutSums:
    """Sums over held-out targets.

    Attributes:
        nats: `-log p(target)` times its weight.
        correct: weight of the targets that were the most probable token.
        weight: the weights.
        num_bytes: bytes of text that the targets stand for; 0 where that is not known.
    """

    nats: float = 0.0
    correct: float = 0.0
    weight: float = 0.0
    num_bytes: float = 0.0

    def add(self, other: HeldoutSums, times: float = 1.0) -> None:
        """Count others in, as if there were `times` as many of them."""
        self.nats += times * other.nats
        self.correct += times * other.correct
        self.weight += times * other.weight
        self.num_bytes += times * other.num_bytes


class Heldout:
    """The held-out rows that are scored, and what their scores say.

    Every stratum (a language of a source) gives as many rows as any other, at least one, evenly along its text; what
    they say is then counted by how much of the held-out text the stratum is. So a language of which little is held out
    is measured as closely as a large one, and the loss over all is that of all held-out text.

    Args:
        strata: the held-out text.
        most_rows: how many rows are scored, if there are not more strata than that.
    """

    def __init__(self, strata: Sequence[Stratum], most_rows: int) -> None:
        self.strata = tuple(strata)
        self._each = max(1, most_rows // len(self.strata)) if self.strata else 0

    def score(self, sums_of: Callable[[Rows, Sequence[int]], HeldoutSums]) -> dict[str, float | None]:
        """`heldout_loss`, `…_accuracy` and `…_bits_per_byte` over all, by language and by source.

        Args:
            sums_of: what the rows at some indices come to.
        """
        everything = HeldoutSums()
        languages: dict[str, HeldoutSums] = {}
        sources: dict[str, HeldoutSums] = {}
        for stratum in self.strata:
            rows = len(stratum.rows)
            wanted = min(rows, self._each)
            found = sums_of(stratum.rows, [place * rows // wanted for place in range(wanted)])
            parts = (
                everything,
                languages.setdefault(stratum.language, HeldoutSums()),
                sources.setdefault(stratum.source, HeldoutSums()),
            )
            for part in parts:
                part.add(found, times=rows / wanted)
        line = _line("", everything)
        if len(languages) > 1:
            line |= _lines("/", languages)
        if len(sources) > 1:
            line |= _lines("/source/", sources)
        return line

    @property
    def metrics(self) -> list[str]:
        """The names that `score` may give; none where nothing is held out."""
        if not self.strata:
            return []
        languages = {f"/{stratum.language}" for stratum in self.strata}
        sources = {f"/source/{stratum.source}" for stratum in self.strata}
        return [f"heldout_{kind}{of}" for kind in _KINDS for of in ("", *languages, *sources)]


def _lines(before: str, parts: Mapping[str, HeldoutSums]) -> dict[str, float | None]:
    return {key: value for name, sums in parts.items() for key, value in _line(f"{before}{name}", sums).items()}


def _line(of: str, sums: HeldoutSums) -> dict[str, float | None]:
    if sums.weight == 0:
        return {}
    line: dict[str, float | None] = {
        f"heldout_loss{of}": sums.nats / sums.weight,
        f"heldout_accuracy{of}": sums.correct / sums.weight,
    }
    if sums.num_bytes:
        line[f"heldout_bits_per_byte{of}"] = sums.nats / math.log(2) / sums.num_bytes
    return line
