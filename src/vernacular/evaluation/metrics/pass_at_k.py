"""pass@k without bias, for any k (Chen et al. 2021, equation 1)."""

from __future__ import annotations

from math import comb

from vernacular.foundation.errors import UserError


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Probability that of k programs drawn without replacement from `samples`, of which `right` pass, one passes.

    1 - C(n-c, k) / C(n, k), in whole numbers, so that it is exact. Fewer samples than k are refused: the estimate
    would be of another quantity.
    """
    if not 0 <= right <= samples or k < 1:
        raise UserError(f"{right} of {samples} samples cannot be right for pass@{k}", where=f"pass@{k}")
    if samples < k:
        raise UserError(
            f"pass@{k} needs at least {k} samples per item, there are {samples}",
            where=f"pass@{k}",
            fix=f"sample {k} or more answers to each item",
        )
    return 1 - comb(samples - right, k) / comb(samples, k)
