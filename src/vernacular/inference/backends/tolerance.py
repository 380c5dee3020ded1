"""How far two correct programs may be apart: log-probabilities of one model in two formats.

A product with weights comes out with a relative error: `noise`, root mean square, which follows from the format alone.
Rounding a float with p bits errs by up to 2^-p of it, 2^-p / √3 root mean square. Rounding to whole numbers errs by
step / √12, the step being largest / whole numbers; of n normal numbers the largest is about √(2 ln 2n) times their
size. Sums of K products in float32 add √K · 2^-24, and both programs' errors count.

A layer rounds about 16 times one after another (norm, projection, rotation, scores, softmax, mixture, projection, sum;
norm, projection, activation, product, projection, sum; what goes into a product is rounded as well), and two roundings
come at the end. Independent errors add up as squares, so that a score errs by noise · √(16 L + 2) of the scores' own
spread over the vocabulary, and a log-probability, which is one score against all others, by √2 times that: the standard
deviation. One of them bounds the mean difference (that of a normal error is 0.8); it is the sharper of the two tests.
Ten bound every single token: where large terms cancel, the same noise weighs several times as much as on the average.

Where one deviation is not small against the spread, the bounds would let another model pass: then nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from vernacular.models.configuration import DecoderConfiguration

STRICTEST = "float32"
_ROUNDINGS_PER_LAYER = 16
_ROUNDINGS_AT_THE_END = 2
_BOUND = 10.0
_LARGEST_SHARE = 0.25
"""Most of the spread that a deviation may be. Two unrelated models are √2 spreads apart."""
_BLOCK = 32
"""Numbers that share a step in q8_0."""
_GROUP = 32
"""Numbers that share a step in our int4, at least."""


class Tolerance(NamedTuple):
    """Bounds in nats.

    Attributes:
        one: of the difference at any one token.
        mean: of the mean absolute difference.
        derivation: where they come from, in a sentence.
        coarser: the format that errs more.
        decides: whether they are narrow enough to tell one model from another.
    """

    one: float
    mean: float
    derivation: str
    coarser: str
    decides: bool


def _float_noise(bits: int) -> float:
    return 2.0**-bits / math.sqrt(3)


def _whole_noise(numbers: int, largest: int) -> float:
    return math.sqrt(2 * math.log(2 * numbers)) / (largest * math.sqrt(12))


# Whole numbers are multiplied in bfloat16 by our engine; llama.cpp rounds what q8_0 is multiplied with to q8_0 as well,
# and keeps keys and values in float16 for all but float32.
_NOISE: dict[str, Callable[[int], float]] = {
    "float32": lambda width: _float_noise(24),
    "float16": lambda width: _float_noise(11),
    "bfloat16": lambda width: _float_noise(8),
    "int8": lambda width: math.hypot(_whole_noise(width, 127), _float_noise(8)),
    "int4": lambda width: math.hypot(_whole_noise(_GROUP, 7), _float_noise(8)),
    "q8_0": lambda width: math.hypot(_whole_noise(_BLOCK, 127), _whole_noise(_BLOCK, 127), _float_noise(11)),
}
FORMATS = tuple(_NOISE)


def tolerance(configuration: DecoderConfiguration, ours: str, theirs: str, spread: float) -> Tolerance:
    """How far log-probabilities may differ.

    Args:
        configuration: of the model.
        ours: the format of our weights.
        theirs: that of the back-end's. One that is not known is held to float32, so that nothing is called equal that
            is not; the derivation says so.
        spread: standard deviation of a position's scores over the vocabulary.
    """
    known = theirs if theirs in _NOISE else STRICTEST
    width = max(configuration.hidden_size, configuration.intermediate_size)
    own, other, sums = _NOISE[ours](width), _NOISE[known](width), math.sqrt(2 * width) * 2.0**-24
    noise = math.hypot(own, other, sums)
    steps = math.sqrt(_ROUNDINGS_PER_LAYER * configuration.num_layers + _ROUNDINGS_AT_THE_END)
    deviation = math.sqrt(2) * noise * steps * spread
    held = "" if theirs in _NOISE else f" (the back-end's format, '{theirs}', is held to {known})"
    sentence = (
        f"{ours} against {known}{held}: relative noise {noise:.1e} of a product, √{steps**2:.0f} roundings in "
        f"{configuration.num_layers} layers, scores spread by {spread:.2g}: standard deviation {deviation:.1e} nats; "
        f"one token may differ by {_BOUND:.0f} of them, the mean by one"
    )
    coarser = ours if own >= other else known
    return Tolerance(_BOUND * deviation, deviation, sentence, coarser, deviation <= _LARGEST_SHARE * spread)
