"""What can be measured of a decoder while it trains; handed in, since training knows no evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vernacular.models.decoder import Decoder


class Probe(Protocol):
    """A measurement taken at intervals: a benchmark, a loss on the text of a language.

    It is called with the decoder in evaluation mode and without gradients, and must leave the weights, the training
    mode and torch's global random state as they were: a run with a probe ends in the same bits as one without.
    """

    @property
    def name(self) -> str:
        """Stands before its values in the metrics: `name/key`."""
        ...

    @property
    def every(self) -> int:
        """Steps between measurements; one is always taken after the last step."""
        ...

    def measure(self, decoder: Decoder, step: int) -> Mapping[str, float]:
        """The values, by key, after so many steps."""
        ...
