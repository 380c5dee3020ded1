"""Model FLOPs utilisation: useful arithmetic over what the machine could do, and where both figures come from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.resources import files

import torch
import yaml

from vernacular.models.configuration import DecoderConfiguration

_MEASURED_SIDE = 1024
_MEASURED_RUNS = 8


@dataclass(frozen=True)
class Peak:
    """Floating-point operations a second that the machine can do, and how that is known."""

    flops: float
    source: str


def training_flops_per_token(configuration: DecoderConfiguration, sequence_length: int) -> float:
    """Useful operations per trained token: forward, and backward at twice its cost (arXiv 2204.02311, app. B)."""
    return 3 * configuration.forward_flops_per_token(sequence_length)


def utilisation(tokens_per_second: float, flops_per_token: float, peak: Peak) -> float:
    """MFU between 0 and 1."""
    return tokens_per_second * flops_per_token / peak.flops


def explain(flops_per_token: float, peak: Peak) -> str:
    """The formula with its figures, for people."""
    return (
        f"MFU = tokens/s × {flops_per_token / 1e6:.1f} MFLOP/token (3 × forward; causal attention counted half)"
        f" ÷ {peak.flops / 1e9:.0f} GFLOP/s ({peak.source})"
    )


def find_peak(precision: str, device: torch.device) -> Peak:
    """The data sheet's figure for a known GPU; elsewhere the best of a few large matrix products, measured now."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        table = yaml.safe_load((files("vernacular.training") / "hardware.yaml").read_text(encoding="utf-8"))
        for known, peaks in table.items():
            if known in name:
                return Peak(peaks[precision], f"data sheet of {known}, {precision}")
    return Peak(_measure_product(precision, device), f"measured: {precision} product of {_MEASURED_SIDE}² matrices")


def _measure_product(precision: str, device: torch.device) -> float:
    side, dtype = _MEASURED_SIDE, getattr(torch, precision)
    left, right = torch.ones(side, side, dtype=dtype, device=device), torch.ones(side, side, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(_MEASURED_RUNS):
        start = time.perf_counter()
        product = left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        del product
    return 2 * side**3 / best
