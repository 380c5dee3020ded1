"""GPUs that a plan knows, from `hardware.yaml`; without torch, so that a plan needs no GPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import yaml

from vernacular.foundation.errors import unknown_name


@dataclass(frozen=True)
class Gpu:
    """What a data sheet says of a GPU.

    Attributes:
        name: as `vernacular plan --gpu` takes it.
        bfloat16: dense peak, operations a second.
        float8: the same; None where it has no such products.
        float32: the same, not on tensor cores.
        memory: bytes.
        bandwidth: of the memory, bytes a second.
        interconnect: within a node, both directions, bytes a second.
        node: GPUs that it joins.
        watts: most power.
    """

    name: str
    bfloat16: float
    float8: float | None
    float32: float
    memory: float
    bandwidth: float
    interconnect: float
    node: int
    watts: float

    def peak(self, precision: str) -> float:
        """Operations a second of the products of a recipe's `precision`."""
        return self.float32 if precision == "float32" else self.bfloat16


def find_gpu(name: str) -> Gpu:
    """The GPU of this name, in any case. Raises `UserError` with the known names."""
    table = yaml.safe_load((files("vernacular.training") / "hardware.yaml").read_text(encoding="utf-8"))
    known = {entry["plan"]: entry for entry in table.values() if "plan" in entry}
    if name.lower() not in known:
        raise unknown_name("GPU", name, known, where="--gpu")
    entry = {key: value for key, value in known[name.lower()].items() if key != "plan"}
    return Gpu(name=name.lower(), **{"float8": None, **entry})
