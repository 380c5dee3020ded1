"""Agreement of two people, or of one with herself: Cohen's κ, the share of agreement beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """κ of pairs of grades (Cohen 1960): 1 for perfect agreement, 0 for that of chance; None where it is not defined.

    It is not without pairs, nor where both gave one and the same grade throughout.
    """
    if not pairs:
        return None
    total = len(pairs)
    agreed = sum(first == second for first, second in pairs) / total
    firsts, seconds = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    chance = sum(firsts[grade] * seconds[grade] for grade in firsts) / total**2
    return None if chance == 1 else (agreed - chance) / (1 - chance)
