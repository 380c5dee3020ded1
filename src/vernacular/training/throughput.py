"""Model FLOPs utilisation: useful arithmetic over what the machine could do, and where both figures come from."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch
import yaml

from vernacular.foundation.machine import usable_cores
from vernacular.models.configuration import DecoderConfiguration
from vernacular.parallel.mesh import Mesh
from vernacular.parallel.processes import processes_here

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


def utilisation(tokens_per_second: float, flops_per_token: float, peak: Peak | None) -> float | None:
    """MFU between 0 and 1; None where the peak is not known."""
    return None if peak is None else tokens_per_second * flops_per_token / peak.flops


def explain(flops_per_token: float, peak: Peak | None) -> str:
    """The formula with its figures, for people."""
    if peak is None:
        return "no MFU: this device's peak is not in training/hardware.yaml"
    return (
        f"MFU = tokens/s × {flops_per_token / 1e6:.1f} MFLOP/token (3 × forward; causal attention counted half)"
        f" ÷ {peak.flops / 1e9:.0f} GFLOP/s ({peak.source})"
    )


def add_up(own: Peak | None, mesh: Mesh) -> Peak | None:
    """What the devices of all ranks can do together, of what each rank's own can; None where one is not known."""
    peaks = [flops for (flops,) in mesh.gather(own.flops if own else math.nan)]
    if own is None or any(math.isnan(flops) for flops in peaks):
        return None
    return own if len(peaks) == 1 else Peak(sum(peaks), f"{own.source}, {len(peaks)} ranks")


def find_peak(precision: str, device: torch.device, threads: int = 1) -> Peak | None:
    """The data sheet's figure of a known GPU, or a CPU's speed at large matrix products, measured now; else None.

    Args:
        precision: of the products.
        device: this rank's.
        threads: that it computes with on a CPU.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if " MIG " in name:
            return None  # a slice, called by the whole GPU's name
        table = yaml.safe_load((files("vernacular.training") / "hardware.yaml").read_text(encoding="utf-8"))
        for known, peaks in table.items():
            if known in name:
                return Peak(peaks[precision], f"data sheet of {known}, {precision}")
    if device.type == "cpu":
        cores = min(threads, usable_cores() / processes_here())
        source = f"measured: {precision} product of {_MEASURED_SIDE}² matrices on one thread × {cores:g} cores"
        return Peak(_measure_product(precision) * cores, source)
    return None


@cache
def _measure_product(precision: str) -> float:
    """Operations a second of one thread's own time: other programs do not lower it. Measured once."""
    side, threads = _MEASURED_SIDE, torch.get_num_threads()
    matrix = torch.ones(side, side, dtype=getattr(torch, precision))
    torch.set_num_threads(1)
    best = float("inf")
    for _ in range(_MEASURED_RUNS):
        start = time.thread_time()
        matrix @ matrix
        best = min(best, time.thread_time() - start)
    torch.set_num_threads(threads)
    return 2 * side**3 / best
